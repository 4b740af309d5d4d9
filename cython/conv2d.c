/* Blocking loops of convolutions, compiled once; see gemm.c for how types are handled. */
#include "conv2d_plan.h"
#include "layout.h"
#include "strassen.h"
#include "threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a pixel from which on it is worth a gap behind it. */
enum { FAR_APART = 1024 };

/* ---- weights ----------------------------------------------------------------------------------- */

static int64_t weight_panels(const plan *p)
{
    return hwkit_parts(p->kg, p->c.algorithm == HWKIT_CONV_DIRECT ? p->width : p->c.rows);
}

/* Rows of a panel come as [channel][tap] in nchw, and are wanted as [tap][channel]. */
static int turns_taps(const plan *p)
{
    return p->c.algorithm == HWKIT_CONV_DIRECT && !p->pairs && !p->c.block_float && !p->c.nhwc &&
           p->c.r * p->c.s > 1;
}

static int pack_by_tap(const plan *p, char *to, const char *w, int64_t j)
{
    const int count = (int)hwkit_min(p->width, p->kg - j);
    const int wide = (int)hwkit_round_up(count, p->vl);
    const int64_t taps = p->c.r * p->c.s, row = (int64_t)wide * p->size;
    char *turned = hwkit_scratch(HWKIT_SCRATCH_THREAD, p->whole * row);
    if (!turned)
        return 0;
    p->table->pack_transposed(turned, w + j * p->whole * p->size, p->whole, p->whole, count, wide);
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < p->cg; c++)
            memcpy(to + (t * p->cg + c) * row, turned + (c * taps + t) * row, (size_t)row);
    return 1;
}

/* Panel number `panel`, counted over all groups; 0 if memory is short, -1 as hwkit_block_float_pack. */
static int pack_weights(const plan *p, char *to, const char *w, int64_t panel)
{
    const int64_t group = panel / weight_panels(p), index = panel % weight_panels(p);
    to += group * p->group_bytes;
    w += group * p->kg * p->c.r * p->c.s * p->tap;
    if (p->pairs)
        return hwkit_pairs_pack(p, to, w, index);
    if (p->c.block_float)
        return hwkit_block_float_pack(p, to, w, index);
    if (p->c.algorithm == HWKIT_CONV_PACKED) {
        int64_t i = index * p->c.rows;
        int count = (int)hwkit_min(p->c.rows, p->kg - i);
        p->table->pack_transposed(to + i * p->whole * p->size, w + i * p->whole * p->size, p->whole,
                                  p->whole, count, count);
        return 1;
    }
    if (turns_taps(p))
        return pack_by_tap(p, to + index * p->width * p->whole * p->size, w, index * p->width);
    hwkit_pack_panels(p->kernels, p->size, to, w, p->whole, 1, p->kg, p->whole, p->width, index,
                      index + 1);
    return 1;
}

/* What a thread needs to pack a panel. */
static int64_t packing_bytes(const plan *p)
{
    return p->pairs           ? hwkit_pairs_packing_bytes(p)
           : p->c.block_float ? hwkit_block_float_packing_bytes(p)
           : turns_taps(p)    ? p->whole * p->width * p->size
                              : 0;
}

static void pack_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const plan *p = x->p;
    const int64_t all = weight_panels(p) * p->c.groups;
    for (int64_t i = chunk * x->share; i < hwkit_min((chunk + 1) * x->share, all); i++) {
        const int done = pack_weights(p, x->pack_to, x->w, i);
        if (!done)
            x->failed = 1;
        if (done < 0)
            x->unfit = 1;
    }
}

/* ---- runs -------------------------------------------------------------------------------------- */

static int64_t weights_bytes(const plan *p)
{
    return p->c.groups * p->group_bytes;
}

static hwkit_pairs_range range_of_weights(const plan *p, const void *w)
{
    return hwkit_pairs_range_of(w, p->c.k * p->c.r * p->c.s * p->tap / (int64_t)sizeof(uint16_t));
}

