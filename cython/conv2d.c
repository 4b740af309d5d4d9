/* Blocking loops of convolutions, compiled once; see gemm.c for how types are handled. */
#include "conv2d_plan.h"
#include "layout.h"
#include "strassen.h"
#include "threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- weights ----------------------------------------------------------------------------------- */

static int64_t weight_panels(const plan *p)
{
    return hwkit_parts(p->kg, p->c.algorithm == HWKIT_CONV_DIRECT ? p->width : p->c.rows);
}

/* Rows of a panel come as [channel][tap] in nchw, and are wanted as [tap][channel]. */
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

/* Panel number `panel`, counted over all groups. */
static int pack_weights(const plan *p, char *to, const char *w, int64_t panel)
{
    const int64_t group = panel / weight_panels(p), index = panel % weight_panels(p);
    to += group * p->group_bytes;
    w += group * p->kg * p->c.r * p->c.s * p->tap;
    if (p->pairs)
        return hwkit_pairs_pack(p, to, w, index);
    if (p->c.algorithm == HWKIT_CONV_PACKED) {
        int64_t i = index * p->c.rows;
        int count = (int)hwkit_min(p->c.rows, p->kg - i);
        p->table->pack_transposed(to + i * p->whole * p->size, w + i * p->whole * p->size, p->whole,
                                  p->whole, count, count);
        return 1;
    }
    if (!p->c.nhwc && p->c.r * p->c.s > 1)
        return pack_by_tap(p, to + index * p->width * p->whole * p->size, w, index * p->width);
    hwkit_pack_panels(p->kernels, p->size, to, w, p->whole, 1, p->kg, p->whole, p->width, index,
                      index + 1);
    return 1;
}

static void pack_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const plan *p = x->p;
    const int64_t all = weight_panels(p) * p->c.groups;
    for (int64_t i = chunk * x->share; i < hwkit_min((chunk + 1) * x->share, all); i++)
        if (!pack_weights(p, x->pack_to, x->w, i))
            x->failed = 1;
}

/* ---- direct ------------------------------------------------------------------------------------ */

/* What one thread needs for a chunk. */
typedef struct {
    const void **rows; /* for each tile [segments][rows of the tile] */
    char *strip;       /* merge: padded input rows */
    char *panels;      /* pack_a: a block of pixels */
    char *block;       /* nchw: the result, [pixels][channels] */
    char *residual;    /* nchw: the same of the residual */
} space;

enum { ROWS, STRIP, PANELS, BLOCK, OTHER, SPACES };

/* Where each of them starts, in bytes; returns how many there are. */
static int64_t lay_out(const plan *p, int64_t start[SPACES])
{
    const hwkit_conv2d *c = &p->c;
    const int64_t strip = (p->out_rows - 1) * c->stride_y + (c->r - 1) * c->dilation_y + 1;
    const int64_t block = c->nhwc ? 0 : c->pixels * c->channels * p->size;
    const int64_t bytes[SPACES] = {
        [ROWS] = c->pixels * p->segments * (int64_t)sizeof(void *),
        [STRIP] = c->merge ? strip * p->strip_width * p->cg * p->size : 0,
        [PANELS] = c->pack_a ? c->pixels * hwkit_max(c->kc, p->depth) * p->size : 0,
        [BLOCK] = block,
        [OTHER] = c->has_residual ? block : 0,
    };
    int64_t at = 0;
    for (int i = 0; i < SPACES; i++) {
        start[i] = at;
        at += hwkit_round_up(bytes[i], 64);
    }
    return at;
}

static int find_space(const plan *p, space *s)
{
    int64_t start[SPACES];
    char *base = hwkit_scratch(HWKIT_SCRATCH_THREAD, lay_out(p, start));
    if (!base)
        return 0;
    *s = (space){(const void **)(base + start[ROWS]), base + start[STRIP], base + start[PANELS],
                 base + start[BLOCK], base + start[OTHER]};
    return 1;
}

