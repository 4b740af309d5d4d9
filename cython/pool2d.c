/* How pooling is cut into tasks; the work is done by the kernels of an ISA. */
#include "pool2d.h"

#include "cpuinfo.h"
#include "isa.h"
#include "sizes.h"
#include "run.h"
#include "threads.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const size_t MOST_SCRATCH = (size_t)1 << 30;
/* Bytes of the lines that are kept at a time: half of a small first cache. */
static const int64_t LINES = 16384;
/* Beyond this stride, most windows at stride 1 would be for nothing. */
static const int64_t MOST_STRIDE = 4;
/* Columns of an image that is read in place by vectors of 32 bytes. */
enum { MOST_NARROW = 32 };

static void *counts_as_reals(const hwkit_pool *d, int64_t length)
{
    size_t item = d->is_double ? sizeof(double) : sizeof(float);
    void *counts = malloc((size_t)length * item + 1);
    for (int64_t q = 0; counts && q < length; q++) {
        int64_t count = d->mean && q < d->q ? d->count_x[q] : 1;
        if (d->is_double)
            ((double *)counts)[q] = (double)count;
        else
            ((float *)counts)[q] = (float)count;
    }
    return counts;
}

hwkit_pool hwkit_pool_piece(const hwkit_pool *d, int64_t p0, int64_t p1, int64_t channels, int64_t *y)
{
    const int64_t first = p0 * d->sy - d->top;
    const int64_t behind = first + (p1 - p0 - 1) * d->sy + (d->r - 1) * d->dy + 1;
    const int64_t from = first < 0 ? 0 : hwkit_min(first, d->h);
    hwkit_pool piece = *d;
    piece.n = 1;
    piece.c = piece.row = channels;
    piece.h = hwkit_max(hwkit_min(behind, d->h), from) - from;
    piece.p = p1 - p0;
    piece.top = from - first;
    piece.count_y = d->mean ? d->count_y + p0 : NULL;
    *y = from;
    return piece;
}

/* Room for wide pieces behind what the kernel needs. */
static int prepare_half(hwkit_pool *d)
{
    if (!d->half)
        return 0;
    hwkit_pool_half_prepare(d);
    if (!d->piece_channels)
        return -1;
    d->scratch_bytes = (d->scratch_bytes + 63) / 64 * 64 + d->wide_bytes;
    return 0;
}

/* Whether there is a kernel for narrow elements as they are. */
static int prepare_narrow(hwkit_pool *d)
{
    const hwkit_isa *isa = hwkit_isa_get();
    const hwkit_pool_narrow_kernel *kernel = isa == &hwkit_isa_avx512 ? &hwkit_pool_narrow_avx512
                                             : isa == &hwkit_isa_avx2 ? &hwkit_pool_narrow_avx2
                                                                      : NULL;
    if (!d->half || !kernel || !kernel->lanes || d->c < kernel->lanes ||
        !(hwkit_cpu()->bits & HWKIT_F16C))
        return 0;
    const double bytes = (double)kernel->scratch_bytes(d);
    if (bytes > (double)MOST_SCRATCH)
        return 0;
    d->narrow = 1;
    d->fn = kernel->windows;
    d->scratch_bytes = (size_t)bytes;
    return 1;
}

/* Whether the kernel for small windows reads the image in place. What comes from memory had better be
 * read in its order, and rows of many vectors are (Zen 4, AVX2). */
static int in_place(const hwkit_pool *d, int64_t vector_bytes)
{
    const int window = (d->s == 2 && d->sx == 2) || (d->s == 3 && d->sx <= 2);
    const int64_t item = d->is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
    return window && d->r == d->s && d->sy == d->sx && d->dy == 1 && d->dx == 1 &&
           d->n * d->c * d->h * d->w * item <= HWKIT_FAR_BYTES &&
           (vector_bytes == 64 || (vector_bytes == 32 && d->w <= MOST_NARROW));
}

int hwkit_pool_prepare(hwkit_pool *d)
{
    const hwkit_isa *isa = hwkit_isa_get();
    if ((d->half && d->is_double) || (d->transpose && (d->nhwc || d->global)))
        return -1;
    size_t item = d->is_double ? sizeof(double) : sizeof(float);
    const hwkit_kernels *kernels = d->is_double ? &isa->f64 : &isa->f32;
    int64_t vl = kernels->vl;
    /* The distance of taps means nothing where there is one; it could be any number. */
    d->dy = d->r == 1 ? 1 : d->dy;
    d->dx = d->s == 1 ? 1 : d->dx;
    d->block = d->block < 1 ? 1 : d->block > d->c ? d->c : d->block;
    if (d->global) {
        d->global_fn = kernels->pool->global;
        return prepare_half(d);
    }
    d->rows = d->rows < 1 ? 1 : d->rows > d->p ? d->p : d->rows;
    if (d->nhwc) {
        d->fn = kernels->pool->nhwc;
        return prepare_narrow(d) ? 0 : prepare_half(d);
    }
    if (d->transpose) {
        const double room = hwkit_pool_transposed_prepare(d);
        if (room > (double)MOST_SCRATCH)
            return -1;
        d->fn = hwkit_pool_transposed;
        d->nhwc_fn = kernels->pool->nhwc;
        d->turn = kernels->gemm->transpose;
        d->scratch_bytes = (size_t)room;
        return prepare_half(d);
    }
    int64_t across = hwkit_parts(d->q, vl) * vl;
    double length = (double)(across + vl) * (double)d->sx + (double)(d->s - 1) * (double)d->dx;
    if ((length + (double)d->left + (double)d->w + 64) * (double)item > (double)MOST_SCRATCH)
        return -1;
    if (d->sx <= MOST_STRIDE && d->r <= HWKIT_POOL_SMALL / d->s) {
        int64_t read = (across + vl) * d->sx + (d->s - 1) * d->dx;
        int64_t written = d->left + hwkit_parts(d->w, vl) * vl + vl;
        d->phase = hwkit_parts(read > written ? read : written, vl) * vl;
        d->lines = LINES / (d->phase * (int64_t)item);
        d->lines = d->lines < 1 ? 1 : d->lines > d->rows ? d->rows : d->lines;
        d->fn = kernels->pool->nchw_small;
        d->in_place = in_place(d, vl * (int64_t)item);
        d->scratch_bytes = d->in_place ? 0 : (size_t)((d->lines + 1) * d->phase) * item;
    } else {
        d->phase = across + vl + (d->s - 1) * d->dx / d->sx;
        d->fn = kernels->pool->nchw;
        d->scratch_bytes = (size_t)(d->phase * d->sx + hwkit_parts(d->w, vl) * vl) * item;
    }
    d->counts = counts_as_reals(d, hwkit_parts(d->q, vl) * vl);
    return d->counts ? prepare_half(d) : -1;
}

