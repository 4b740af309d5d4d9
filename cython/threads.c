/* One job at a time lives in a static pool. Its units are cut into ranges, one for each thread: who
 * works on the same part of every layer finds it in its own cache. A thread that is done with its
 * range goes on with the others'.
 * The state of a range is one word: generation (40 bits) and the next unit to claim (24 bits). A
 * successful compare-and-swap on the word proves that the job which was read before it is still
 * running, so its function and context are valid; a thread that comes late finds the generation
 * closed (all unit bits set) or another one, and leaves without harm.
 * The fields of the job are stored with release after all words are closed and loaded with acquire
 * before the swap, so that whoever sees a field of the next job also sees the old one closed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#endif

enum {
    MAX_WORKERS = 255,
    MAX_RANGES = 32,
    UNIT_BITS = 24,
    FAN_OUT = 8,           /* each thread wakes at most so many others, so waking 255 is 3 steps */
    SPIN_NS = 50 * 1000,   /* then park: longer spinning steals the CPU from other libraries, */
    SPIN_MOST_NS = 1000 * 1000, /* unless the thread has just worked as long */
    PAUSES_PER_CLOCK = 32,
    INLINE_NS = 5 * 1000,
    WAKE_NS = 50 * 1000,
};
#define UNIT_MASK ((UINT64_C(1) << UNIT_BITS) - 1)
#define GENERATION_MASK (UINT64_MAX >> UNIT_BITS)

typedef void (*chunk_fn)(void *ctx, int64_t chunk);

/* A place where one thread sleeps until its word differs from the value it has seen. */
typedef struct {
    _Atomic uint32_t word;
    _Atomic uint32_t asleep;
#ifndef __linux__
    pthread_mutex_t mutex;
    pthread_cond_t cond;
#endif
} bed;

typedef struct {
    _Alignas(64) bed bed;
    _Atomic int id, cpu; /* of the thread, as the system counts; where it went to sleep */
} worker;

typedef struct {
    _Alignas(64) _Atomic uint64_t word;
} range;

static struct {
    range ranges[MAX_RANGES]; /* whoever sees a generation in the first one sees it in all */
    _Alignas(64) _Atomic(chunk_fn) fn;
    _Atomic(void *) ctx;
    _Atomic int64_t chunks, per_unit;
    _Atomic uint32_t units, cut; /* into so many ranges */
    _Atomic int admitted; /* workers that may take part in this job */
    _Atomic int wake;     /* whether workers may wake others for it */
    _Alignas(64) _Atomic uint32_t busy;
    int64_t streak, ended; /* of whoever is busy: what loops that followed each other took, and when */
    _Alignas(64) bed done; /* its word counts finished units; the caller sleeps here */
    _Alignas(64) _Atomic int started;
    worker workers[MAX_WORKERS];
} pool;

static _Atomic int limit_set, cpus_known, default_known;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- beds ------------------------------------------------------------------------------------ */

static void bed_init(bed *b)
{
    atomic_init(&b->word, 0);
    atomic_init(&b->asleep, 0);
#ifndef __linux__
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->cond, NULL);
#endif
}

/* Sleep while the word is `seen`; may return early. */
static void bed_sleep(bed *b, uint32_t seen)
{
#ifdef __linux__
    syscall(SYS_futex, &b->word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
#else
    pthread_mutex_lock(&b->mutex);
    if (atomic_load(&b->word) == seen)
        pthread_cond_wait(&b->cond, &b->mutex);
    pthread_mutex_unlock(&b->mutex);
#endif
}

/* Call after the word has changed. */
static void bed_wake(bed *b)
{
#ifdef __linux__
    syscall(SYS_futex, &b->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
#else
    pthread_mutex_lock(&b->mutex);
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->mutex);
#endif
}

/* ---- how many threads ------------------------------------------------------------------------ */

static int read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    char *got = fgets(line, size, file);
    fclose(file);
    return got != NULL;
}

