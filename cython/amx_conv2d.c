/* Convolutions by tiles, without unfolding the image and with each pixel split only once.
 *
 * The image goes into planes of terms, channels last in blocks of 32: [phase][channel block][term]
 * [row][column][32]. A phase holds the pixels that lie a stride apart, so that outputs beside each
 * other read pixels beside each other for any stride, and what a tap reads lies a constant offset from
 * what the first tap reads, for any dilation. Padding is zeros in the planes. A tile of A is then 16
 * pixels, 1 KiB in one piece; a step of depth is an offset: one tap, 32 channels.
 *
 * Outputs are counted as they lie in a plane, images one after the other. Those between the end of a
 * line and the start of the next are computed and thrown away: (s - 1) of q + s - 1. */
#include "amx.h"
#include "amx_gemm.h"
#include "conv2d.h"
#include "gemm.h"
#include "half.h"
#include "isa.h"
#include "layout.h"
#include "threads.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = HWKIT_AMX_SIDE, LINE = 64, PIXEL = HWKIT_TILE_BYTES };
enum { X, W, BIAS, RESIDUAL, KINDS };

typedef struct {
    hwkit_plan base;
    hwkit_conv2d c;
    hwkit_amx_gemm weights;      /* how they are packed, as B of a product */
    hwkit_plan *plain;           /* the same convolution by the kernels of float32; only of float32 */
    int64_t taps, blocks, steps; /* blocks of 32 channels; steps of the whole depth */
    int64_t phases, high, wide;  /* of a plane */
    int64_t flat, pixels;        /* outputs counted in a plane; pixels of a plane */
    int64_t *at;                 /* offsets of the steps, bytes */
    char *used;                  /* whether a tap reads this phase */
    hwkit_operands operands;     /* W is held packed */
} plan;

typedef struct {
    const plan *p;
    const char *x; /* channels last */
    const char *w;
    char *order;   /* weights as [k][step][32] */
    char *packed, *planes;
    float *bias;   /* half precision: room for it in float32 */
    void *out;
    hwkit_epilogue epilogue;
    int any;       /* whether there is an epilogue */
    _Atomic uint32_t most, least;
    _Atomic int failed;
} job;

static int64_t element(const plan *p)
{
    return hwkit_amx_element(&p->weights.maker);
}

static int64_t term_bytes(const plan *p)
{
    return p->pixels * PIXEL;
}

static int64_t planes_bytes(const plan *p)
{
    return p->phases * p->blocks * p->weights.maker.terms * term_bytes(p);
}

/* ---- weights ----------------------------------------------------------------------------------- */

/* Where the weight of an output channel, tap and channel lies. */
static int64_t weight_at(const plan *p, int64_t k, int64_t tap, int64_t c)
{
    return p->c.nhwc ? (k * p->taps + tap) * p->c.c + c : (k * p->c.c + c) * p->taps + tap;
}

static void order_chunk(void *ctx, int64_t k)
{
    const job *x = ctx;
    const plan *p = x->p;
    const int64_t size = element(p);
    char *to = x->order + k * p->steps * SIDE * size;
    memset(to, 0, (size_t)(p->steps * SIDE * size));
    for (int64_t tap = 0; tap < p->taps; tap++, to += p->blocks * SIDE * size)
        for (int64_t c = 0; c < p->c.c; c++)
            memcpy(to + c * size, x->w + weight_at(p, k, tap, c) * size, (size_t)size);
}

/* Whether weights lie as they are packed. */
static int in_order(const plan *p)
{
    return p->c.c % SIDE == 0 && (p->c.nhwc || p->taps == 1);
}

static int64_t order_bytes(const plan *p)
{
    return in_order(p) ? 0 : hwkit_round_up(p->c.k * p->steps * SIDE * element(p), LINE);
}

static int pack(job *x)
{
    const plan *p = x->p;
    const char *from = x->w;
    if (!in_order(p)) {
        hwkit_parallel_work(p->c.k, order_chunk, x, p->c.threads, p->c.k * p->steps * SIDE);
        from = x->order;
    }
    return hwkit_amx_pack(&p->weights, x->packed, from);
}