void hwkit_pool_release(hwkit_pool *d)
{
    free((void *)d->counts);
    d->counts = NULL;
}

static void whole_image(const hwkit_pool *d, int64_t image, int64_t c0, int64_t c1)
{
    const size_t item = d->is_double ? sizeof(double) : sizeof(float);
    const int64_t pixels = d->h * d->w, first = image * d->c * pixels + (d->nhwc ? c0 : c0 * pixels);
    const hwkit_pool_part part = {.x = (const char *)d->x + (size_t)first * item,
                                  .out = (char *)d->out + (size_t)(image * d->c + c0) * item,
                                  .pixels = pixels,
                                  .channels = c1 - c0,
                                  .stride = d->nhwc ? d->c : pixels,
                                  .first = 1,
                                  .last = 1};
    d->global_fn(d, &part);
}

typedef struct {
    const hwkit_pool *d;
    int64_t row_blocks, blocks;
    _Atomic int failed;
} job;

static void task(void *ctx, int64_t chunk)
{
    job *j = ctx;
    const hwkit_pool *d = j->d;
    int64_t block = chunk % j->blocks, row = chunk / j->blocks % j->row_blocks;
    int64_t image = chunk / j->blocks / j->row_blocks;
    int64_t c0 = block * d->block, c1 = d->c - c0 < d->block ? d->c : c0 + d->block;
    if (d->global && !d->half) {
        whole_image(d, image, c0, c1);
        return;
    }
    int64_t p0 = row * d->rows, p1 = d->p - p0 < d->rows ? d->p : p0 + d->rows;
    void *scratch = hwkit_scratch(HWKIT_SCRATCH_THREAD, (int64_t)d->scratch_bytes);
    if (!scratch) {
        atomic_store(&j->failed, 1);
        return;
    }
    (d->half && !d->narrow ? hwkit_pool_half_task : d->fn)(d, image, p0, p1, c0, c1, scratch);
}

/* Two elements a nanosecond: the memory speed of one core. */
static double estimate_ns(const hwkit_pool *d)
{
    return (double)d->n * (double)d->c * (double)d->h * (double)d->w / 2;
}

int hwkit_pool_run(const hwkit_pool *d)
{
    job j = {.d = d, .row_blocks = 1, .blocks = hwkit_parts(d->c, d->block)};
    if (d->n == 0 || d->c == 0 || (!d->global && (d->p == 0 || d->q == 0)))
        return 0;
    if (!d->global)
        j.row_blocks = hwkit_parts(d->p, d->rows);
    hwkit_parallel_work(d->n * j.row_blocks * j.blocks, task, &j, d->threads,
                        estimate_ns(d));
    return atomic_load(&j.failed) ? -1 : 0;
}

/* ---- the plan -------------------------------------------------------------------------------- */

typedef struct {
    hwkit_plan base;
    hwkit_pool d;
    int64_t *counts;
} plan;

static int plan_run_apart(const hwkit_plan *base, const void *const *operands, void *out,
                          int64_t x_row, int64_t out_row)
{
    (void)x_row;
    hwkit_pool d = ((const plan *)base)->d;
    d.x = operands[0];
    d.out = out;
    d.row = out_row;
    return hwkit_pool_run(&d) ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static int plan_run(const hwkit_plan *base, const void *const *operands, void *out)
{
    return plan_run_apart(base, operands, out, 0, ((const plan *)base)->d.c);
}

static void plan_destroy(hwkit_plan *base)
{
    plan *self = (plan *)base;
    hwkit_pool_release(&self->d);
    free(self->counts);
    free(self);
}

hwkit_plan *hwkit_pool_plan(const hwkit_pool *d)
{
    plan *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->d = *d;
    int64_t counts = d->mean && !d->global ? d->p + d->q : 0;
    self->counts = malloc((size_t)(counts + 1) * sizeof(int64_t));
    if (!self->counts) {
        free(self);
        return NULL;
    }
    if (counts) {
        memcpy(self->counts, d->count_y, (size_t)d->p * sizeof(int64_t));
        memcpy(self->counts + d->p, d->count_x, (size_t)d->q * sizeof(int64_t));
        self->d.count_y = self->counts;
        self->d.count_x = self->counts + d->p;
    }
    self->base.run = plan_run;
    self->base.out_apart = d->nhwc && !d->global && !d->half;
    self->base.run_apart = plan_run_apart;
    self->base.destroy = plan_destroy;
    if (hwkit_pool_prepare(&self->d)) {
        plan_destroy(&self->base);
        return NULL;
    }
    self->base.workspace = (int64_t)self->d.scratch_bytes * d->threads;
    self->base.seconds = 1e-9 * estimate_ns(d);
    return &self->base;
}
