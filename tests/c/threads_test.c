/* Stress test of cython/threads.c; meant to run under -fsanitize=thread as well.
 * Prints "ok" and the cost of an empty region; returns 1 at the first wrong sum.
 * The source is included, so that threads can be refused and steps be taken out of turn. */
#define _GNU_SOURCE
#include <pthread.h>

int create_or_refuse(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
#define pthread_create create_or_refuse
#include "threads.c"
#undef pthread_create

#include <sys/wait.h>

enum { MANY = MAX_RANGES + 8, MOST_SECONDS = 60 };

static int refuse_after = MANY; /* so many more threads are to be had */

int create_or_refuse(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                     void *argument)
{
    return --refuse_after < 0 ? EAGAIN : pthread_create(thread, attributes, start, argument);
}

typedef struct {
    int64_t chunks;
    unsigned char *seen; /* plain bytes: a race on them is what the sanitizer must find */
    int nested;
    _Atomic int64_t nested_sum;
} job;

static void add(void *ctx, int64_t chunk)
{
    atomic_fetch_add((_Atomic int64_t *)ctx, chunk + 1);
}

static void mark(void *ctx, int64_t chunk)
{
    job *j = ctx;
    j->seen[chunk]++;
    if (j->nested)
        hwkit_parallel(5, add, &j->nested_sum, 4);
}

static void nothing(void *ctx, int64_t chunk)
{
    (void)ctx;
    (void)chunk;
}

static int check(int64_t chunks, int threads, int nested, int64_t ns)
{
    job j = {.chunks = chunks, .seen = calloc((size_t)chunks + 1, 1), .nested = nested};
    int bad = 0;
    if (ns < 0)
        hwkit_parallel(chunks, mark, &j, threads);
    else
        hwkit_parallel_work(chunks, mark, &j, threads, ns);
    for (int64_t i = 0; i < chunks; i++)
        bad += j.seen[i] != 1;
    if (nested && j.nested_sum != chunks * 15)
        bad++;
    free(j.seen);
    if (bad)
        printf("%d of %lld chunks wrong (threads %d, nested %d)\n", bad, (long long)chunks, threads,
               nested);
    return bad;
}

/* ---- threads that are slow, late or missing ---------------------------------------------------- */

typedef struct {
    int want;               /* so many chunks are held until ... */
    int64_t finished;       /* ... so many others are done */
    _Atomic int holding, gave_up;
    _Atomic int64_t done;
    _Atomic int inside, most_inside;
} holdup;

static void wait_in_chunk(holdup *h, _Atomic int64_t *count, int64_t reached)
{
    const int64_t start = now_ns();
    while (atomic_load(count) < reached && !atomic_load(&h->gave_up)) {
        if (now_ns() - start > INT64_C(1000000000) * MOST_SECONDS)
            atomic_store(&h->gave_up, 1);
        sched_yield();
    }
}

static void hold_some(void *ctx, int64_t chunk)
{
    holdup *h = ctx;
    (void)chunk;
    if (atomic_fetch_add(&h->holding, 1) < h->want)
        wait_in_chunk(h, &h->done, h->finished);
    else
        atomic_fetch_add(&h->done, 1);
}

/* All but one thread hold a chunk each: the last one does all the others, whose ever they are. */
static int slow_threads_delay_nobody(int64_t chunks, int threads)
{
    holdup h = {.want = threads - 1, .finished = chunks - (threads - 1)};
    int used = hwkit_parallel(chunks, hold_some, &h, threads);
    if (used == threads && !h.gave_up && h.done == h.finished)
        return 0;
    printf("%lld of %lld chunks done beside %d slow threads of %d\n", (long long)h.done,
           (long long)h.finished, threads - 1, used);
    return 1;
}

static void meet(void *ctx, int64_t chunk)
{
    holdup *h = ctx;
    (void)chunk;
    atomic_fetch_add(&h->done, 1);
    wait_in_chunk(h, &h->done, h->want);
}

/* Each thread keeps one chunk until all threads have one: none sleeps on. */
static int all_threads_come(int threads, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        holdup h = {.want = threads};
        hwkit_parallel(threads, meet, &h, threads);
        if (h.gave_up) {
            printf("%d of %d threads came\n", (int)h.done, threads);
            return 1;
        }
        if (i % 2)
            usleep(SPIN_MOST_NS / 1000 + 500); /* all are asleep, or about to be */
    }
    return 0;
}

typedef struct {
    pthread_t caller;
    _Atomic int came; /* whether a thread but the caller did */
} company;

