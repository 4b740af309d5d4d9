/* How a depthwise convolution is cut into tasks; the work is done by the kernels of an ISA. */
#include "depthwise.h"

#include "cpuinfo.h"
#include "isa.h"
#include "sizes.h"
#include "run.h"
#include "threads.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const size_t MOST_SCRATCH = (size_t)1 << 30;

static int64_t item_size(const hwkit_depthwise *d)
{
    return d->is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
}

int hwkit_depthwise_by_vectors(const hwkit_depthwise *d)
{
    return d->nhwc || d->transpose;
}

hwkit_depthwise hwkit_depthwise_part(const hwkit_depthwise *d, int64_t p0, int64_t p1, int64_t k0,
                                     int64_t k1, int64_t *y)
{
    const int64_t first = p0 * d->sy - d->top;
    const int64_t behind = first + (p1 - p0 - 1) * d->sy + (d->r - 1) * d->dy + 1;
    const int64_t from = first < 0 ? 0 : hwkit_min(first, d->h);
    const int64_t to = hwkit_max(hwkit_min(behind, d->h), from);
    hwkit_depthwise part = *d;
    part.n = 1;
    part.c = (k1 - k0) / (d->k / d->c);
    part.k = part.pixel = k1 - k0;
    part.h = to - from;
    part.p = p1 - p0;
    part.top = from - first;
    part.packed = (const char *)d->packed + k0 * d->r * d->s * d->mix * item_size(d);
    part.bias = d->bias ? (const char *)d->bias + k0 * item_size(d) : NULL;
    *y = from;
    return part;
}

/* Take the kernel that computes with narrow elements as they are; 0 where there is none, or a wide piece does
 * as well. Other activations than bounds go by a wide piece: they are not computed of what is rounded already. */
static int prepare_narrow(hwkit_depthwise *d)
{
    const hwkit_isa *isa = hwkit_isa_get();
    const hwkit_depthwise_narrow_kernels *kernels =
        isa == &hwkit_isa_avx512 ? &hwkit_depthwise_narrow_avx512
        : isa == &hwkit_isa_avx2 ? &hwkit_depthwise_narrow_avx2
                                 : NULL;
    d->narrow = d->pairs = 0;
    if (!d->half || !d->nhwc || !kernels || !kernels->bf16 || d->act.kind > HWKIT_CLAMP ||
        !(hwkit_cpu()->bits & HWKIT_F16C))
        return 0;
    /* AVX2 has no masks for 16 bits, and no registers for what many overlapping taps have in common. */
    if (isa == &hwkit_isa_avx2 && (d->k % d->vl || (d->s > 3 && d->sx == 1)))
        return 0;
    d->narrow = 1;
    /* Many overlapping taps leave no registers for two vectors, and a last one may be empty. */
    d->pairs = d->half == HWKIT_HALF_BF16 && d->mix == 1 && kernels->bf16_pairs &&
               (d->s <= 3 || d->sx > 1) &&
               16 * hwkit_parts(d->k, 2 * d->vl) <= 9 * hwkit_parts(d->k, d->vl);
    d->vl *= 1 + d->pairs;
    d->fn = d->half == HWKIT_HALF_F16 ? kernels->f16 : d->pairs ? kernels->bf16_pairs : kernels->bf16;
    return 1;
}

/* Room for wide pieces behind what the kernel needs. */
static int prepare_half(hwkit_depthwise *d)
{
    if (!d->half)
        return 0;
    hwkit_depthwise_half_prepare(d);
    if (!d->piece_channels)
        return -1;
    d->scratch_bytes = (d->scratch_bytes + 63) / 64 * 64 + d->wide_bytes;
    return 0;
}