/* What pack made, as it was. */
static float *unpack(const plan *p, char *packed)
{
    const int64_t kc = p->weights.kc;
    float *w = hwkit_alloc(p->c.k * p->taps * p->c.c * (int64_t)sizeof *w);
    float *plain = hwkit_alloc(SIDE * kc * (int64_t)sizeof *plain);
    for (int64_t panel = 0; w && plain && panel < hwkit_parts(p->c.k, SIDE); panel++)
        for (int64_t i = 0; i * kc < p->steps * SIDE; i++) {
            const hwkit_amx_panel b = hwkit_amx_panel_at(&p->weights, packed, panel, i);
            const float *from = hwkit_amx_plain_b(&p->weights.maker, &b, plain);
            for (int64_t d = 0; d < b.depth; d++, from += SIDE) {
                const int64_t at = i * kc + d, c = at % (p->blocks * SIDE);
                for (int64_t j = 0; c < p->c.c && j < hwkit_min(SIDE, p->c.k - panel * SIDE); j++)
                    w[weight_at(p, panel * SIDE + j, at / (p->blocks * SIDE), c)] = from[j];
            }
        }
    if (!plain) {
        hwkit_free(w);
        w = NULL;
    }
    hwkit_free(plain);
    return w;
}

/* ---- planes ------------------------------------------------------------------------------------ */

static void note_range(job *x, hwkit_amx_range r)
{
    uint32_t seen = x->most;
    while (r.most > seen && !atomic_compare_exchange_weak(&x->most, &seen, r.most)) {
    }
    seen = x->least;
    while (r.least < seen && !atomic_compare_exchange_weak(&x->least, &seen, r.least)) {
    }
}

static void clear(const plan *p, char *to, int64_t count)
{
    for (int64_t i = 0; i < p->blocks * p->weights.maker.terms; i++)
        memset(to + i * term_bytes(p), 0, (size_t)(count * PIXEL));
}

/* One row of one phase. */
static void fill_row(job *x, char *to, const char *image, int64_t y, int64_t px)
{
    const plan *p = x->p;
    const hwkit_conv2d *c = &p->c;
    const int64_t ahead = c->left - px, end = c->w + ahead;
    int64_t j0 = ahead > 0 ? hwkit_parts(ahead, c->stride_x) : 0;
    int64_t j1 = end > 0 ? hwkit_parts(end, c->stride_x) : 0;
    j0 = hwkit_min(j0, p->wide);
    j1 = y < 0 || y >= c->h ? j0 : hwkit_max(j0, hwkit_min(j1, p->wide));
    clear(p, to, j0);
    clear(p, to + j1 * PIXEL, p->wide - j1);
    for (int64_t j = j0, count; j < j1; j += count) {
        count = hwkit_min(SIDE, j1 - j);
        const hwkit_amx_maker *m = &p->weights.maker;
        const void *from = image + (y * c->w + j * c->stride_x - ahead) * c->c * element(p);
        const int64_t term = term_bytes(p), step = m->terms * term;
        const hwkit_amx_a_fn split = m->half ? m->tiles->take_a[m->half]
                                             : m->tiles->split_a[m->terms - 1];
        note_range(x, split(to + j * PIXEL, step, term, from, c->stride_x * c->c, (int)count, c->c));
    }
}

static void fill_chunk(void *ctx, int64_t row)
{
    job *x = ctx;
    const plan *p = x->p;
    const hwkit_conv2d *c = &p->c;
    const char *image = x->x + row / p->high * c->h * c->w * c->c * element(p);
    for (int64_t phase = 0; phase < p->phases; phase++) {
        const int64_t y = row % p->high * c->stride_y + phase / c->stride_x - c->top;
        char *to = x->planes + row * p->wide * PIXEL +
                   phase * p->blocks * p->weights.maker.terms * term_bytes(p);
        if (p->used[phase])
            fill_row(x, to, image, y, phase % c->stride_x);
    }
}

/* ---- products ---------------------------------------------------------------------------------- */

typedef struct {
    float *sums, *other; /* [pixels][ld] of a chunk: the result, and a residual that is not like it */
    float *block, *plain;
    int64_t ld;
} space;

enum { SUMS, OTHER, BLOCK, PLAIN, SPACES };

static int64_t lay_out(const plan *p, int64_t start[SPACES])
{
    const int64_t sums = p->c.pixels * p->c.channels * (int64_t)sizeof(float);
    const int64_t bytes[SPACES] = {
        [SUMS] = sums, [OTHER] = p->plain && p->c.nhwc ? 0 : p->c.has_residual ? sums : 0,
        [BLOCK] = SIDE * SIDE * (int64_t)sizeof(float),
        [PLAIN] = 2 * SIDE * p->weights.kc * (int64_t)sizeof(float)};
    int64_t at = 0;
    for (int i = 0; i < SPACES; i++) {
        start[i] = at;
        at += hwkit_round_up(bytes[i], LINE);
    }
    return at;
}