static void look_around(void *ctx, int64_t chunk)
{
    company *c = ctx;
    const int64_t start = now_ns();
    (void)chunk;
    if (!pthread_equal(pthread_self(), c->caller))
        atomic_store(&c->came, 1);
    while (now_ns() - start < 5000)
        ;
}

/* One loop is too short to wake anybody, but there is no end of them. */
static int short_loops_wake_a_thread(void)
{
    company c = {.caller = pthread_self()};
    usleep(SPIN_MOST_NS / 1000 * 2); /* all are asleep */
    const int64_t start = now_ns();
    while (!atomic_load(&c.came) && now_ns() - start < INT64_C(1000000000) * MOST_SECONDS)
        hwkit_parallel_work(4, look_around, &c, 2, 20000);
    if (!c.came)
        printf("no thread was woken for short loops\n");
    return !c.came;
}

#ifdef __linux__
/* This thread plays a worker that sleeps where the caller, which it is as well, is running. */
static int sleepers_are_sent_away(void)
{
    cpu_set_t before, after;
    int bad = sched_getaffinity(0, sizeof before, &before);
    const int many = CPU_COUNT(&before) > 1;
    worker w = {.id = (int)syscall(SYS_gettid), .cpu = -1};
    send_away(&w); /* it sleeps elsewhere */
    bad += sched_getaffinity(0, sizeof after, &after) || !CPU_EQUAL(&before, &after);
    for (int i = 0; i < 1000 && CPU_EQUAL(&before, &after) && !bad; i++) {
        atomic_store(&w.cpu, sched_getcpu()); /* which may change before the call */
        send_away(&w);
        bad += sched_getaffinity(0, sizeof after, &after);
    }
    const int here = atomic_load(&w.cpu);
    if (many)
        bad += CPU_ISSET((size_t)here, &after) || CPU_COUNT(&after) != CPU_COUNT(&before) - 1 ||
               sched_getcpu() == here;
    else
        bad += !CPU_EQUAL(&before, &after);
    bad += sched_setaffinity(0, sizeof before, &before);
    if (bad)
        printf("a thread was not sent away\n");
    return bad;
}
#else
static int sleepers_are_sent_away(void)
{
    return 0;
}
#endif

static void count_inside(void *ctx, int64_t chunk)
{
    holdup *h = ctx;
    int inside = atomic_fetch_add(&h->inside, 1) + 1, most = atomic_load(&h->most_inside);
    (void)chunk;
    while (inside > most && !atomic_compare_exchange_weak(&h->most_inside, &most, inside))
        ;
    sched_yield();
    atomic_fetch_sub(&h->inside, 1);
}

/* Workers that were in a large job do not come to a smaller one. */
static int no_more_threads_than_asked(void)
{
    for (int i = 0; i < 200; i++) {
        holdup h = {0};
        int threads = i % 2 ? 2 + i % 3 : 8;
        hwkit_parallel(40, count_inside, &h, threads);
        if (h.most_inside > threads) {
            printf("%d threads where %d were asked for\n", h.most_inside, threads);
            return 1;
        }
    }
    return 0;
}

typedef struct {
    uint64_t generation; /* of the job before this one */
    _Atomic int64_t sum;
} lateness;

static void come_late(void *ctx, int64_t chunk)
{
    lateness *l = ctx;
    /* What a worker does that saw the last job and reads the fields of this one. */
    for (uint32_t thread = 0; thread < MANY; thread++)
        take_part(l->generation, thread);
    atomic_fetch_add(&l->sum, chunk + 1);
}

static int who_comes_late_takes_nothing(void)
{
    for (int64_t chunks = 2; chunks < 100; chunks += 7) {
        lateness l = {0};
        hwkit_parallel(chunks + 50, nothing, NULL, 4);
        l.generation = atomic_load(&pool.ranges[0].word) >> UNIT_BITS;
        take_part(l.generation, 1); /* it is closed, and its fields are still there */
        hwkit_parallel(chunks, come_late, &l, 3);
        if (l.sum != chunks * (chunks + 1) / 2) {
            printf("a late thread took part in a job of %lld chunks\n", (long long)chunks);
            return 1;
        }
    }
    return 0;
}

static int ranges_hold_each_unit_once(void)
{
    int bad = 0;
    for (uint32_t cut = 1; cut <= MAX_RANGES; cut++)
        for (uint32_t step = 0; step < 9; step++) {
            uint32_t units = step < 8 ? cut + step : (uint32_t)UNIT_MASK - 1;
            bad += range_start(units, cut, 0) != 0 || range_start(units, cut, cut) != units;
            for (uint32_t at = 0; at < cut; at++) /* none is empty, so each thread has a part */
                bad += range_start(units, cut, at) >= range_start(units, cut, at + 1);
        }
    if (bad)
        printf("%d ranges are wrong\n", bad);
    return bad;
}