int hwkit_depthwise_prepare(hwkit_depthwise *d)
{
    const hwkit_isa *isa = hwkit_isa_get();
    const size_t item = (size_t)item_size(d);
    const hwkit_kernels *kernels = d->is_double ? &isa->f64 : &isa->f32;
    d->vl = kernels->vl;
    d->turn = kernels->gemm->transpose;
    /* The distance of taps means nothing where there is one; it could be any number. */
    d->dy = d->r == 1 ? 1 : d->dy;
    d->dx = d->s == 1 ? 1 : d->dx;
    d->rows = d->rows < 1 ? 1 : d->rows > d->p ? d->p : d->rows;
    d->lo = d->act.kind == HWKIT_CLAMP ? d->act.lo : -INFINITY;
    d->hi = d->act.kind == HWKIT_CLAMP ? d->act.hi : INFINITY;
    d->block = d->block < 1 ? 1 : d->block > d->k ? d->k : d->block;
    if ((d->half && d->is_double) || (d->transpose && (d->nhwc || d->k != d->c)))
        return -1;
    if (d->mix > 1 && (d->k != d->c || !hwkit_depthwise_by_vectors(d) || d->mix > d->vl))
        return -1;
    const int narrow = prepare_narrow(d);
    const int64_t vl = d->vl;
    if (d->half) /* a piece has all outputs of its channels */
        d->block = hwkit_parts(d->block, d->k / d->c) * (d->k / d->c);
    if (hwkit_depthwise_by_vectors(d) && d->block < d->k) /* whole vectors */
        d->block = hwkit_parts(d->block, vl) * vl;
    /* Sizes can be anything below 2**63, so the bound is checked in floating point first. */
    double reach = (double)(d->rows - 1) * (double)d->sy + (double)(d->r - 1) * (double)d->dy + 1;
    if (d->nhwc) {
        double pointers = (double)d->r * ((double)d->s * 8 + 16), spread = 0;
        if (d->k != d->c) {
            d->block = d->k; /* a task repeats the channels of its rows once */
            spread = (reach < (double)d->h ? reach : (double)d->h) * (double)d->w * (double)d->k;
        }
        if (pointers * sizeof(void *) + spread * (double)item > (double)MOST_SCRATCH)
            return -1;
        d->fn = narrow ? d->fn : kernels->depthwise->nhwc;
        d->pointer_bytes = ((size_t)pointers * sizeof(void *) + 63) / 64 * 64;
        d->scratch_bytes = d->pointer_bytes + (size_t)spread * item;
        return narrow ? 0 : prepare_half(d);
    }
    if (d->transpose) {
        const double pointers = (double)d->r * ((double)d->s * 8 + 16) * sizeof(void *) + 64;
        const double room = hwkit_depthwise_transposed_prepare(d);
        if (pointers + room > (double)MOST_SCRATCH)
            return -1;
        d->fn = hwkit_depthwise_transposed;
        d->nhwc_fn = kernels->depthwise->nhwc;
        d->pointer_bytes = (size_t)pointers / 64 * 64;
        d->scratch_bytes = d->pointer_bytes + (size_t)room;
        return prepare_half(d);
    }
    d->in_place = d->r == d->s && (d->s == 3 || d->s == 5) && d->sx == d->sy && d->sx <= 2 &&
                  d->dx == 1 && d->dy == 1;
    if (d->in_place) { /* a row of zeros */
        if ((double)d->w * (double)item > (double)MOST_SCRATCH)
            return -1;
        d->fn = kernels->depthwise->nchw;
        d->scratch_bytes = (size_t)d->w * item;
        return prepare_half(d);
    }
    double phase = (double)((hwkit_parts(d->q, vl) + 1) * vl) +
                   (double)(d->s - 1) * (double)d->dx / (double)d->sx;
    if ((phase + 1) * (double)d->sx * reach * (double)item > (double)MOST_SCRATCH)
        return -1;
    d->fn = kernels->depthwise->nchw;
    d->phase = (hwkit_parts(d->q, vl) + 1) * vl + (d->s - 1) * d->dx / d->sx;
    d->scratch_bytes = (size_t)(d->phase * d->sx) * (size_t)reach * item;
    return prepare_half(d);
}

int64_t hwkit_depthwise_packed_bytes(const hwkit_depthwise *d)
{
    const int64_t k = hwkit_depthwise_by_vectors(d) ? hwkit_parts(d->k, d->vl) * d->vl : d->k;
    return k * d->r * d->s * d->mix * item_size(d);
}

/* Elements of the weights as they come. */
static int64_t weights_of(const hwkit_depthwise *d)
{
    return d->k * d->r * d->s * d->mix;
}