/* The input rows under output rows [y0, y1) with their padding. */
static void fill_strip(const plan *p, const char *x, char *strip, int64_t y0, int64_t y1)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t pixel = p->cg * p->size, width = p->strip_width;
    const int64_t rows = (y1 - 1 - y0) * c->stride_y + (c->r - 1) * c->dilation_y + 1;
    const int64_t lead = hwkit_min(c->left, width);
    const int64_t inside = hwkit_max(hwkit_min(c->w, width - lead), 0);
    for (int64_t i = 0; i < rows; i++, strip += width * pixel) {
        int64_t y = y0 * c->stride_y - c->top + i;
        if (y < 0 || y >= c->h) {
            memset(strip, 0, (size_t)(width * pixel));
            continue;
        }
        memset(strip, 0, (size_t)(lead * pixel));
        hwkit_pairs_copy(p, strip + lead * pixel, x + y * c->w * p->pixel, p->pixel, inside);
        memset(strip + (lead + inside) * pixel, 0, (size_t)((width - lead - inside) * pixel));
    }
}

/* merge: pointers of `some` output pixels of a tile of `count`, the first to the runs at `strip`. */
static void point_strip(const plan *p, const char *strip, const void **to, int64_t some,
                        int64_t count, int64_t step)
{
    const int64_t down = p->c.dilation_y * p->strip_width * p->cg * p->size;
    for (int64_t r = 0; r < p->c.r; r++, strip += down, to += count) {
        const char *at = strip;
        for (int64_t i = 0; i < some; i++, at += step)
            to[i] = at;
    }
}

/* Pointers of `some` output pixels of a tile of `count`, from (oy, ox) on, to what their taps see. */
static void point_taps(const plan *p, const char *x, const void **to, int64_t some, int64_t count,
                       int64_t oy, int64_t ox)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t pixel = p->pixel, x0 = ox * c->stride_x - c->left;
    int64_t y = oy * c->stride_y - c->top;
    for (int64_t r = 0; r < c->r; r++, y += c->dilation_y) {
        const int outside = y < 0 || y >= c->h;
        const char *line = outside ? p->zeros : x + y * c->w * pixel;
        for (int64_t t = 0; t < c->s; t++, to += count) {
            int64_t at = x0 + t * c->dilation_x;
            for (int64_t i = 0; i < some; i++, at += c->stride_x)
                to[i] = outside || at < 0 || at >= c->w ? p->zeros : line + at * pixel;
        }
    }
}

/* Pointers of output pixels [i0, i1) of an image, tile by tile. x: the image, at the group. */
static void point(const plan *p, const char *x, const space *s, int64_t i0, int64_t i1)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t pixel = p->cg * p->size, step = c->stride_x * pixel; /* of a strip */
    const int64_t first = i0 / c->q;
    int64_t oy = first, ox = i0 % c->q;
    const void **to = s->rows;
    int count;
    for (int64_t i = i0; i < i1; i += count) {
        count = hwkit_tile_rows(i1 - i, c->rows);
        for (int64_t row = 0; row < count;) {
            /* What is left of this tile and of this line of the image. */
            const int64_t some = hwkit_min(count - row, c->q - ox);
            const char *strip = s->strip + (oy - first) * c->stride_y * p->strip_width * pixel;
            if (c->merge)
                point_strip(p, strip + ox * step, to + row, some, count, step);
            else
                point_taps(p, x, to + row, some, count, oy, ox);
            row += some;
            ox += some;
            if (ox == c->q) {
                ox = 0;
                oy++;
            }
        }
        to += count * p->segments;
    }
}

/* One part of the depth: segments [segment, segment + segments), elements [skip, skip + depth). */
typedef struct {
    int64_t segment, segments, skip, depth;
} part;

/* The segments of `d` that pixels [first, last] of an image need: rows of taps that lie above or below
 * it for all of them are left out. */
static part seen_by(const plan *p, const part *d, int64_t first, int64_t last)
{
    const hwkit_conv2d *c = &p->c;
    part seen = *d;
    if (last >= p->upper && first < p->lower)
        return seen;
    const int64_t across = p->segments / c->r, end = d->segment + d->segments;
    const int64_t above = c->top - last / c->q * c->stride_y;
    const int64_t below = c->top + c->h - first / c->q * c->stride_y;
    const int64_t from = above > 0 ? hwkit_parts(above, c->dilation_y) * across : 0;
    const int64_t to = below > 0 ? hwkit_parts(below, c->dilation_y) * across : 0;
    seen.segment = hwkit_min(hwkit_max(from, d->segment), end);
    seen.segments = hwkit_max(hwkit_min(to, end) - seen.segment, 0);
    return seen;
}