/* CPUs that one control group allows, rounded up; a large number where it sets no bound. */
static int quota_in(const char *folder, int version)
{
    char path[1200], line[128];
    long long quota = -1, period = 0;
    if (version == 2) {
        snprintf(path, sizeof path, "%s/cpu.max", folder);
        if (!read_line(path, line, sizeof line) || sscanf(line, "%lld %lld", &quota, &period) != 2)
            return MAX_WORKERS + 1; /* "max 100000" ends here too */
    } else {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
        if (!read_line(path, line, sizeof line) || sscanf(line, "%lld", &quota) != 1)
            return MAX_WORKERS + 1;
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        if (!read_line(path, line, sizeof line) || sscanf(line, "%lld", &period) != 1)
            return MAX_WORKERS + 1;
    }
    if (quota <= 0 || period <= 0 || quota > (long long)MAX_WORKERS * period)
        return MAX_WORKERS + 1;
    return (int)((quota + period - 1) / period);
}

/* The smallest quota of a group and all groups above it. */
static int quota_upwards(const char *mount, char *group, int version)
{
    int least = MAX_WORKERS + 1;
    char folder[1100];
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s", mount, group);
        int here = quota_in(folder, version);
        least = here < least ? here : least;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

static int cgroup_cpus(void)
{
    char line[1024], name[1024];
    int least = MAX_WORKERS + 1;
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (!file)
        return least;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = 0;
        *group++ = 0;
        int here = MAX_WORKERS + 1;
        if (!*controllers) {
            here = quota_upwards("/sys/fs/cgroup", group, 2);
        } else {
            snprintf(name, sizeof name, ",%.1000s,", controllers);
            if (strstr(name, ",cpu,")) {
                char mount[1100];
                snprintf(mount, sizeof mount, "/sys/fs/cgroup/%.1000s", controllers);
                here = quota_upwards(mount, group, 1);
            }
        }
        least = here < least ? here : least;
    }
    fclose(file);
    return least;
}

static int count_cpus(void)
{
    int cpus = 0;
#ifdef __linux__
    /* The fixed cpu_set_t holds 1024 CPUs; larger machines need a larger mask. */
    for (int bits = 1024; bits <= 1 << 16 && cpus == 0; bits *= 4) {
        cpu_set_t *set = CPU_ALLOC(bits);
        if (!set)
            break;
        size_t size = CPU_ALLOC_SIZE(bits);
        if (sched_getaffinity(0, size, set) == 0)
            cpus = CPU_COUNT_S(size, set);
        CPU_FREE(set);
    }
#endif
    if (cpus < 1)
        cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int quota = cgroup_cpus();
    cpus = quota < cpus ? quota : cpus;
    return cpus < 1 ? 1 : cpus;
}

int hwkit_cpus_available(void)
{
    int known = atomic_load_explicit(&cpus_known, memory_order_relaxed);
    if (!known) {
        known = count_cpus();
        atomic_store_explicit(&cpus_known, known, memory_order_relaxed);
    }
    return known;
}

int hwkit_threads_max(void)
{
    int limit = atomic_load_explicit(&limit_set, memory_order_relaxed);
    if (limit)
        return limit;
    limit = atomic_load_explicit(&default_known, memory_order_relaxed);
    if (!limit) {
        const char *text = getenv("HWKIT_THREADS");
        long asked = text ? strtol(text, NULL, 10) : 0;
        limit = asked > 0 ? (asked > MAX_WORKERS ? MAX_WORKERS + 1 : (int)asked)
                          : hwkit_cpus_available();
        limit = limit > MAX_WORKERS + 1 ? MAX_WORKERS + 1 : limit;
        atomic_store_explicit(&default_known, limit, memory_order_relaxed);
    }
    return limit;
}

void hwkit_threads_limit(int threads)
{
    threads = threads < 0 ? 0 : threads > MAX_WORKERS + 1 ? MAX_WORKERS + 1 : threads;
    atomic_store_explicit(&limit_set, threads, memory_order_relaxed);
}

/* ---- the pool -------------------------------------------------------------------------------- */

