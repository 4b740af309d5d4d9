/* Memory for plans and runs; the plan that holds some operands of another. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "run.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { LINE = 64, HUGE = 2 << 20 };

typedef struct {
    void *block[HWKIT_SCRATCH_PURPOSES];
    int64_t bytes[HWKIT_SCRATCH_PURPOSES];
} arena;

static _Thread_local arena *mine;
static pthread_key_t key;
static int key_made;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void *hwkit_alloc(int64_t bytes)
{
    void *block;
    if (bytes < 0 || bytes > INT64_MAX - HUGE)
        return NULL;
    size_t unit = bytes >= HUGE ? HUGE : LINE, size = (size_t)bytes + !bytes;
    size = (size + unit - 1) / unit * unit;
    if (posix_memalign(&block, unit, size))
        return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (unit == HUGE) /* packed panels are read with large strides: few pages, few TLB misses */
        (void)madvise(block, size, MADV_HUGEPAGE);
#endif
    return block;
}

void *hwkit_alloc_zeros(int64_t bytes)
{
    void *block = hwkit_alloc(bytes);
    if (block)
        memset(block, 0, (size_t)bytes);
    return block;
}

void hwkit_free(void *block)
{
    free(block);
}

static void release(void *given)
{
    arena *a = given;
    for (int i = 0; i < HWKIT_SCRATCH_PURPOSES; i++)
        free(a->block[i]);
    free(a);
}

static void make_key(void)
{
    key_made = !pthread_key_create(&key, release);
}

void *hwkit_scratch(int purpose, int64_t bytes)
{
    if (!mine) {
        pthread_once(&once, make_key);
        if (!key_made || !(mine = calloc(1, sizeof *mine)))
            return NULL;
        pthread_setspecific(key, mine);
    }
    if (mine->bytes[purpose] >= bytes && mine->block[purpose])
        return mine->block[purpose];
    free(mine->block[purpose]);
    mine->block[purpose] = hwkit_alloc(bytes);
    mine->bytes[purpose] = mine->block[purpose] ? bytes : 0;
    return mine->block[purpose];
}

typedef struct {
    hwkit_plan base;
    const hwkit_plan *inner;
    int total;
    void *held[HWKIT_MAX_OPERANDS];
} holding;

static int hold_run(const hwkit_plan *plan, const void *const *operands, void *out)
{
    const holding *h = (const holding *)plan;
    const void *all[HWKIT_MAX_OPERANDS];
    for (int i = 0; i < h->total; i++)
        all[i] = h->held[i] ? h->held[i] : *operands++;
    return h->inner->run(h->inner, all, out);
}

static void hold_destroy(hwkit_plan *plan)
{
    holding *h = (holding *)plan;
    for (int i = 0; i < h->total; i++)
        hwkit_free(h->held[i]);
    free(h);
}

hwkit_plan *hwkit_plan_hold(const hwkit_plan *inner, int total, int count, const int *positions,
                            const void *const *operands, const int64_t *bytes)
{
    holding *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->base = *inner;
    h->base.run = hold_run;
    h->base.prepack = NULL;
    h->base.destroy = hold_destroy;
    h->inner = inner;
    h->total = total;
    for (int i = 0; i < count; i++) {
        void *copy = h->held[positions[i]] = hwkit_alloc(bytes[i]);
        if (!copy) {
            hold_destroy(&h->base);
            return NULL;
        }
        memcpy(copy, operands[i], (size_t)bytes[i]);
    }
    return &h->base;
}