void hwkit_depthwise_pack(const hwkit_depthwise *d, const void *w, void *packed)
{
    const int64_t taps = d->r * d->s, vl = d->vl;
    const size_t bytes = (size_t)hwkit_depthwise_packed_bytes(d);
    if (!hwkit_depthwise_by_vectors(d)) {
        memcpy(packed, w, bytes);
        return;
    }
    /* The taps of a vector lie together: [tap][k] would put them into the same sets of the first
     * cache wherever k is a multiple of 512. */
    memset(packed, 0, bytes);
    if (d->mix == 1) {
        const int64_t apart = 1 + d->pairs, lanes = vl / apart;
        for (int64_t k = 0; k < d->k; k += vl)
            for (int64_t odd = 0; odd < hwkit_min(apart, d->k - k); odd++)
                d->turn((char *)packed + (k + odd * lanes) * taps * item_size(d), lanes,
                        (const char *)w + (k + odd) * taps * item_size(d), apart * taps, taps,
                        hwkit_min(lanes, hwkit_parts(d->k - k - odd, apart)));
        return;
    }
    for (int64_t from = 0; from < weights_of(d); from++) {
        const int64_t k = from / (taps * d->mix), rest = from % (taps * d->mix);
        const int64_t t = d->nhwc ? rest / d->mix : rest % taps;
        const int64_t c = d->nhwc ? rest % d->mix : rest / taps;
        const int64_t to = ((k / vl * taps + t) * d->mix + c) * vl + k % vl;
        if (d->is_double)
            ((double *)packed)[to] = ((const double *)w)[from];
        else
            ((float *)packed)[to] = ((const float *)w)[from];
    }
}

typedef struct {
    const hwkit_depthwise *d;
    int64_t row_blocks, blocks;
    _Atomic int failed;
} job;

static void task(void *ctx, int64_t chunk)
{
    job *j = ctx;
    const hwkit_depthwise *d = j->d;
    /* Channels of the same rows are neighbours, so that tasks in turn share their cache lines. The
     * first chunk, which may be the only one, needs none of the slow divisions. */
    int64_t block = 0, row = 0, image = 0;
    if (chunk) {
        block = chunk % j->blocks;
        row = chunk / j->blocks % j->row_blocks;
        image = chunk / j->blocks / j->row_blocks;
    }
    int64_t p0 = row * d->rows, p1 = d->p - p0 < d->rows ? d->p : p0 + d->rows;
    int64_t k0 = block * d->block, k1 = d->k - k0 < d->block ? d->k : k0 + d->block;
    void *scratch = hwkit_scratch(HWKIT_SCRATCH_THREAD, (int64_t)d->scratch_bytes);
    if (!scratch) {
        atomic_store(&j->failed, 1);
        return;
    }
    (d->half && !d->narrow ? hwkit_depthwise_half_task : d->fn)(d, image, p0, p1, k0, k1, scratch);
}

/* 16 flops a nanosecond: what one core reaches when the image comes from the outer caches. */
static double estimate_ns(const hwkit_depthwise *d)
{
    return (double)d->n * (double)d->p * (double)d->q * (double)d->k * (double)(d->r * d->s * d->mix) / 8;
}

/* ceil_div; a division takes longer than a small image. */
static int64_t blocks_of(int64_t size, int64_t block)
{
    return block >= size ? 1 : hwkit_parts(size, block);
}

int hwkit_depthwise_run(const hwkit_depthwise *d)
{
    job j = {.d = d, .row_blocks = blocks_of(d->p, d->rows), .blocks = blocks_of(d->k, d->block)};
    if (d->n == 0 || d->p == 0 || d->q == 0 || d->k == 0)
        return 0;
    hwkit_parallel_work(d->n * j.row_blocks * j.blocks, task, &j, d->threads,
                        estimate_ns(d));
    return atomic_load(&j.failed) ? -1 : 0;
}

/* ---- the plan -------------------------------------------------------------------------------- */

enum { X, W, BIAS, RESIDUAL, KINDS };

typedef struct {
    hwkit_plan base;
    hwkit_depthwise d;
    hwkit_operands operands; /* W is held packed */
    void *zeros;
} plan;