/* How long to spin after so much work. Where a thread spins no longer than it has worked, a
 * neighbour loses at most as much again; and it is only worth it while every thread has a CPU. */
static int64_t spin_ns(int64_t worked)
{
    int threads = 1 + atomic_load_explicit(&pool.started, memory_order_relaxed);
    if (threads > hwkit_cpus_available())
        return 0;
    return worked < SPIN_NS ? SPIN_NS : worked > SPIN_MOST_NS ? SPIN_MOST_NS : worked;
}

static uint32_t range_start(uint32_t units, uint32_t cut, uint32_t at)
{
    return (uint32_t)((uint64_t)units * at / cut);
}

/* Claim units of one job until none is left or the job is another one. */
static void take_part(uint64_t generation, uint32_t thread)
{
    chunk_fn fn = atomic_load_explicit(&pool.fn, memory_order_acquire);
    void *ctx = atomic_load_explicit(&pool.ctx, memory_order_acquire);
    int64_t chunks = atomic_load_explicit(&pool.chunks, memory_order_acquire);
    int64_t per_unit = atomic_load_explicit(&pool.per_unit, memory_order_acquire);
    uint32_t units = atomic_load_explicit(&pool.units, memory_order_acquire);
    uint32_t cut = atomic_load_explicit(&pool.cut, memory_order_acquire);
    for (uint32_t k = 0; k < cut; k++) {
        uint32_t at = (thread + k) % cut, end = range_start(units, cut, at + 1), mine = 0;
        _Atomic uint64_t *place = &pool.ranges[at].word;
        uint64_t word = atomic_load_explicit(place, memory_order_acquire);
        while (word >> UNIT_BITS == generation && (word & UNIT_MASK) < end) {
            if (!atomic_compare_exchange_weak_explicit(place, &word, word + 1, memory_order_acq_rel,
                                                       memory_order_acquire))
                continue;
            int64_t first = (int64_t)(word & UNIT_MASK) * per_unit;
            int64_t last = chunks - first < per_unit ? chunks : first + per_unit;
            for (int64_t chunk = first; chunk < last; chunk++)
                fn(ctx, chunk);
            mine++;
            word = atomic_load_explicit(place, memory_order_acquire);
        }
        if (mine && atomic_fetch_add(&pool.done.word, mine) + mine == units &&
            atomic_load(&pool.done.asleep))
            bed_wake(&pool.done);
    }
}

/* A worker that went to sleep where the caller is now is mostly woken behind it, and waits there for
 * milliseconds while another CPU is idle. So it says where it goes to sleep, and who wakes it
 * sends it to another one that the caller may use. Only Linux tells a thread where it is. */
#ifdef __linux__
static void say_where(worker *me)
{
    atomic_store_explicit(&me->id, (int)syscall(SYS_gettid), memory_order_relaxed);
    atomic_store_explicit(&me->cpu, sched_getcpu(), memory_order_relaxed);
}

static void send_away(const worker *w)
{
    cpu_set_t set;
    const int here = sched_getcpu();
    if (here < 0 || atomic_load_explicit(&w->cpu, memory_order_relaxed) != here ||
        sched_getaffinity(0, sizeof set, &set) || !CPU_ISSET_S((size_t)here, sizeof set, &set))
        return;
    CPU_CLR_S((size_t)here, sizeof set, &set);
    if (CPU_COUNT(&set))
        sched_setaffinity(atomic_load_explicit(&w->id, memory_order_relaxed), sizeof set, &set);
}
#else
static void say_where(worker *me) { (void)me; }
static void send_away(const worker *w) { (void)w; }
#endif

/* Thread 0 is the caller, thread k is worker k - 1. */
static void wake_others(int thread)
{
    int admitted = atomic_load_explicit(&pool.admitted, memory_order_acquire);
    int first = thread * FAN_OUT + 1;
    for (int k = first; k < first + FAN_OUT && k <= admitted; k++) {
        worker *w = &pool.workers[k - 1];
        if (atomic_load(&w->bed.asleep)) {
            send_away(w);
            atomic_fetch_add(&w->bed.word, 1);
            bed_wake(&w->bed);
        }
    }
}

