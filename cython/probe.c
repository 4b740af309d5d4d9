/* Ceilings are the best of several short trials: anything else on the machine only slows them. On a
 * virtual machine two CPUs may share a core for a while, and then all of a short probe shows half of
 * the truth; so threads that together are slower than one alone are tried again, with pauses. */
#include "probe.h"

#include "amx_kernels.h"
#include "cpuinfo.h"
#include "isa.h"
#include "run.h"
#include "threads.h"

#include <string.h>
#include <time.h>

enum { TRIALS = 5, MOST_THREADS = 256 };

static const double PAUSE = 0.01, LONGEST = 0.6; /* seconds */

typedef struct {
    hwkit_probe_fn probe;
    int64_t rounds;
    const char *block;
    int64_t bytes; /* of the block, per thread */
    double flops[MOST_THREADS], sums[MOST_THREADS];
} job;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void multiply(void *ctx, int64_t chunk)
{
    job *j = ctx;
    j->flops[chunk] = j->probe(j->rounds, &j->sums[chunk]);
}

/* One word of each 32 bytes would do for the bus, but the load units shall not be the bound. */
static void read_block(void *ctx, int64_t chunk)
{
    job *j = ctx;
    const uint64_t *p = (const uint64_t *)(j->block + chunk * j->bytes);
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (int64_t i = 0; i < j->bytes / 8; i += 8) {
        a += p[i] + p[i + 1];
        b += p[i + 2] + p[i + 3];
        c += p[i + 4] + p[i + 5];
        d += p[i + 6] + p[i + 7];
    }
    j->sums[chunk] += (double)(a + b + c + d);
}

static int clip_threads(int threads)
{
    int most = hwkit_threads_max();
    threads = threads < most ? threads : most;
    return threads < 1 ? 1 : threads < MOST_THREADS ? threads : MOST_THREADS;
}

static void pause_trials(void)
{
    struct timespec t = {.tv_nsec = (long)(PAUSE * 1e9)};
    nanosleep(&t, NULL);
}

/* Least seconds of all trials. After the first few, go on until `enough` is reached (0: at once) or
 * the time is up. */
static double best_of(void (*fn)(void *, int64_t), job *j, int threads, double enough)
{
    double best = 1e30, begun = seconds();
    for (int trial = 0;; trial++) {
        if (trial >= TRIALS) {
            if (enough <= 0 || best <= enough || seconds() - begun > LONGEST)
                return best;
            pause_trials();
        }
        double start = seconds();
        hwkit_parallel(threads, fn, j, threads);
        double took = seconds() - start;
        best = took < best ? took : best;
    }
}

/* Each thread does as much as one alone, so all together should take hardly longer. */
static double best_together(void (*fn)(void *, int64_t), job *j, int threads)
{
    double alone = best_of(fn, j, 1, 0);
    return threads > 1 ? best_of(fn, j, threads, 1.05 * alone) : alone;
}

static double rate(hwkit_probe_fn probe, int threads)
{
    job j = {.probe = probe, .rounds = 2000};
    double done = 0;
    threads = clip_threads(threads);
    double start = seconds();
    multiply(&j, 0);
    double took = seconds() - start;
    /* About 5 ms a trial. */
    j.rounds = took > 0 && took < 5e-3 ? (int64_t)(2000 * 5e-3 / took) : 2000;
    double best = best_together(multiply, &j, threads);
    for (int i = 0; i < threads; i++)
        done += j.flops[i];
    return done / best;
}

double hwkit_probe_flops(int is_double, int threads)
{
    const hwkit_isa *isa = hwkit_isa_get();
    return rate(is_double ? isa->f64.probe : isa->f32.probe, threads);
}

double hwkit_probe_bfloat16(int threads)
{
    if (hwkit_amx() == HWKIT_AMX_REAL)
        return rate(hwkit_amx_real->probe, threads);
    return hwkit_pairs() == HWKIT_AMX_REAL ? rate(hwkit_pairs_real->probe, threads) : 0;
}

double hwkit_probe_bandwidth(int threads)
{
    threads = clip_threads(threads);
    int64_t bytes = 4 * hwkit_cpu()->l2;
    bytes = (bytes < 8 << 20 ? 8 << 20 : bytes > 64 << 20 ? 64 << 20 : bytes) / 64 * 64;
    char *block = hwkit_alloc(bytes * threads);
    if (!block)
        return 0;
    memset(block, 1, (size_t)(bytes * threads));
    job j = {.block = block, .bytes = bytes};
    double best = best_together(read_block, &j, threads);
    hwkit_free(block);
    return (double)(bytes * threads) / best;
}
