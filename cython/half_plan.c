/* A float32 plan on operands that are stored narrow: widened as a whole, computed, rounded once. */
#include "half.h"
#include "run.h"

#include <stdlib.h>

typedef struct {
    hwkit_plan base;
    const hwkit_plan *inner; /* owned where it was made by prepack */
    hwkit_plan *owned;
    hwkit_half type;
    int count, threads;
    int64_t sizes[HWKIT_MAX_OPERANDS + 1]; /* elements of operands and of the result */
} plan;

/* Floats that keep the next array on a cache line of its own. */
static int64_t padded(int64_t n)
{
    return (n + 15) / 16 * 16;
}

static int64_t wide_bytes(const plan *p)
{
    int64_t floats = 0;
    for (int i = 0; i <= p->count; i++)
        floats += padded(p->sizes[i]);
    return floats * (int64_t)sizeof(float);
}

static int half_run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    const void *wide[HWKIT_MAX_OPERANDS];
    float *next = hwkit_scratch(HWKIT_SCRATCH_DTYPE, wide_bytes(p));
    if (!next)
        return HWKIT_NO_MEMORY;
    for (int i = 0; i < p->count; i++) {
        hwkit_half_widen(p->type, operands[i], next, p->sizes[i], p->threads);
        wide[i] = next;
        next += padded(p->sizes[i]);
    }
    const int status = p->inner->run(p->inner, wide, next);
    if (status == HWKIT_OK)
        hwkit_half_round(p->type, next, out, p->sizes[p->count], p->threads);
    return status;
}

static void half_destroy(hwkit_plan *base)
{
    plan *p = (plan *)base;
    if (p->owned)
        p->owned->destroy(p->owned);
    free(p);
}

static hwkit_plan *half_prepack(const hwkit_plan *base, const hwkit_constants *given)
{
    const plan *old = (const plan *)base;
    const void *wide[HWKIT_MAX_OPERANDS] = {NULL};
    int64_t bytes[HWKIT_MAX_OPERANDS], sizes[HWKIT_MAX_OPERANDS + 1];
    const hwkit_constants constants = {given->count, given->positions, wide, bytes};
    hwkit_plan *inner = NULL, *made = NULL;
    int left = 0, good = 1;
    for (int i = 0; i < given->count && good; i++) {
        const int64_t n = old->sizes[given->positions[i]];
        float *copy = hwkit_alloc(bytes[i] = n * (int64_t)sizeof(float));
        wide[i] = copy;
        if ((good = copy != NULL))
            hwkit_half_widen(old->type, given->operands[i], copy, n, old->threads);
    }
    if (good)
        inner = old->inner->prepack ? old->inner->prepack(old->inner, &constants)
                                    : hwkit_plan_hold(old->inner, old->count, &constants);
    for (int i = 0; i < given->count; i++)
        hwkit_free((void *)wide[i]);
    for (int i = 0, next = 0; i <= old->count; i++)
        if (next < given->count && given->positions[next] == i)
            next++;
        else
            sizes[left++] = old->sizes[i];
    if (inner && !(made = hwkit_half_plan(inner, old->type, left - 1, sizes, old->threads)))
        inner->destroy(inner);
    if (made)
        ((plan *)made)->owned = inner;
    return made;
}

hwkit_plan *hwkit_half_plan(const hwkit_plan *inner, hwkit_half type, int count,
                            const int64_t *sizes, int threads)
{
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->inner = inner;
    p->type = type;
    p->count = count;
    p->threads = threads;
    for (int i = 0; i <= count; i++)
        p->sizes[i] = sizes[i];
    p->base.run = half_run;
    p->base.prepack = half_prepack;
    p->base.destroy = half_destroy;
    p->base.workspace = inner->workspace + wide_bytes(p);
    /* a nanosecond for each element of two bytes */
    p->base.seconds = inner->seconds + 2.5e-10 * (double)wide_bytes(p);
    return &p->base;
}