/* The first job of the process: no thread is to be had, then two, then all. */
static int threads_are_refused(void)
{
    int bad = 0;
    for (int have = 0; have <= 2; have += 2) {
        holdup h = {0};
        refuse_after = have;
        int used = hwkit_parallel(500, count_inside, &h, 8);
        bad += used != have + 1 || h.most_inside > used || check(100, 8, 1, -1);
        refuse_after = have ? MANY : 0;
    }
    bad += hwkit_parallel(500, nothing, NULL, 8) != 8;
    if (bad)
        printf("a job without its threads is wrong\n");
    return bad;
}

/* ---- other threads of the program -------------------------------------------------------------- */

static void *caller(void *argument)
{
    unsigned seed = *(unsigned *)argument;
    intptr_t bad = 0;
    for (int i = 0; i < 300; i++) {
        bad += check(rand_r(&seed) % 50, 1 + rand_r(&seed) % 6, rand_r(&seed) % 4 == 0,
                     rand_r(&seed) % 3 * 40000 - 1);
        if (rand_r(&seed) % 64 == 0)
            usleep(200); /* long enough for workers to fall asleep */
    }
    return (void *)bad;
}

static int concurrent_callers(void)
{
    pthread_t threads[6];
    unsigned seeds[6];
    intptr_t bad = 0;
    void *result;
    for (int i = 0; i < 6; i++) {
        seeds[i] = (unsigned)i + 1;
        if (pthread_create(&threads[i], NULL, caller, &seeds[i]))
            return 1;
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(threads[i], &result);
        bad += (intptr_t)result;
    }
    return bad != 0;
}

static int after_fork(void)
{
    int status = 1;
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(check(100, 4, 1, -1) + check(1000, 4, 0, -1) ? 1 : 0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 1;
    return status != 0;
}

static void *keep_busy(void *argument)
{
    intptr_t bad = 0;
    while (!atomic_load((_Atomic int *)argument))
        bad += check(200, 4, 0, -1);
    return (void *)bad;
}

/* The child has half a job in its memory, and none of the threads that would finish it. */
static int fork_amid_a_job(void)
{
    _Atomic int stop = 0;
    int bad = 0;
    void *result;
    pthread_t thread;
    if (pthread_create(&thread, NULL, keep_busy, &stop))
        return 1;
    for (int i = 0; i < 20; i++)
        bad += after_fork();
    atomic_store(&stop, 1);
    pthread_join(thread, &result);
    return bad + (result != NULL);
}

/* After the last generation comes the first: whose loops are too short to wake others does both. */
static int generations_come_round(int threads)
{
    int bad = 0;
    close_ranges(GENERATION_MASK - 3, MAX_RANGES);
    for (int i = 0; i < 8; i++) {
        usleep(10 * 1000); /* all others sleep by then */
        bad += check(100 + i, threads, 0, INLINE_NS);
    }
    return bad;
}

static double empty_region_us(int threads, int rounds)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < rounds; i++)
        hwkit_parallel(threads, nothing, NULL, threads);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 1e3 / rounds;
}

int main(int argc, char **argv)
{
    int bad = 0, threads = argc > 1 ? atoi(argv[1]) : 4;
    hwkit_threads_limit(MANY);
    bad += threads_are_refused();
    bad += ranges_hold_each_unit_once();
    bad += who_comes_late_takes_nothing();
    bad += no_more_threads_than_asked();
    bad += short_loops_wake_a_thread();
    bad += sleepers_are_sent_away();
    for (int i = 0; i < 10; i++)
        bad += slow_threads_delay_nobody(400 + i, 2 + i % 4);
    for (int chunks = MAX_RANGES - 1; chunks < 2 * MANY; chunks++)
        bad += check(chunks, MANY, chunks % 5 == 0, -1);
    bad += all_threads_come(4, 40) + all_threads_come(MANY, 10);
    bad += slow_threads_delay_nobody(1000, MANY);
    hwkit_threads_limit(threads);
    for (int i = 0; i < 500; i++)
        bad += check(i % 40, 1 + i % 5, i % 7 == 0, -1);
    bad += check(20000000, threads, 0, -1); /* more chunks than the word can count */
    bad += concurrent_callers();
    bad += generations_come_round(threads);
    if (argc <= 2)
        bad += after_fork() + fork_amid_a_job();
    bad += check(1000, threads, 1, -1);
    if (bad)
        return 1;
    printf("ok, %d CPUs, an empty region of %d threads takes %.2f us\n", hwkit_cpus_available(),
           threads, empty_region_us(threads, 20000));
    return 0;
}