static int find_space(const plan *p, space *s)
{
    int64_t start[SPACES];
    char *base = hwkit_scratch(HWKIT_SCRATCH_THREAD, lay_out(p, start));
    if (!base)
        return 0;
    *s = (space){(float *)(base + start[SUMS]), (float *)(base + start[OTHER]),
                 (float *)(base + start[BLOCK]), (float *)(base + start[PLAIN]), p->c.channels};
    return 1;
}

/* Outputs beside each other, all of one line. */
typedef struct {
    int64_t at, count;        /* counted in a plane */
    int64_t image, oy, ox;
} line;

/* The first outputs that are not thrown away from *at on, before `end`; 0 if there are none. */
static int next_line(const plan *p, int64_t *at, int64_t end, line *l)
{
    while (*at < end) {
        const int64_t row = *at / p->wide, ox = *at % p->wide, oy = row % p->high;
        const int64_t next = hwkit_min((row + 1) * p->wide, end);
        *l = (line){*at, hwkit_min(next - *at, p->c.q - ox), row / p->high, oy, ox};
        *at = next;
        if (l->count > 0 && oy < p->c.p && l->image < p->c.n)
            return 1;
    }
    return 0;
}

/* A line of results: channels [n0, n0 + columns). */
static void put_nhwc(const job *x, const float *sums, int64_t ld, const line *l, int64_t n0,
                     int64_t columns)
{
    const plan *p = x->p;
    const int64_t pixel = (l->image * p->c.p + l->oy) * p->c.q + l->ox;
    float *out = (float *)x->out + pixel * p->c.k + n0;
    for (int64_t i = 0; i < l->count; i++)
        memcpy(out + i * p->c.k, sums + i * ld, (size_t)columns * sizeof *out);
    if (x->any)
        p->weights.maker.table->finish(out, p->c.k, (int)l->count, columns, &x->epilogue, pixel, n0);
}

static void put_narrow(const job *x, const space *s, int64_t first, const line *l, int64_t n0,
                       int64_t columns)
{
    const plan *p = x->p;
    const int64_t pixel = (l->image * p->c.p + l->oy) * p->c.q + l->ox;
    const int64_t to = pixel * p->c.k + n0, offset = (l->at - first) * s->ld;
    hwkit_epilogue e = x->epilogue;
    e.out = s->sums;
    for (int64_t i = 0; e.residual && i < l->count; i++)
        hwkit_half_widen_row(p->c.way.half, (const uint16_t *)e.residual + to + i * p->c.k,
                             s->other + offset + i * s->ld, columns);
    if (e.residual)
        e.residual = s->other;
    if (x->any)
        p->weights.maker.table->finish(s->sums + offset, s->ld, (int)l->count, columns, &e, l->at, n0);
    hwkit_amx_round(&p->weights.maker, s->sums + offset, s->ld, (uint16_t *)x->out + to, p->c.k,
                    (int)l->count, columns);
}

static void put_nchw(const job *x, const space *s, int64_t first, const line *l, int64_t n0,
                     int64_t columns)
{
    const plan *p = x->p;
    const hwkit_gemm_kernels *table = p->weights.maker.table;
    const int64_t area = p->c.p * p->c.q, offset = (l->at - first) * s->ld;
    const int64_t to = (l->image * p->c.k + n0) * area + l->oy * p->c.q + l->ox;
    hwkit_epilogue e = x->epilogue;
    e.out = s->sums;
    if (e.residual) {
        table->transpose(s->other + offset, s->ld, (const float *)e.residual + to, area, l->count,
                         columns);
        e.residual = s->other;
    }
    if (x->any)
        table->finish(s->sums + offset, s->ld, (int)l->count, columns, &e, l->at, n0);
    table->transpose((float *)x->out + to, area, s->sums + offset, s->ld, columns, l->count);
}

/* All outputs of a chunk by one panel of weights, over one block of depth. */
static void column_of_blocks(const job *x, const space *s, const hwkit_amx_panel *b, int64_t from,
                             int64_t to, int64_t j, int64_t index)
{
    const plan *p = x->p;
    hwkit_amx_panel a = {.range = {x->most, x->least}, .depth = b->depth};
    for (int64_t i = from; i < to; i += SIDE) {
        int64_t at = i;
        line l;
        if (!next_line(p, &at, hwkit_min(i + SIDE, to), &l))
            continue;
        a.data = x->planes + i * PIXEL;
        hwkit_amx_block block = {
            .a = &a, .b = b, .steps = p->at + index * p->weights.kc / SIDE, .term = term_bytes(p),
            .c = s->sums + (i - from) * s->ld + j, .ldc = s->ld, .rows = SIDE, .columns = SIDE,
            .accumulate = index > 0, .block = s->block, .plain = s->plain};
        hwkit_amx_multiply(&p->weights.maker, &block);
    }
}