/* Wait for a generation other than `seen`: spin for at most `limit` nanoseconds, then sleep. */
static uint64_t next_job(worker *me, uint64_t seen, int64_t start, int64_t limit)
{
    bed *b = &me->bed;
    _Atomic uint64_t *place = &pool.ranges[0].word;
    uint64_t generation;
    do {
        for (int i = 0; i < PAUSES_PER_CLOCK; i++) {
            generation = atomic_load_explicit(place, memory_order_acquire) >> UNIT_BITS;
            if (generation != seen)
                return generation;
            relax();
        }
    } while (limit && now_ns() - start < limit);
    for (;;) {
        uint32_t value = atomic_load(&b->word);
        say_where(me);
        atomic_store(&b->asleep, 1);
        generation = atomic_load(place) >> UNIT_BITS;
        if (generation == seen)
            bed_sleep(b, value);
        atomic_store(&b->asleep, 0);
        generation = atomic_load(place) >> UNIT_BITS;
        if (generation != seen)
            return generation;
    }
}

static void *work(void *argument)
{
    worker *me = argument;
    int index = (int)(me - pool.workers);
    uint64_t seen = 0;
    int64_t worked = 0; /* more than spun, in nanoseconds */
    int64_t idle = now_ns();
    for (;;) {
        seen = next_job(me, seen, idle, spin_ns(worked));
        int64_t start = now_ns();
        worked = start - idle < worked ? worked - (start - idle) : 0;
        idle = start;
        if (index >= atomic_load_explicit(&pool.admitted, memory_order_acquire))
            continue;
        if (atomic_load_explicit(&pool.wake, memory_order_acquire))
            wake_others(index + 1);
        take_part(seen, (uint32_t)index + 1);
        idle = now_ns();
        worked += idle - start;
        worked = worked < SPIN_MOST_NS ? worked : SPIN_MOST_NS;
    }
    return NULL;
}

static void close_ranges(uint64_t generation, uint32_t cut)
{
    for (uint32_t at = 0; at < cut; at++)
        atomic_store(&pool.ranges[at].word, generation << UNIT_BITS | UNIT_MASK);
}

/* A child of fork() has none of the threads, and perhaps half a job: begin afresh. */
static void fresh(void)
{
    close_ranges(1, MAX_RANGES);
    atomic_store(&pool.busy, 0);
    atomic_store(&pool.started, 0);
    bed_init(&pool.done);
    for (int i = 0; i < MAX_WORKERS; i++)
        bed_init(&pool.workers[i].bed);
}

static void child_after_fork(void)
{
    fresh();
    atomic_store(&cpus_known, 0);
    atomic_store(&default_known, 0);
}

static void first_use(void)
{
    fresh();
    pthread_atfork(NULL, NULL, child_after_fork);
}

