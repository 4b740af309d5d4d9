/* How transpositions are cut into tasks; the work is done by the kernels of an ISA. */
#include "transpose.h"

#include "isa.h"
#include "sizes.h"
#include "threads.h"

#include <stdlib.h>

typedef struct {
    hwkit_plan base;
    hwkit_transpose d;
    hwkit_turn_fn turn;
    /* A task is `deep` matrices, or `wide` columns of one, or `high` rows. */
    int64_t deep, wide, high;
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
    const int64_t r = p->d.rows, c = p->d.columns, size = p->d.size;
    const int64_t across = hwkit_parts(c, p->wide), down = hwkit_parts(r, p->high);
    const int64_t column = chunk % across * p->wide, row = chunk / across % down * p->high;
    const int64_t first = chunk / across / down * p->deep;
    const int64_t columns = hwkit_min(p->wide, c - column), rows = hwkit_min(p->high, r - row);
    for (int64_t i = first; i < hwkit_min(first + p->deep, p->d.batch); i++)
        p->turn(j->out + (i * r * c + column * r + row) * size, r,
                j->x + (i * r * c + row * c + column) * size, c, rows, columns);
}

static int plan_run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    job j = {p, operands[0], out};
    const int64_t chunks = hwkit_parts(p->d.batch, p->deep) * hwkit_parts(p->d.columns, p->wide) *
                           hwkit_parts(p->d.rows, p->high);
    hwkit_parallel_work(chunks, task, &j, p->d.threads, 1e9 * base->seconds);
    return HWKIT_OK;
}

hwkit_plan *hwkit_transpose_plan(const hwkit_transpose *d)
{
    const int which = d->size == 1 ? 0 : d->size == 2 ? 1 : d->size == 4 ? 2 : 3;
    const hwkit_transpose_kernels *kernels = hwkit_isa_get()->transpose[which];
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->d = *d;
    p->wide = d->columns, p->high = d->rows, p->deep = 1;
    const int far = d->batch * d->rows * d->columns * d->size > HWKIT_FAR_BYTES;
    p->turn = far ? kernels->far : kernels->any;
    if (d->rows <= HWKIT_TURN_FEW && kernels->rows[d->rows])
        p->turn = kernels->rows[d->rows];
    else if (d->columns <= HWKIT_TURN_FEW && kernels->columns[d->columns])
        p->turn = kernels->columns[d->columns];
    if (d->rows * d->columns <= d->block)
        p->deep = d->block / (d->rows * d->columns);
    else if (d->rows < d->columns) /* whole cache lines of what is cut */
        p->wide = hwkit_round_up(hwkit_parts(d->block, d->rows), 64);
    else
        p->high = hwkit_round_up(hwkit_parts(d->block, d->columns), 64);
    p->base.run = plan_run;
    p->base.destroy = hwkit_plan_free;
    /* Some elements a nanosecond: the memory speed of one core. */
    p->base.seconds = 1e-9 * (double)d->batch * (double)d->rows * (double)d->columns *
                      (d->size > 4 ? 0.5 : 0.25);
    return &p->base;
}