static void product_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const plan *p = x->p;
    const int64_t across = hwkit_parts(p->c.k, p->c.channels);
    const int64_t from = chunk / across * p->c.pixels, to = hwkit_min(from + p->c.pixels, p->flat);
    const int64_t n0 = chunk % across * p->c.channels, n1 = hwkit_min(n0 + p->c.channels, p->c.k);
    space s;
    if (!find_space(p, &s)) {
        x->failed = 1;
        return;
    }
    p->weights.maker.tiles->begin();
    for (int64_t i = 0; i * p->weights.kc < p->steps * SIDE; i++)
        for (int64_t j = n0; j < n1; j += SIDE) {
            const hwkit_amx_panel b = hwkit_amx_panel_at(&p->weights, x->packed, j / SIDE, i);
            column_of_blocks(x, &s, &b, from, to, j - n0, i);
        }
    p->weights.maker.tiles->end();
    line l;
    for (int64_t at = from; next_line(p, &at, to, &l);)
        if (p->c.way.half)
            put_narrow(x, &s, from, &l, n0, n1 - n0);
        else if (p->c.nhwc)
            put_nhwc(x, s.sums + (l.at - from) * s.ld, s.ld, &l, n0, n1 - n0);
        else
            put_nchw(x, &s, from, &l, n0, n1 - n0);
}

/* Of half precision, in float32. */
static int64_t bias_bytes(const plan *p)
{
    return p->c.way.half && p->c.has_bias ? hwkit_round_up(p->c.k * 4, LINE) : 0;
}

/* ---- runs -------------------------------------------------------------------------------------- */

static int run_plain(const plan *p, const void *const *operands, char *packed, void *out)
{
    const void *given[KINDS];
    int count = 0;
    float *w = packed ? unpack(p, packed) : NULL;
    if (packed && !w)
        return HWKIT_NO_MEMORY;
    for (int i = 0; i < KINDS; i++)
        if (operands[i])
            given[count++] = i == W && w ? w : operands[i];
    const int status = p->plain->run(p->plain, given, out);
    hwkit_free(w);
    return status;
}

static int run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    const hwkit_conv2d *c = &p->c;
    char *const held = p->operands.held[W];
    const void *all[KINDS];
    hwkit_bind(&p->operands, KINDS, operands, all);
    const int64_t weights = held ? 0 : hwkit_amx_packed_bytes(&p->weights);
    const int64_t order = held ? 0 : order_bytes(p);
    const int64_t bias = bias_bytes(p);
    char *shared = hwkit_scratch(HWKIT_SCRATCH_SHARED, weights + order + bias + planes_bytes(p));
    job x = {.p = p, .x = all[X], .w = all[W], .out = out, .least = UINT32_MAX, .packed = shared,
             .order = shared + weights, .bias = (float *)(shared + weights + order),
             .planes = shared + weights + order + bias,
             .epilogue = {.act = c->act, .alpha = 1, .out = out, .bias = all[BIAS],
                          .residual = all[RESIDUAL]},
             .any = c->has_bias || c->has_residual || c->act.kind != HWKIT_IDENTITY};
    if (!shared)
        return HWKIT_NO_MEMORY;
    if (bias) {
        hwkit_half_widen_row(c->way.half, all[BIAS], x.bias, c->k);
        x.epilogue.bias = x.bias;
    }
    if (!c->nhwc)
        x.x = hwkit_channels_last(4, all[X], c->n, c->c, c->h * c->w, c->c, c->threads);
    if (!x.x)
        return HWKIT_NO_MEMORY;
    hwkit_parallel_work(c->n * p->high, fill_chunk, &x, c->threads,
                        p->phases * p->flat * c->c / 2);
    const hwkit_amx_range seen = {x.most, x.least};
    if (p->plain && !hwkit_amx_fits(seen))
        return run_plain(p, all, held, out);
    if (held)
        x.packed = held;
    else if (pack(&x) != HWKIT_OK)
        return HWKIT_NO_MEMORY;
    hwkit_parallel_work(hwkit_parts(p->flat, c->pixels) * hwkit_parts(c->k, c->channels),
                        product_chunk, &x, c->threads, 1e9 * base->seconds / 2);
    return x.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static void destroy(hwkit_plan *base)
{
    plan *p = (plan *)base;
    hwkit_release(&p->operands);
    if (p->plain)
        p->plain->destroy(p->plain);
    free(p->at);
    free(p->used);
    free(p);
}

