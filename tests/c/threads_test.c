/* Stress test of cython/threads.c; meant to run under -fsanitize=thread as well.
 * Prints "ok" and the cost of an empty region; returns 1 at the first wrong sum. */
#define _GNU_SOURCE
#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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
    hwkit_threads_limit(threads);
    for (int i = 0; i < 500; i++)
        bad += check(i % 40, 1 + i % 5, i % 7 == 0, -1);
    bad += check(20000000, threads, 0, -1); /* more chunks than the word can count */
    bad += concurrent_callers();
    if (argc <= 2)
        bad += after_fork();
    bad += check(1000, threads, 1, -1);
    if (bad)
        return 1;
    printf("ok, %d CPUs, an empty region of %d threads takes %.2f us\n", hwkit_cpus_available(),
           threads, empty_region_us(threads, 20000));
    return 0;
}
