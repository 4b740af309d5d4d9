/* Thread pool: the caller takes part, chunks are claimed one by one, each thread begins with a part
 * of its own, and nobody waits for a thread that is not running. No OpenMP: its pools do not survive
 * fork() and fight with those of other libraries. */
#ifndef HWKIT_THREADS_H
#define HWKIT_THREADS_H

#include "sizes.h"

#include <stdint.h>

/* The plain loop it stands for: for (i = 0; i < chunks; i++) fn(ctx, i);
 * in any order, by at most max_threads threads (the caller is one). Returns when all are done.
 * Nested calls, and calls while another thread uses the pool, run inline. fn must not fork. */
int hwkit_parallel(int64_t chunks, void (*fn)(void *ctx, int64_t chunk), void *ctx, int max_threads);

/* The same for callers who know how long the loop takes on one thread: below 5 us it runs inline,
 * below 50 us only threads that are awake are used, since waking one costs about as much; but of loops
 * that follow each other at once, the one that completes 50 us wakes them. */
int hwkit_parallel_work(int64_t chunks, void (*fn)(void *ctx, int64_t chunk), void *ctx,
                        int max_threads, double nanoseconds);

/* Into how many blocks of about `block` things to cut `whole` of them: as many for each thread, where
 * there are enough. Block i begins with thing i * whole / blocks. */
static inline int64_t hwkit_blocks(int64_t whole, int64_t block, int threads)
{
    const int64_t blocks = hwkit_parts(whole, hwkit_min(block, whole));
    if (blocks < threads)
        return blocks;
    return hwkit_min((blocks + threads / 2) / threads * threads, whole);
}

/* Most threads a region may use: HWKIT_THREADS, or the CPUs that affinity and cgroup leave us. */
int hwkit_threads_max(void);

/* CPUs that affinity and the cgroup's quota leave to this process, at least 1. */
int hwkit_cpus_available(void);

/* Replace the bound of hwkit_threads_max; 0 returns to the default. For tests and benchmarks. */
void hwkit_threads_limit(int threads);

#endif