static int run_apart(const hwkit_plan *base, const void *const *operands, void *out, int64_t x_row,
                     int64_t out_row)
{
    (void)x_row;
    const plan *p = (const plan *)base;
    const hwkit_conv2d *c = &p->c;
    const void *all[KINDS];
    hwkit_bind(&p->operands, KINDS, operands, all);
    job x = {.p = p, .x = all[X], .w = all[W], .weights = all[W], .out = out, .row = out_row};
    x.epilogue = (hwkit_epilogue){.act = c->act, .alpha = 1, .out = out, .bias = all[BIAS]};
    x.epilogue.residual = all[RESIDUAL];
    x.epilogue.bias_per_row = c->algorithm == HWKIT_CONV_PACKED;
    x.any = all[BIAS] || all[RESIDUAL] || c->act.kind != HWKIT_IDENTITY;
    const hwkit_pairs_range range = !p->pairs            ? (hwkit_pairs_range){0, 0}
                                    : p->operands.held[W] ? p->range
                                                          : range_of_weights(p, all[W]);
    if (p->pairs && !hwkit_pairs_suit(range))
        return hwkit_pairs_run_plain(p, all, out);
    x.unfit = p->unfit;
    if (!p->operands.held[W]) {
        const int64_t panels = weight_panels(p) * c->groups;
        if (!(x.pack_to = hwkit_scratch(HWKIT_SCRATCH_SHARED, weights_bytes(p))))
            return HWKIT_NO_MEMORY;
        x.weights = x.pack_to;
        x.share = hwkit_parts(panels, 4 * (int64_t)c->threads);
        hwkit_parallel_work(hwkit_parts(panels, x.share), pack_chunk, &x, c->threads,
                            c->k * p->whole / 2);
    }
    if (x.unfit)
        return hwkit_block_float_run_plain(p, all, out, out_row, weights_bytes(p));
    const int direct = c->algorithm == HWKIT_CONV_DIRECT;
    if (direct && c->x_planes && c->c > 1) {
        x.x = hwkit_channels_last(p->x_size, all[X], c->n, c->c, p->area, p->x_row, c->threads);
        if (!x.x)
            return HWKIT_NO_MEMORY;
    }
    const int64_t chunks = c->n * c->groups * hwkit_parts(p->out_area, c->pixels) *
                           hwkit_parts(p->kg, c->channels);
    hwkit_parallel_work(chunks, direct ? hwkit_conv2d_direct_chunk : hwkit_conv2d_packed_chunk, &x, c->threads,
                        1e9 * base->seconds);
    if (p->pairs && !x.failed && !hwkit_pairs_trusted(p, all[X], range, out))
        return hwkit_pairs_run_plain(p, all, out);
    if (x.unfit && !x.failed)
        return hwkit_block_float_run_plain(p, all, out, out_row, weights_bytes(p));
    return x.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static int run(const hwkit_plan *base, const void *const *operands, void *out)
{
    return run_apart(base, operands, out, 0, ((const plan *)base)->c.k);
}

static void destroy(hwkit_plan *base)
{
    plan *p = (plan *)base;
    hwkit_release(&p->operands);
    hwkit_free(p->zeros);
    free(p->starts);
    free(p);
}

/* What is held of weights: packed, and of those that are rounded as they came too. */
static int64_t held_bytes(const plan *p)
{
    return weights_bytes(p) + (p->c.block_float ? hwkit_block_float_plain_bytes(p) : 0);
}

static void *pack_whole(plan *p, const void *w)
{
    char *to = hwkit_alloc(held_bytes(p));
    for (int64_t i = 0; to && i < weight_panels(p) * p->c.groups; i++) {
        const int done = pack_weights(p, to, w, i);
        if (!done) {
            hwkit_free(to);
            return NULL;
        }
        p->unfit |= done < 0;
    }
    if (to && p->c.block_float)
        memcpy(to + weights_bytes(p), w, (size_t)hwkit_block_float_plain_bytes(p));
    return to;
}

/* Zero times what is not finite is NaN, in the padding too. */
static int all_finite(const plan *p, const void *w)
{
    int good = 1;
    if (p->pairs)
        return range_of_weights(p, w).most < HWKIT_PAIRS_INFINITE;
    if (p->c.block_float) /* others are not multiplied */
        return 1;
    for (int64_t i = 0; i < p->c.k * p->whole; i++)
        good &= isfinite(p->c.is_double ? ((const double *)w)[i] : ((const float *)w)[i]);
    return good;
}

/* Taps in the padding are left out if their weights are finite: whole rows of them, and columns that
 * lie so far apart that they are beside the image for whole tiles. */
static void set_borders(plan *p, const void *w)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t lowest = c->h + c->top - (c->r - 1) * c->dilation_y;
    const int64_t upper = hwkit_parts(c->top, c->stride_y) * c->q;
    const int64_t lower = lowest > 0 ? hwkit_parts(lowest, c->stride_y) * c->q : 0;
    const int direct = c->algorithm == HWKIT_CONV_DIRECT;
    const int rows = direct && (upper > 0 || lower < p->out_area);
    const int columns = direct && !p->pairs && c->s > 1 && !c->merge && c->dilation_x >= c->rows * c->stride_x &&
                        (c->left > 0 || (c->q - 1) * c->stride_x - c->left +
                                                (c->s - 1) * c->dilation_x >= c->w);
    /* weights are looked at only where that saves something */
    if (!(rows || columns) || !all_finite(p, w))
        return;
    p->leaves_columns = columns;
    if (!rows)
        return;
    p->upper = upper;
    p->lower = lower;
    p->leaves_out = 1;
}