static void direct_part(const job *x, const space *s, const part *d, const char *weights,
                        hwkit_tile *t, int64_t pixels, int64_t columns, char *out)
{
    const plan *p = x->p;
    const int rows = p->c.rows;
    const int64_t deep = d->segments * d->depth, at = d->segment * p->depth + d->skip;
    const int64_t column = t->column, row = t->row;
    t->depth = p->c.pack_a ? deep : d->depth;
    t->skip = d->skip;
    int count;
    for (int64_t i = 0; p->c.pack_a && i < pixels; i += count) {
        count = hwkit_tile_rows(pixels - i, rows);
        for (int64_t g = 0; g < d->segments; g++)
            p->table->pack_rows(s->panels + (i * deep + g * d->depth * count) * p->size,
                                s->rows + i * p->segments + (d->segment + g) * count, d->skip,
                                d->depth, count);
    }
    for (int64_t j = 0; j < columns; j += p->width) {
        t->columns = (int)hwkit_min(p->width, columns - j);
        const int vectors = (int)hwkit_parts(t->columns, p->vl);
        t->ldb = vectors * p->vl;
        const char *b = weights + (j * p->whole + at * t->ldb) * p->size;
        t->column = column + j;
        for (int64_t i = 0; i < pixels; i += count) {
            count = hwkit_tile_rows(pixels - i, rows);
            t->b = b;
            t->c = out + (i * t->ldc + j) * p->out_size;
            t->row = row + i;
            if (p->c.pack_a) {
                t->a = s->panels + i * deep * p->size;
                p->table->by_panel[vectors - 1][count - 1](t);
            } else {
                const part seen = seen_by(p, d, row + i, row + i + count - 1);
                if (!seen.segments && t->accumulate && !t->epilogue)
                    continue;
                t->rows = s->rows + i * p->segments + seen.segment * count;
                t->segments = seen.segments;
                t->b = b + (seen.segment - d->segment) * p->depth * t->ldb * p->size;
                p->by_row[vectors - 1][count - 1](t);
            }
        }
    }
    t->column = column;
    t->row = row;
}

/* All parts of the depth, each about kc, so that a panel of weights stays in the first cache. */
static void direct_parts(const job *x, const space *s, const char *weights, hwkit_tile *t,
                         int64_t pixels, int64_t columns, char *out)
{
    const plan *p = x->p;
    const int64_t cuts = hwkit_parts(p->depth, p->c.kc);
    const int64_t some = cuts > 1 ? 1 : hwkit_min(p->c.kc / p->depth, p->segments);
    const int64_t even = hwkit_parts(p->segments, hwkit_parts(p->segments, some));
    const int64_t deep = hwkit_parts(p->depth, cuts);
    part d;
    for (d.segment = 0; d.segment < p->segments; d.segment += even) {
        d.segments = hwkit_min(even, p->segments - d.segment);
        for (d.skip = 0; d.skip < p->depth; d.skip += deep) {
            d.depth = hwkit_min(deep, p->depth - d.skip);
            t->accumulate = d.segment > 0 || d.skip > 0;
            const int last = d.segment + d.segments == p->segments && d.skip + d.depth == p->depth;
            const hwkit_epilogue *e = t->epilogue;
            t->epilogue = last ? e : NULL;
            direct_part(x, s, &d, weights, t, pixels, columns, out);
            t->epilogue = e;
        }
    }
}

