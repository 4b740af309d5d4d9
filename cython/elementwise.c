/* How elementwise work is cut into tasks; the work is done by the kernels of an ISA. */
#include "elementwise.h"

#include "isa.h"
#include "sizes.h"
#include "threads.h"

#include <stdlib.h>

typedef struct {
    hwkit_plan base;
    hwkit_elementwise d;
    hwkit_map_fn map;   /* NULL: nothing is left to do after the operator */
    hwkit_join_fn join; /* NULL: there is no second operand */
    /* `planes` of `rows` rows of `length` elements; a task is high rows or wide elements of one. */
    int64_t planes, rows, length, high, wide;
} plan;

typedef struct {
    const plan *p;
    const char *x, *other;
    char *out;
} job;

static void task(void *ctx, int64_t chunk)
{
    const job *j = ctx;
    const plan *p = j->p;
    const int64_t across = hwkit_parts(p->length, p->wide), down = hwkit_parts(p->rows, p->high);
    const int64_t column = chunk % across * p->wide, row = chunk / across % down * p->high;
    const int64_t plane = chunk / across / down;
    const int64_t rows = hwkit_min(p->high, p->rows - row), length = hwkit_min(p->wide, p->length - column);
    const int64_t size = p->d.is_double ? sizeof(double) : sizeof(float);
    const int64_t at = ((plane * p->rows + row) * p->length + column) * size;
    const char *from = j->x + at;
    char *to = j->out + at;
    if (p->join) {
        /* The other operand has c elements for each image: one for each row, or a row of them. */
        const int one_each = p->d.l > 1;
        const int64_t image = one_each ? plane / p->d.n : plane;
        const int64_t first = image * p->d.c + (one_each ? row : column);
        p->join(from, j->other + first * size, to, rows, length, one_each);
        from = to;
    }
    if (p->map)
        p->map(from, to, rows * length, &p->d.act);
}

/* On one core, from its own caches: what only adds and compares waits for memory. */
static double estimate_ns(const hwkit_elementwise *d)
{
    static const double NS[HWKIT_ACTIVATIONS] = {
        [HWKIT_SIGMOID] = 0.7, [HWKIT_SILU] = 0.7, [HWKIT_TANH] = 0.8, [HWKIT_EXP] = 0.6,
        [HWKIT_ELU] = 0.8,     [HWKIT_ERF] = 1.4,  [HWKIT_GELU] = 1.2, [HWKIT_GELU_TANH] = 0.9,
        [HWKIT_MISH] = 0.8};
    return (double)d->b * (double)d->n * (double)d->c * (double)d->l *
           (0.2 + NS[d->act.kind]) * (d->is_double ? 2 : 1);
}

static int plan_run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    job j = {.p = p, .x = operands[0], .other = p->join ? operands[1] : NULL, .out = out};
    const int64_t chunks = p->planes * hwkit_parts(p->rows, p->high) * hwkit_parts(p->length, p->wide);
    hwkit_parallel_work(chunks, task, &j, p->d.threads, 1e9 * base->seconds);
    return HWKIT_OK;
}

hwkit_plan *hwkit_elementwise_plan(const hwkit_elementwise *d)
{
    const hwkit_isa *isa = hwkit_isa_get();
    const hwkit_kernels *kernels = d->is_double ? &isa->f64 : &isa->f32;
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->d = *d;
    if (d->operator != HWKIT_NO_OTHER)
        p->join = kernels->elementwise->join[d->operator];
    if (!p->join || d->act.kind != HWKIT_IDENTITY)
        p->map = kernels->elementwise->map[d->act.kind];
    p->planes = d->l > 1 ? d->b * d->n : d->b;
    p->rows = d->l > 1 ? d->c : d->n;
    p->length = d->l > 1 ? d->l : d->c;
    /* Whole rows, or a part of one in whole cache lines: either way what a task writes lies together. */
    p->high = p->length < d->block ? hwkit_min(d->block / p->length, p->rows) : 1;
    p->wide = p->length < d->block ? p->length : hwkit_round_up(d->block, 64);
    p->base.run = plan_run;
    p->base.destroy = hwkit_plan_free;
    p->base.seconds = 1e-9 * estimate_ns(d);
    return &p->base;
}