/* Wide copies of weights and bias, which all tasks share; 0 if memory is short. */
static int widen_constants(const plan *self, const void **all)
{
    const hwkit_depthwise *d = &self->d;
    const int64_t weights = self->operands.held[W] ? 0 : weights_of(d);
    const int64_t biases = all[BIAS] ? d->k : 0;
    float *wide = hwkit_scratch(HWKIT_SCRATCH_DTYPE, (weights + biases) * (int64_t)sizeof(float));
    if (!wide)
        return 0;
    hwkit_half_widen(d->half, all[BIAS], wide, biases, 1);
    hwkit_half_widen(d->half, all[W], wide + biases, weights, 1);
    all[BIAS] = biases ? wide : NULL;
    all[W] = weights ? wide + biases : all[W];
    return 1;
}

static int plan_run_apart(const hwkit_plan *base, const void *const *operands, void *out,
                          int64_t x_row, int64_t out_row)
{
    (void)out_row;
    const plan *self = (const plan *)base;
    hwkit_depthwise d = self->d;
    const void *all[KINDS];
    hwkit_bind(&self->operands, KINDS, operands, all);
    if (d.half && !widen_constants(self, all))
        return HWKIT_NO_MEMORY;
    if (hwkit_depthwise_by_vectors(&d) && !self->operands.held[W]) {
        void *packed = hwkit_scratch(HWKIT_SCRATCH_SHARED, hwkit_depthwise_packed_bytes(&d));
        if (!packed)
            return HWKIT_NO_MEMORY;
        hwkit_depthwise_pack(&d, all[W], packed);
        all[W] = packed;
    }
    d.x = all[X];
    d.packed = all[W];
    d.bias = all[BIAS];
    d.residual = all[RESIDUAL];
    d.out = out;
    d.pixel = x_row;
    d.zeros = self->zeros;
    return hwkit_depthwise_run(&d) ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static int plan_run(const hwkit_plan *base, const void *const *operands, void *out)
{
    return plan_run_apart(base, operands, out, ((const plan *)base)->d.k, 0);
}

static void plan_destroy(hwkit_plan *base)
{
    plan *self = (plan *)base;
    hwkit_release(&self->operands);
    hwkit_free(self->zeros);
    free(self);
}

static void *pack_whole(const hwkit_depthwise *d, const void *w)
{
    void *packed = hwkit_alloc(hwkit_depthwise_packed_bytes(d));
    const int64_t n = d->half ? weights_of(d) : 0;
    float *wide = hwkit_alloc(n * (int64_t)sizeof(float));
    if (packed && wide) {
        hwkit_half_widen(d->half, w, wide, n, 1);
        hwkit_depthwise_pack(d, d->half ? wide : w, packed);
    } else {
        hwkit_free(packed);
        packed = NULL;
    }
    hwkit_free(wide);
    return packed;
}

static hwkit_plan *plan_prepack(const hwkit_plan *base, const hwkit_constants *constants)
{
    const plan *old = (const plan *)base;
    const hwkit_depthwise *d = &old->d;
    const void *w = hwkit_constant(&old->operands, constants, W);
    plan *made = (plan *)hwkit_depthwise_plan(d, old->operands.present[BIAS],
                                              old->operands.present[RESIDUAL]);
    if (!made)
        return NULL;
    if (hwkit_hold(&made->operands, &old->operands, constants, W) &&
        (!w || hwkit_keep(&made->operands, W, pack_whole(d, w), hwkit_depthwise_packed_bytes(d))))
        return &made->base;
    plan_destroy(&made->base);
    return NULL;
}

hwkit_plan *hwkit_depthwise_plan(const hwkit_depthwise *d, int has_bias, int has_residual)
{
    plan *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->zeros = hwkit_alloc_zeros(d->k * item_size(d));
    if (!self->zeros) {
        free(self);
        return NULL;
    }
    self->d = *d;
    self->operands =
        (hwkit_operands){.kinds = KINDS, .present = {1, 1, has_bias, has_residual}};
    self->base.run = plan_run;
    self->base.x_apart = d->nhwc && (!d->half || d->narrow) && d->k == d->c;
    self->base.run_apart = plan_run_apart;
    self->base.prepack = plan_prepack;
    self->base.destroy = plan_destroy;
    self->base.workspace = (int64_t)d->scratch_bytes * d->threads +
                           (hwkit_depthwise_by_vectors(d) ? hwkit_depthwise_packed_bytes(d) : 0) +
                           (d->half ? (weights_of(d) + has_bias * d->k) * item_size(d) : 0);
    self->base.seconds = 1e-9 * estimate_ns(d);
    return &self->base;
}