static void direct_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const plan *p = x->p;
    const hwkit_conv2d *c = &p->c;
    const int64_t across = hwkit_parts(p->kg, c->channels);
    const int64_t down = hwkit_parts(p->out_area, c->pixels);
    const int64_t n0 = chunk % across * c->channels, n1 = hwkit_min(n0 + c->channels, p->kg);
    const int64_t group = chunk / across % c->groups;
    const int64_t i0 = chunk / across / c->groups % down * c->pixels;
    const int64_t i1 = hwkit_min(i0 + c->pixels, p->out_area);
    const int64_t image = chunk / across / c->groups / down;
    const int64_t channel = group * p->kg + n0, count = i1 - i0, columns = n1 - n0;
    space s;
    if (!find_space(p, &s)) {
        x->failed = 1;
        return;
    }
    const char *from = x->x + image * p->area * p->pixel;
    if (c->merge)
        fill_strip(p, from, s.strip, i0 / c->q, hwkit_parts(i1, c->q));
    point(p, from + group * p->cg * p->size, &s, i0, i1);

    const char *weights = x->weights + group * p->group_bytes + n0 * p->whole * p->size;
    hwkit_epilogue e = x->epilogue;
    hwkit_tile t = {.ldc = x->row, .row = i0, .column = channel, .epilogue = x->any ? &e : NULL};
    if (c->nhwc) {
        char *out = x->out + ((image * p->out_area + i0) * x->row + channel) * p->out_size;
        direct_parts(x, &s, weights, &t, count, columns, out);
        return;
    }
    const int64_t at = ((image * c->k + channel) * p->out_area + i0) * p->size;
    t.ldc = columns;
    e.out = s.block;
    if (e.residual) {
        for (int64_t i = 0; i < count; i += HWKIT_TURN_PIXELS)
            p->table->transpose(s.residual + i * columns * p->size, columns,
                                (const char *)e.residual + at + i * p->size, p->out_area,
                                hwkit_min(HWKIT_TURN_PIXELS, count - i), columns);
        e.residual = s.residual;
    }
    direct_parts(x, &s, weights, &t, count, columns, s.block);
    for (int64_t i = 0; i < count; i += HWKIT_TURN_PIXELS)
        p->table->transpose(x->out + at + i * p->size, p->out_area,
                            s.block + i * columns * p->size, columns, columns,
                            hwkit_min(HWKIT_TURN_PIXELS, count - i));
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
    if (!p->operands.held[W]) {
        const int64_t panels = weight_panels(p) * c->groups;
        if (!(x.pack_to = hwkit_scratch(HWKIT_SCRATCH_SHARED, weights_bytes(p))))
            return HWKIT_NO_MEMORY;
        x.weights = x.pack_to;
        x.share = hwkit_parts(panels, 4 * (int64_t)c->threads);
        hwkit_parallel_work(hwkit_parts(panels, x.share), pack_chunk, &x, c->threads,
                            c->k * p->whole / 2);
    }
    const int direct = c->algorithm == HWKIT_CONV_DIRECT;
    if (direct && !c->nhwc && c->c > 1) {
        x.x = hwkit_channels_last(p->table, p->size, all[X], c->n, c->c, p->area, c->threads);
        if (!x.x)
            return HWKIT_NO_MEMORY;
    }
    const int64_t chunks = c->n * c->groups * hwkit_parts(p->out_area, c->pixels) *
                           hwkit_parts(p->kg, c->channels);
    hwkit_parallel_work(chunks, direct ? direct_chunk : hwkit_conv2d_packed_chunk, &x, c->threads,
                        1e9 * base->seconds);
    if (p->pairs && !x.failed && !hwkit_pairs_trusted(p, all[X], range, out))
        return hwkit_pairs_run_plain(p, all, out);
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
    free(p);
}

static void *pack_whole(const plan *p, const void *w)
{
    char *to = hwkit_alloc(weights_bytes(p));
    for (int64_t i = 0; to && i < weight_panels(p) * p->c.groups; i++)
        if (!pack_weights(p, to, w, i)) {
            hwkit_free(to);
            return NULL;
        }
    return to;
}

/* Zero times what is not finite is NaN, in the padding too. */
static int all_finite(const plan *p, const void *w)
{
    int good = 1;
    if (p->pairs)
        return range_of_weights(p, w).most < HWKIT_PAIRS_INFINITE;
    for (int64_t i = 0; i < p->c.k * p->whole; i++)
        good &= isfinite(p->c.is_double ? ((const double *)w)[i] : ((const float *)w)[i]);
    return good;
}