static hwkit_plan *prepack(const hwkit_plan *base, const hwkit_constants *constants)
{
    const plan *old = (const plan *)base;
    const void *w = hwkit_constant(&old->operands, constants, W);
    plan *p = malloc(sizeof *p);
    if (!p)
        return NULL;
    *p = *old;
    if (w)
        set_borders(p, w);
    if (w && p->pairs)
        p->range = range_of_weights(p, w);
    p->zeros = hwkit_alloc_zeros(p->cg * p->size);
    if (hwkit_conv2d_find_starts(p) && hwkit_hold(&p->operands, &old->operands, constants, W) &&
        p->zeros && (!w || hwkit_keep(&p->operands, W, pack_whole(p, w), held_bytes(p))))
        return &p->base;
    destroy(&p->base);
    return NULL;
}

/* Converted are, of windows of one tap, the pixels only that are used. */
static void set_strip(plan *p)
{
    hwkit_conv2d *c = &p->c;
    p->skip_x = c->block_float && c->s == 1 ? c->stride_x : 1;
    p->skip_y = c->block_float && c->r == 1 ? c->stride_y : 1;
    p->step_x = c->stride_x / p->skip_x;
    p->step_y = c->stride_y / p->skip_y;
    p->strip_width = (c->q - 1) * p->step_x + (c->s - 1) * c->dilation_x + 1;
    if (p->one_line)
        return;
    p->out_rows = hwkit_even(c->p, hwkit_max(c->pixels / c->q, 1), 1);
    c->pixels = p->out_rows * c->q;
}

