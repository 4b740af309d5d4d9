/* Thread pool: the caller takes part, chunks are claimed one by one, each thread begins with a part
 * of its own, and nobody waits for a thread that is not running. No OpenMP: its pools do not survive
 * fork() and fight with those of other libraries. */
#ifndef HWKIT_THREADS_H
#define HWKIT_THREADS_H

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

/* Most threads a region may use: HWKIT_THREADS, or the CPUs that affinity and cgroup leave us. */
int hwkit_threads_max(void);

/* CPUs that affinity and the cgroup's quota leave to this process, at least 1. */
int hwkit_cpus_available(void);

/* Replace the bound of hwkit_threads_max; 0 returns to the default. For tests and benchmarks. */
void hwkit_threads_limit(int threads);

#endif