/* Have `wanted` workers, or as many as the system gives. Called by the owner of the pool only. */
static int start_workers(int wanted)
{
    int started = atomic_load_explicit(&pool.started, memory_order_relaxed);
    if (started >= wanted)
        return wanted;
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    if (pthread_attr_init(&attributes))
        return started;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* Signals belong to the program's own threads; workers inherit this mask. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; started < wanted; started++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, work, &pool.workers[started]))
            break;
        atomic_store_explicit(&pool.started, started + 1, memory_order_relaxed);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

static int run_inline(int64_t chunks, chunk_fn fn, void *ctx)
{
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        fn(ctx, chunk);
    return 1;
}

static void wait_for_the_rest(uint32_t units, int64_t worked)
{
    int64_t limit = spin_ns(worked), start = limit ? now_ns() : 0;
    do {
        for (int i = 0; i < PAUSES_PER_CLOCK; i++) {
            if (atomic_load_explicit(&pool.done.word, memory_order_acquire) == units)
                return;
            relax();
        }
    } while (limit && now_ns() - start < limit);
    atomic_store(&pool.done.asleep, 1);
    for (;;) {
        uint32_t done = atomic_load(&pool.done.word);
        if (done == units)
            break;
        bed_sleep(&pool.done, done);
    }
    atomic_store(&pool.done.asleep, 0);
}

/* Waking a thread costs about as much as it saves in a short loop; but where one follows the other, it
 * stays awake for all of them. */
static int worth_waking(int64_t nanoseconds, int64_t now)
{
    pool.streak = (now - pool.ended < SPIN_NS ? pool.streak : 0) + nanoseconds;
    return pool.streak >= WAKE_NS;
}

static int run_job(int64_t chunks, chunk_fn fn, void *ctx, int threads, int64_t nanoseconds)
{
    const int64_t start = now_ns();
    const int wake = worth_waking(nanoseconds, start);
    int workers = start_workers(threads - 1);
    int64_t most = (int64_t)UNIT_MASK - 1;
    int64_t per_unit = chunks / most + (chunks % most != 0);
    uint32_t units = (uint32_t)(chunks / per_unit + (chunks % per_unit != 0));
    uint32_t cut = (uint32_t)(workers < MAX_RANGES ? workers + 1 : MAX_RANGES);
    cut = cut < units ? cut : units;
    _Atomic uint64_t *place = &pool.ranges[0].word;
    uint64_t generation = atomic_load_explicit(place, memory_order_relaxed) >> UNIT_BITS;
    generation = (generation + 1) & GENERATION_MASK; /* comes round after years, or months */
    atomic_store_explicit(&pool.fn, fn, memory_order_release);
    atomic_store_explicit(&pool.ctx, ctx, memory_order_release);
    atomic_store_explicit(&pool.chunks, chunks, memory_order_release);
    atomic_store_explicit(&pool.per_unit, per_unit, memory_order_release);
    atomic_store_explicit(&pool.units, units, memory_order_release);
    atomic_store_explicit(&pool.cut, cut, memory_order_release);
    atomic_store_explicit(&pool.admitted, workers, memory_order_release);
    atomic_store_explicit(&pool.wake, wake, memory_order_release);
    atomic_store_explicit(&pool.done.word, 0, memory_order_relaxed);
    for (uint32_t at = cut - 1; at > 0; at--)
        atomic_store_explicit(&pool.ranges[at].word,
                              generation << UNIT_BITS | range_start(units, cut, at),
                              memory_order_release);
    /* Sequentially consistent, as are the sleeper's store of `asleep` and its look at the word:
     * either it sees the job or we see it asleep. */
    atomic_store(place, generation << UNIT_BITS);
    if (wake)
        wake_others(0);
    take_part(generation, 0);
    pool.ended = now_ns();
    wait_for_the_rest(units, pool.ended - start);
    close_ranges(generation, cut);
    return workers + 1;
}

static int parallel(int64_t chunks, chunk_fn fn, void *ctx, int threads, int64_t nanoseconds)
{
    int most = hwkit_threads_max();
    threads = threads < most ? threads : most;
    threads = threads < chunks ? threads : (int)chunks;
    if (threads <= 1)
        return run_inline(chunks, fn, ctx);
    pthread_once(&once, first_use);
    uint32_t idle = 0;
    if (!atomic_compare_exchange_strong_explicit(&pool.busy, &idle, 1, memory_order_acquire,
                                                 memory_order_relaxed))
        return run_inline(chunks, fn, ctx);
    int used = run_job(chunks, fn, ctx, threads, nanoseconds);
    atomic_store_explicit(&pool.busy, 0, memory_order_release);
    return used;
}

int hwkit_parallel(int64_t chunks, chunk_fn fn, void *ctx, int max_threads)
{
    return parallel(chunks, fn, ctx, max_threads, WAKE_NS);
}

int hwkit_parallel_work(int64_t chunks, chunk_fn fn, void *ctx, int max_threads, double nanoseconds)
{
    return parallel(chunks, fn, ctx, nanoseconds < INLINE_NS ? 1 : max_threads,
                    nanoseconds < WAKE_NS ? (int64_t)nanoseconds : WAKE_NS);
}