static void set_sizes(plan *p)
{
    hwkit_conv2d *c = &p->c;
    const hwkit_isa *isa = hwkit_isa_get();
    p->kernels = c->is_double ? &isa->f64 : &isa->f32;
    p->table = p->kernels->gemm;
    p->pairs = c->algorithm == HWKIT_CONV_DIRECT && c->way.pairs;
    p->by_row = p->pairs         ? hwkit_pairs_table()->by_row
                : c->block_float ? hwkit_block_float_get()->by_row
                                 : p->table->by_row;
    p->by_step = p->pairs ? hwkit_pairs_table()->by_step : p->table->by_step;
    p->vl = p->pairs || c->block_float ? HWKIT_PAIRS_VECTOR : p->kernels->vl;
    p->size = c->is_double ? 8 : 4;
    p->x_size = p->out_size = p->pairs ? 2 : p->size;
    p->width = c->vectors * p->vl;
    /* Rows a power of two apart would fight for the same sets of the first cache. */
    const int apart = c->x_planes && !c->merge && c->c * p->x_size >= FAR_APART;
    p->x_row = apart ? hwkit_odd_lines(c->c, p->x_size) : c->c;
    p->pixel = p->x_row * p->x_size;
    p->tap = c->c / c->groups * p->x_size;
    p->blocks = hwkit_block_float_of(c->c);
    p->cg = c->block_float ? p->blocks.words : c->c / c->groups;
    p->kg = c->k / c->groups;
    p->copied = c->merge;
    p->flat = c->r * c->s == 1 && c->stride_y * c->stride_x == 1 && !c->top && !c->left &&
              c->p == c->h && c->q == c->w;
    p->area = c->h * c->w;
    p->out_area = c->p * c->q;
    p->segments = c->merge && c->dilation_x == 1 ? c->r : c->r * c->s;
    p->across = p->segments / c->r;
    p->depth = p->cg * (c->s / p->across);
    p->odd = p->pairs && p->depth % 2;
    p->depth = p->pairs ? hwkit_parts(p->depth, 2) : p->depth;
    p->whole = p->segments * p->depth;
    p->lower = p->out_area;
    /* pairs are rounded at once, and blocks are not cut */
    c->kc = p->pairs || c->block_float ? p->whole : hwkit_min(c->kc, p->whole);
    if (c->algorithm == HWKIT_CONV_DIRECT) {
        c->channels = hwkit_even(p->kg, c->channels, p->width);
        /* Whole tiles, except where that would make one of a few blocks much larger than the others. */
        c->pixels = hwkit_even(p->out_area, c->pixels, c->pixels < 32 * c->rows ? 1 : c->rows);
        p->group_bytes = hwkit_panels_bytes(p->kg, p->whole, p->width, p->vl, p->size);
        if (c->merge)
            set_strip(p);
        p->tiles = c->merge && !p->one_line ? p->out_rows * hwkit_parts(c->q, c->rows)
                                            : hwkit_parts(c->pixels, c->rows);
    } else {
        c->channels = hwkit_even(p->kg, c->channels, c->rows);
        c->pixels = hwkit_even(p->out_area, c->pixels, p->width);
        p->group_bytes = p->kg * p->whole * p->size;
    }
    p->group_bytes = hwkit_round_up(p->group_bytes, 64);
}

static int64_t workspace(const plan *p)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t bytes = weights_bytes(p);
    if (c->algorithm == HWKIT_CONV_PACKED)
        return bytes + c->threads * hwkit_conv2d_packed_depth(p) * c->pixels * p->size;
    return bytes + c->threads * hwkit_max(hwkit_conv2d_direct_space(p), packing_bytes(p)) +
           (c->x_planes ? c->n * p->area * p->pixel : 0);
}

hwkit_plan *hwkit_conv2d_plan(const hwkit_conv2d *given)
{
    if (given->algorithm == HWKIT_CONV_TILES)
        return hwkit_amx_conv2d_plan(given);
    if (given->algorithm == HWKIT_CONV_STRASSEN)
        return hwkit_strassen_conv2d_plan(given);
    if (given->algorithm == HWKIT_CONV_DOT)
        return hwkit_dot_conv2d_plan(given);
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = *given;
    p->c.x_planes |= !given->nhwc;
    if (given->block_float)
        p->one_line = hwkit_block_float_flatten(&p->c);
    set_sizes(p);
    p->zeros = hwkit_alloc_zeros(p->cg * p->size);
    if (!hwkit_conv2d_find_starts(p) || !p->zeros) {
        hwkit_free(p->zeros);
        free(p->starts);
        free(p);
        return NULL;
    }
    p->operands = (hwkit_operands){
        .kinds = KINDS, .present = {1, 1, given->has_bias, given->has_residual}};
    p->base.run = run;
    /* A residual is laid out like the result. */
    p->base.out_apart = given->nhwc && !given->has_residual && !p->pairs;
    p->base.run_apart = run_apart;
    p->base.prepack = prepack;
    p->base.destroy = destroy;
    p->base.workspace = workspace(p);
    p->base.seconds =
        hwkit_product_seconds((double)p->c.n * (double)given->k * (double)p->out_area *
                                  (double)p->whole, p->vl);
    return &p->base;
}