/* Rows of taps in the padding are left out if their weights are finite. */
static void set_borders(plan *p, const void *w)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t lowest = c->h + c->top - (c->r - 1) * c->dilation_y;
    const int64_t upper = hwkit_parts(c->top, c->stride_y) * c->q;
    const int64_t lower = lowest > 0 ? hwkit_parts(lowest, c->stride_y) * c->q : 0;
    const int any = c->algorithm == HWKIT_CONV_DIRECT && c->r > 1 &&
                    (upper > 0 || lower < p->out_area);
    if (!any || !all_finite(p, w)) /* weights are looked at only where that saves something */
        return;
    p->upper = upper;
    p->lower = lower;
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
    if (hwkit_hold(&p->operands, &old->operands, constants, W) && p->zeros &&
        (!w || hwkit_keep(&p->operands, W, pack_whole(p, w), weights_bytes(p))))
        return &p->base;
    destroy(&p->base);
    return NULL;
}

static void set_sizes(plan *p)
{
    hwkit_conv2d *c = &p->c;
    const hwkit_isa *isa = hwkit_isa_get();
    p->kernels = c->is_double ? &isa->f64 : &isa->f32;
    p->table = p->kernels->gemm;
    p->pairs = c->algorithm == HWKIT_CONV_DIRECT && c->way.pairs;
    p->by_row = p->pairs ? hwkit_pairs_by_row() : p->table->by_row;
    p->vl = p->pairs ? HWKIT_PAIRS_VECTOR : p->kernels->vl;
    p->size = c->is_double ? 8 : 4;
    p->out_size = p->pairs ? 2 : p->size;
    p->width = c->vectors * p->vl;
    p->pixel = c->c * p->out_size;
    p->tap = p->pixel / c->groups;
    p->cg = hwkit_parts(p->tap, p->size);
    p->kg = c->k / c->groups;
    p->whole = p->cg * c->r * c->s;
    p->area = c->h * c->w;
    p->out_area = c->p * c->q;
    p->segments = c->merge ? c->r : c->r * c->s;
    p->depth = p->whole / p->segments;
    p->lower = p->out_area;
    c->kc = p->pairs ? p->whole : hwkit_min(c->kc, p->whole); /* pairs are rounded at once */
    if (c->algorithm == HWKIT_CONV_DIRECT) {
        c->channels = hwkit_even(p->kg, c->channels, p->width);
        /* Whole tiles, except where that would make one of a few blocks much larger than the others. */
        c->pixels = hwkit_even(p->out_area, c->pixels, c->pixels < 32 * c->rows ? 1 : c->rows);
        p->group_bytes = hwkit_panels_bytes(p->kg, p->whole, p->width, p->vl, p->size);
        if (c->merge) {
            p->out_rows = hwkit_even(c->p, hwkit_max(c->pixels / c->q, 1), 1);
            c->pixels = p->out_rows * c->q;
            p->strip_width = (c->q - 1) * c->stride_x + c->s;
        }
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
    int64_t start[SPACES], bytes = weights_bytes(p);
    if (c->algorithm == HWKIT_CONV_PACKED)
        return bytes + c->threads * hwkit_conv2d_packed_depth(p) * c->pixels * p->size;
    bytes += c->threads * lay_out(p, start);
    return bytes + (c->nhwc ? 0 : c->n * p->area * c->c * p->size);
}

hwkit_plan *hwkit_conv2d_plan(const hwkit_conv2d *given)
{
    if (given->algorithm == HWKIT_CONV_TILES)
        return hwkit_amx_conv2d_plan(given);
    if (given->algorithm == HWKIT_CONV_STRASSEN)
        return hwkit_strassen_conv2d_plan(given);
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = *given;
    set_sizes(p);
    p->zeros = hwkit_alloc_zeros(p->cg * p->size);
    if (!p->zeros) {
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
        hwkit_product_seconds((double)given->n * (double)given->k * (double)p->out_area *
                                  (double)p->whole, p->vl);
    return &p->base;
}
