/* How local response normalisation is cut into tasks; the work is done by the kernels of an ISA. */
#include "lrn.h"

#include "isa.h"
#include "sizes.h"
#include "threads.h"

#include <stdlib.h>

typedef struct {
    hwkit_plan base;
    hwkit_lrn d;
    hwkit_lrn_fn fn;
    /* `images` of `pixels`, of which `share` are a task. */
    int64_t images, pixels, share;
} plan;

typedef struct {
    const plan *p;
    const char *x;
    char *out;
} job;

static void task(void *ctx, int64_t chunk)
{
    const job *j = ctx;
    const plan *p = j->p;
    const int64_t shares = hwkit_parts(p->pixels, p->share), size = p->d.is_double ? 8 : 4;
    const int64_t from = chunk % shares * p->share, left = p->pixels - from;
    const int64_t at = chunk / shares * p->pixels * p->d.c * size;
    p->fn(&p->d, j->x + at, j->out + at, from, from + hwkit_min(left, p->share));
}

static int plan_run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    job j = {p, operands[0], out};
    hwkit_parallel_work(p->images * hwkit_parts(p->pixels, p->share), task, &j, p->d.threads,
                        1e9 * base->seconds);
    return HWKIT_OK;
}

hwkit_plan *hwkit_lrn_plan(const hwkit_lrn *d)
{
    const hwkit_isa *isa = hwkit_isa_get();
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->d = *d;
    p->fn = d->is_double ? isa->f64.lrn : isa->f32.lrn;
    /* Channels that are neighbours: a pixel has nothing to do with the next, nor has an image. */
    p->images = d->l == 1 ? 1 : d->n;
    p->pixels = d->l == 1 ? d->n : d->l;
    p->share = d->block / d->c;
    p->share = p->share < 1 ? 1 : d->l == 1 ? p->share : hwkit_round_up(p->share, 64);
    p->base.run = plan_run;
    p->base.destroy = hwkit_plan_free;
    p->base.seconds = 1e-9 * (double)d->n * (double)d->c * (double)d->l *
                      (0.5 + 0.1 * (double)(d->before + d->after)) * (d->is_double ? 2 : 1);
    return &p->base;
}