static void *pack_whole(const plan *p, const void *w)
{
    char *packed = hwkit_alloc(hwkit_amx_packed_bytes(&p->weights));
    job x = {.p = p, .w = w, .packed = packed, .order = hwkit_alloc(order_bytes(p))};
    if (!packed || !x.order || pack(&x) != HWKIT_OK) {
        hwkit_free(packed);
        packed = NULL;
    }
    hwkit_free(x.order);
    return packed;
}

static hwkit_plan *prepack(const hwkit_plan *base, const hwkit_constants *constants)
{
    const plan *old = (const plan *)base;
    const void *w = hwkit_constant(&old->operands, constants, W);
    plan *p = (plan *)hwkit_amx_conv2d_plan(&old->c);
    if (!p)
        return NULL;
    const int64_t packed = hwkit_amx_packed_bytes(&p->weights);
    if (hwkit_hold(&p->operands, &old->operands, constants, W) &&
        (!w || hwkit_keep(&p->operands, W, pack_whole(p, w), packed))) {
        p->base.workspace -= p->operands.held[W] ? packed + order_bytes(p) : 0;
        return &p->base;
    }
    destroy(&p->base);
    return NULL;
}

static void set_sizes(plan *p)
{
    hwkit_conv2d *c = &p->c;
    p->taps = c->r * c->s;
    p->blocks = hwkit_parts(c->c, SIDE);
    p->steps = p->taps * p->blocks;
    p->phases = c->stride_y * c->stride_x;
    p->high = c->p + (c->r - 1) * c->dilation_y / c->stride_y;
    p->wide = c->q + (c->s - 1) * c->dilation_x / c->stride_x;
    p->flat = c->n * p->high * p->wide;
    const int64_t farthest = (c->r - 1) * c->dilation_y / c->stride_y * p->wide +
                             (c->s - 1) * c->dilation_x / c->stride_x;
    /* Not a multiple of 4 KiB: terms and channel blocks would fight for the same sets. */
    p->pixels = hwkit_round_up(p->flat + farthest + SIDE, 16) | 16;
    p->weights = (hwkit_amx_gemm){
        .maker = hwkit_amx_maker_of(&c->way), .m = 1, .n = c->k, .k = p->steps * SIDE,
        .ldb = p->steps * SIDE, .transpose_b = 1, .kc = c->kc, .mc = 1, .nc = c->k,
        .threads = c->threads};
    hwkit_amx_gemm_even(&p->weights);
    c->pixels = hwkit_even(p->flat, c->pixels, SIDE);
    c->channels = hwkit_even(c->k, c->channels, SIDE);
}

static void set_offsets(plan *p)
{
    const hwkit_conv2d *c = &p->c;
    for (int64_t s = 0; s < p->steps; s++) {
        const int64_t tap = s / p->blocks, block = s % p->blocks;
        const int64_t y = tap / c->s * c->dilation_y, x = tap % c->s * c->dilation_x;
        const int64_t phase = y % c->stride_y * c->stride_x + x % c->stride_x;
        p->used[phase] = 1;
        p->at[s] = (phase * p->blocks + block) * p->weights.maker.terms * term_bytes(p) +
                   (y / c->stride_y * p->wide + x / c->stride_x) * PIXEL;
    }
}

hwkit_plan *hwkit_amx_conv2d_plan(const hwkit_conv2d *given)
{
    int64_t start[SPACES];
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = *given;
    set_sizes(p);
    if (!given->way.half) {
        hwkit_conv2d plain = *given;
        plain.algorithm = HWKIT_CONV_DIRECT;
        plain.way = (hwkit_amx_way){0};
        plain.kc = 256;
        plain.pixels = 96;
        plain.channels = plain.k;
        plain.merge = plain.pack_a = 0;
        p->plain = hwkit_conv2d_plan(&plain);
    }
    p->at = malloc((size_t)p->steps * sizeof *p->at);
    p->used = calloc((size_t)p->phases, 1);
    p->operands = (hwkit_operands){
        .kinds = KINDS, .present = {1, 1, given->has_bias, given->has_residual}};
    p->base.run = run;
    p->base.prepack = prepack;
    p->base.destroy = destroy;
    if ((!p->plain && !given->way.half) || !p->at || !p->used) {
        destroy(&p->base);
        return NULL;
    }
    set_offsets(p);
    p->base.workspace = hwkit_amx_packed_bytes(&p->weights) + order_bytes(p) + planes_bytes(p) +
                        bias_bytes(p) + given->threads * lay_out(p, start) +
                        (given->nhwc ? 0 : given->n * given->c * given->h * given->w * element(p));
    p->base.seconds = hwkit_product_seconds((double)p->flat * (double)given->k *
                                                (double)(p->steps * SIDE), p->weights.maker.vl);
    return &p->base;
}
