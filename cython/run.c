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
    const size_t unit = bytes >= HUGE ? HUGE : LINE;
    size_t size = ((size_t)bytes + !bytes + LINE - 1) / LINE * LINE;
    /* A huge page of which little is used would be memory lost. */
    const size_t whole = (size + unit - 1) / unit * unit;
    if (whole - size <= size / 8)
        size = whole;
    if (posix_memalign(&block, unit, size))
        return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (unit == HUGE) /* packed panels are read with large strides: few pages, few TLB misses */
        (void)madvise(block, size / HUGE * HUGE, MADV_HUGEPAGE);
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

int64_t hwkit_scratch_bytes(void)
{
    int64_t bytes = 0;
    for (int i = 0; mine && i < HWKIT_SCRATCH_PURPOSES; i++)
        bytes += mine->bytes[i];
    return bytes;
}

void hwkit_scratch_free(void)
{
    for (int i = 0; mine && i < HWKIT_SCRATCH_PURPOSES; i++) {
        free(mine->block[i]);
        mine->block[i] = NULL;
        mine->bytes[i] = 0;
    }
}

/* ---- operands ---------------------------------------------------------------------------------- */

/* The index of a kind among the constants; -1: it is none of them. */
static int find_constant(const hwkit_operands *o, const hwkit_constants *constants, int kind)
{
    int position = 0;
    if (!o->present[kind] || o->held[kind])
        return -1;
    for (int before = 0; before < kind; before++)
        position += o->present[before] && !o->held[before];
    for (int i = 0; i < constants->count; i++)
        if (constants->positions[i] == position)
            return i;
    return -1;
}

const void *hwkit_constant(const hwkit_operands *o, const hwkit_constants *constants, int kind)
{
    const int i = find_constant(o, constants, kind);
    return i < 0 ? NULL : constants->operands[i];
}

static int keep_copy(hwkit_operands *o, int kind, const void *from, int64_t bytes)
{
    void *copy = hwkit_alloc(bytes);
    if (copy)
        memcpy(copy, from, (size_t)bytes);
    return hwkit_keep(o, kind, copy, bytes);
}

int hwkit_hold(hwkit_operands *to, const hwkit_operands *from, const hwkit_constants *constants,
               int but)
{
    int good = 1;
    *to = *from;
    memset(to->held, 0, sizeof to->held);
    for (int kind = 0; good && kind < from->kinds; kind++) {
        const int i = find_constant(from, constants, kind);
        if (from->held[kind])
            good = keep_copy(to, kind, from->held[kind], from->bytes[kind]);
        else if (i >= 0 && kind != but)
            good = keep_copy(to, kind, constants->operands[i], constants->bytes[i]);
    }
    return good;
}

int hwkit_keep(hwkit_operands *o, int kind, void *block, int64_t bytes)
{
    hwkit_free(o->held[kind]);
    o->held[kind] = block;
    o->bytes[kind] = bytes;
    return block != NULL;
}

void hwkit_release(hwkit_operands *o)
{
    for (int kind = 0; kind < o->kinds; kind++)
        hwkit_free(o->held[kind]);
}

/* ---- the plan that holds operands of another --------------------------------------------------- */

typedef struct {
    hwkit_plan base;
    const hwkit_plan *inner;
    hwkit_operands operands;
} holding;

static int hold_run(const hwkit_plan *plan, const void *const *operands, void *out)
{
    const holding *h = (const holding *)plan;
    const void *all[HWKIT_MAX_OPERANDS];
    hwkit_bind(&h->operands, h->operands.kinds, operands, all);
    return h->inner->run(h->inner, all, out);
}

void hwkit_plan_free(hwkit_plan *plan)
{
    free(plan);
}

static void hold_destroy(hwkit_plan *plan)
{
    holding *h = (holding *)plan;
    hwkit_release(&h->operands);
    free(h);
}

hwkit_plan *hwkit_plan_hold(const hwkit_plan *inner, int total, const hwkit_constants *constants)
{
    hwkit_operands all = {.kinds = total};
    holding *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->base = *inner;
    h->base.run = hold_run;
    h->base.run_apart = NULL; /* that of `inner` would take this plan for one of its own kind */
    h->base.x_apart = h->base.out_apart = 0;
    h->base.prepack = NULL;
    h->base.destroy = hold_destroy;
    h->inner = inner;
    for (int i = 0; i < total; i++)
        all.present[i] = 1;
    if (hwkit_hold(&h->operands, &all, constants, -1))
        return &h->base;
    hold_destroy(&h->base);
    return NULL;
}
