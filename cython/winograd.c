/* Blocking loops of Winograd's convolution, compiled once; see gemm.c for how types are handled. */
#include "winograd_plan.h"

#include "layout.h"
#include "threads.h"

#include <stdlib.h>
#include <string.h>

enum { RUN_PIXELS = 64 };     /* nchw: columns of results that are transposed together */
enum { RUN_CHANNELS = 64 };   /* nchw: channels of them */
enum { CHUNKS_PER_THREAD = 4 }; /* enough for one that comes late */

static int64_t weights_bytes(const plan *p)
{
    return p->c.groups * p->u_step * p->size;
}

/* ---- weights ----------------------------------------------------------------------------------- */

/* One panel, transposed. */
static int64_t turned_bytes(const plan *p)
{
    return hwkit_round_up(p->cg * p->window * p->width * p->size, 64);
}

/* What a thread needs to pack a panel. */
static int64_t packing_bytes(const plan *p)
{
    return turned_bytes(p) + (p->c.way.products ? hwkit_winograd_tiles_turn(p) : 0);
}

/* Panel number `panel`, counted over all groups, at all positions. */
static int pack_panel(const plan *p, char *u, const char *w, int64_t panel)
{
    const int by_tiles = p->c.way.products;
    const int64_t panels = hwkit_parts(p->kg, p->width), whole = p->cg * p->window;
    const int64_t group = panel / panels, j = panel % panels * p->width;
    const int count = (int)hwkit_min(p->width, p->kg - j);
    const int wide = by_tiles ? p->width : (int)hwkit_round_up(count, p->kernels->vl);
    char *turned = hwkit_scratch(HWKIT_SCRATCH_THREAD, packing_bytes(p));
    if (!turned)
        return 0;
    p->table->pack_transposed(turned, w + (group * p->kg + j) * whole * p->size, whole, whole, count,
                              wide);
    u += group * p->u_step * p->size;
    if (by_tiles) {
        hwkit_winograd_tiles_pack(p, u, j / p->width, turned, turned + turned_bytes(p));
        return 1;
    }
    int64_t at[HWKIT_WINOGRAD_MOST];
    for (int i = 0; i < p->seen; i++) {
        const int to = p->position[i];
        at[i] = p->u_at[to] + j * p->deep[to] + p->part[i] * p->cg * wide;
    }
    p->transform->weights(turned, p->by_channel ? wide : p->cg * wide,
                          p->by_channel ? p->window * wide : wide, u, at, p->cg, wide);
    return 1;
}

static void pack_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const plan *p = x->p;
    const int64_t all = hwkit_parts(p->kg, p->width) * p->c.groups;
    for (int64_t i = chunk * x->share; i < hwkit_min((chunk + 1) * x->share, all); i++)
        if (!pack_panel(p, x->pack_to, x->w, i))
            x->failed = 1;
}

/* ---- stages of a block ------------------------------------------------------------------------- */

/* The image that a tile belongs to, and its first row and column there. */
typedef struct {
    int64_t image, y, x;
} place;

static place place_of(const plan *p, int64_t tile)
{
    const int64_t d = p->c.dilation, line = tile / p->across, image = line / p->down;
    const int64_t y = line % p->down * p->c.m * d, x = tile % p->across * p->c.m * d;
    return (place){image / (d * d), y + image / d % d, x + image % d};
}

void hwkit_winograd_point(const plan *p, const char *x, int64_t tile, int64_t group, const void **pixels)
{
    const hwkit_winograd *c = &p->c;
    const place first = place_of(p, tile);
    const int64_t pixel = c->c * p->size;
    const int64_t y0 = first.y * c->stride - c->top, x0 = first.x * c->stride - c->left;
    x += first.image * p->area * pixel + group * p->cg * p->size;
    for (int64_t i = 0, y = y0; i < p->side; i++, y += c->dilation) {
        const int outside = y < 0 || y >= c->h;
        const char *line = outside ? p->zeros : x + y * c->w * pixel;
        for (int64_t j = 0, at = x0; j < p->side; j++, at += c->dilation)
            *pixels++ = outside || at < 0 || at >= c->w ? p->zeros : line + at * pixel;
    }
}

static void transform(const job *x, const block *b, const space *s, int64_t from, int64_t to)
{
    const plan *p = x->p;
    if (p->c.way.products) {
        hwkit_winograd_tiles_transform(x, b, s, from, to);
        return;
    }
    const int64_t step = p->v_step * p->size;
    const void *pixels[HWKIT_WINOGRAD_MOST];
    for (int64_t i = from; i < to; i++) {
        hwkit_winograd_point(p, x->x, i, b->group, pixels);
        p->transform->input(pixels, b->v + (i - b->from) * step, p->v_pixel, p->cg);
    }
}

/* M = V U at one position, all tiles of the block, columns [n0, n1) of the group. Parts of the depth
 * follow each other within a panel, as they lie in U: the processor loads ahead what is read in one
 * run. */
static void multiply(const job *x, const block *b, const space *s, int64_t position, int64_t n0,
                     int64_t n1)
{
    const plan *p = x->p;
    if (p->c.way.products) {
        hwkit_winograd_tiles_multiply(x, b, s, position, n0, n1);
        return;
    }
    const int64_t count = b->to - b->from, deep = p->deep[position];
    const int64_t part = hwkit_even(deep, p->c.kc, 1);
    const char *u = x->u + (b->group * p->u_step + p->u_at[position]) * p->size;
    char *m = b->m + position * p->m_step * p->size;
    hwkit_tile t = {.step = p->v_step, .segments = 1, .ldc = p->positions * p->m_step};
    for (int64_t j = n0; j < n1; j += p->width) {
        t.columns = (int)hwkit_min(p->width, n1 - j);
        const int vectors = (int)hwkit_parts(t.columns, p->kernels->vl);
        t.ldb = vectors * p->kernels->vl;
        for (int64_t k0 = 0; k0 < deep; k0 += part) {
            t.depth = hwkit_min(part, deep - k0);
            t.accumulate = k0 > 0;
            t.skip = p->v_at[position] + k0;
            t.b = u + (j * deep + k0 * t.ldb) * p->size;
            t.next = count > p->c.rows ? u + (j * deep + (k0 + t.depth) * t.ldb) * p->size : NULL;
            t.passed = 0;
            int some;
            for (int64_t i = 0; i < count; i += some * t.tiles, t.passed += (int)t.tiles) {
                some = hwkit_tile_rows(count - i, p->c.rows);
                t.tiles = hwkit_tiles_alike(count - i, p->c.rows);
                t.a = b->v + i * p->v_step * p->size;
                t.c = m + (i * t.ldc + j) * p->size;
                p->table->by_step[hwkit_halves(t.columns, p->kernels->vl) - 1][some - 1](&t);
            }
        }
    }
}

enum { PATCH, RESULTS, OTHER, OWN, V, M, SPACES };

/* Bytes of V of so many tiles. */
static int64_t v_bytes(const plan *p, int64_t tiles)
{
    return p->c.way.products ? hwkit_winograd_tiles_v(p, tiles)
                             : hwkit_round_up(tiles * p->v_step * p->size, 64);
}

/* Where each part of a thread's memory starts, in bytes; returns how many there are. */
static int64_t lay_out(const plan *p, int64_t start[SPACES])
{
    const hwkit_winograd *c = &p->c;
    const int64_t results = c->nhwc ? 0 : c->m * RUN_PIXELS * hwkit_min(RUN_CHANNELS, p->kg) * p->size;
    const int64_t tiles = c->stages ? 0 : c->tiles;
    const int64_t bytes[SPACES] = {
        [PATCH] = p->cg * p->window * p->size,
        [RESULTS] = results,
        [OTHER] = c->has_residual ? results : 0,
        [OWN] = c->way.products ? hwkit_winograd_tiles_own(p) : 0,
        [V] = v_bytes(p, tiles),
        [M] = tiles * p->positions * p->m_step * p->size,
    };
    int64_t at = 0;
    for (int i = 0; i < SPACES; i++) {
        start[i] = at;
        at += hwkit_round_up(bytes[i], 64);
    }
    return at;
}

/* The outputs of one tile by plain sums: what Winograd's make of Inf, NaN and what overflows is not
 * what the sums themselves are. `to` are its pixels, NULL where it reaches beyond the image. */
static void recompute(const job *x, const space *s, int64_t tile, int64_t group, void *const *to,
                      int64_t n0, int64_t columns, const hwkit_epilogue *e)
{
    const plan *p = x->p;
    const int64_t whole = p->cg * p->window, size = p->size;
    const char *w = x->w + (group * p->kg + n0) * whole * size;
    const void *pixels[HWKIT_WINOGRAD_MOST];
    hwkit_winograd_point(p, x->x, tile, group, pixels);
    for (int i = 0; i < p->c.m * p->c.m; i++) {
        if (!to[i])
            continue;
        for (int t = 0; t < p->window; t++) {
            const int y = i / p->c.m * p->c.stride + t / p->c.taps;
            const int at = i % p->c.m * p->c.stride + t % p->c.taps;
            const char *from = pixels[y * p->side + at];
            if (!p->by_channel)
                memcpy(s->patch + t * p->cg * size, from, (size_t)(p->cg * size));
            else
                p->table->transpose(s->patch + t * size, p->window, from, p->cg, p->cg, 1);
        }
        p->table->dot(s->patch, whole, w, whole, to[i], columns, 1, columns, whole);
        p->table->finish(to[i], columns, 1, columns, e, 0, group * p->kg + n0);
    }
}

/* nchw: a run of results, or of the residual, from [row][pixel][channel] to [channel][row][pixel] or
 * back. `plane` is the first pixel in the plane of the first channel. */
static void turn_run(const plan *p, char *results, char *plane, int64_t rows, int64_t pixels,
                     int64_t columns, int back)
{
    const hwkit_turn_fn to_plane =
        hwkit_turn_into(p->size, p->c.n * p->c.k * p->out_area * p->size);
    for (int64_t y = 0; y < rows; y++, plane += p->c.q * p->size) {
        char *result = results + y * RUN_PIXELS * columns * p->size;
        if (back)
            p->table->transpose(result, columns, plane, p->out_area, pixels, columns);
        else
            to_plane(plane, p->out_area, result, columns, pixels, columns);
    }
}

/* Tiles [from, to), all in one line of tiles, and columns [n0, n0 + columns) of the group. */
static void finish_run(const job *x, const block *b, const space *s, int64_t from, int64_t to,
                       int64_t n0, int64_t columns)
{
    const plan *p = x->p;
    const hwkit_winograd *c = &p->c;
    const place at = place_of(p, from);
    const int64_t channel = b->group * p->kg + n0, spot = at.y * c->q + at.x;
    if (at.y >= c->p || at.x >= c->q) /* not all images that dilation makes are as large */
        return;
    const int64_t tall = hwkit_min(c->m, hwkit_parts(c->p - at.y, c->dilation));
    const int64_t wide = hwkit_min((to - from) * c->m, hwkit_parts(c->q - at.x, c->dilation));
    hwkit_epilogue e = x->epilogue;
    const char *bias = e.bias;
    /* where pixel `spot` goes, and elements from pixel to pixel and from line to line */
    char *first = s->results;
    int64_t pixel = columns, line = RUN_PIXELS * columns;
    char *plane = x->out + ((at.image * c->k + channel) * p->out_area + spot) * p->size;
    if (c->nhwc) {
        pixel = x->row * c->dilation;
        line = c->q * pixel;
        first = x->out + ((at.image * p->out_area + spot) * x->row + channel) * p->size;
    } else {
        e.out = s->results;
        if (e.residual) {
            turn_run(p, s->residual, (char *)e.residual + (plane - x->out), tall, wide, columns, 1);
            e.residual = s->residual;
        }
    }
    for (int64_t i = from; i < to; i++) {
        void *pixels[HWKIT_WINOGRAD_MOST];
        for (int64_t j = 0; j < c->m * c->m; j++) {
            const int64_t dy = j / c->m, dx = (i - from) * c->m + j % c->m;
            pixels[j] = dy < tall && dx < wide ? first + (dy * line + dx * pixel) * p->size : NULL;
        }
        const char *m = b->m + ((i - b->from) * p->positions * p->m_step + n0) * p->size;
        if ((c->way.products && !hwkit_winograd_tiles_fit(p, b, i)) ||
            !p->transform->output(m, p->m_step, pixels, columns, &e,
                                  bias ? bias + channel * p->size : NULL))
            recompute(x, s, i, b->group, pixels, n0, columns, &e);
    }
    if (!c->nhwc)
        turn_run(p, s->results, plane, tall, wide, columns, 0);
}

static void finish(const job *x, const block *b, const space *s, int64_t from, int64_t to)
{
    const plan *p = x->p;
    const int64_t most = p->c.nhwc ? p->across : RUN_PIXELS / p->c.m;
    const int64_t wide = p->c.nhwc ? p->kg : hwkit_min(RUN_CHANNELS, p->kg);
    int64_t end;
    for (int64_t i = from; i < to; i = end) {
        end = hwkit_min(hwkit_min(to, i + most), (i / p->across + 1) * p->across);
        for (int64_t n0 = 0; n0 < p->kg; n0 += wide)
            finish_run(x, b, s, i, end, n0, hwkit_min(wide, p->kg - n0));
    }
}

static int find_space(job *x, space *s, block *b)
{
    int64_t start[SPACES];
    char *base = hwkit_scratch(HWKIT_SCRATCH_THREAD, lay_out(x->p, start));
    if (!base) {
        x->failed = 1;
        return 0;
    }
    *s = (space){base + start[PATCH], base + start[RESULTS], base + start[OTHER], base + start[OWN]};
    if (b)
        b->v = base + start[V], b->m = base + start[M];
    return 1;
}

/* ---- blocks ------------------------------------------------------------------------------------ */

/* Part `position` of what comes after the products of a block and lies in memory: the pixels that
 * its results go to, and those that the next block sees, but for the columns it shares with the tile
 * before. */
static void fetch(const job *x, const block *b, int64_t position)
{
    const plan *p = x->p;
    const hwkit_winograd *c = &p->c;
    const int64_t count = b->to - b->from, to = count * (position + 1) / p->positions;
    const void *pixels[HWKIT_WINOGRAD_MOST];
    for (int64_t i = count * position / p->positions; i < to; i++) {
        const place first = place_of(p, b->from + i);
        const int64_t reach = c->m * c->dilation;
        for (int64_t y = first.y; y < hwkit_min(first.y + reach, c->p); y += c->dilation)
            for (int64_t at = first.x; at < hwkit_min(first.x + reach, c->q); at += c->dilation) {
                const int64_t pixel = first.image * p->out_area + y * c->q + at;
                const char *out = x->out + (pixel * x->row + b->group * p->kg) * p->size;
                for (int64_t byte = 0; byte < p->kg * p->size; byte += 64)
                    __builtin_prefetch(out + byte, 1, 2);
            }
        if (b->to + i >= p->every)
            continue;
        hwkit_winograd_point(p, x->x, b->to + i, b->group, pixels);
        for (int64_t at = 0; at < p->seen; at++)
            for (int64_t byte = at % p->side < c->taps - c->stride ? p->cg * p->size : 0;
                 byte < p->cg * p->size; byte += 64)
                __builtin_prefetch((const char *)pixels[at] + byte, 0, 2);
    }
}

/* The first tile of block `index`. Blocks by one thread differ by one tile at most, so that threads end
 * together; panels of tiles (AMX) are whole. */
static int64_t tile_of(const plan *p, int64_t index)
{
    return p->c.way.products ? hwkit_min(index * p->c.tiles, p->every) : index * p->every / p->blocks;
}

/* A block by one thread. */
static void block_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const plan *p = x->p;
    const int64_t index = chunk / p->c.groups;
    block b = {.from = tile_of(p, index), .to = tile_of(p, index + 1)};
    b.group = chunk % p->c.groups;
    space s;
    if (!find_space(x, &s, &b))
        return;
    transform(x, &b, &s, b.from, b.to);
    for (int64_t i = 0; i < p->positions; i++) {
        if (p->far)
            fetch(x, &b, i);
        multiply(x, &b, &s, i, 0, p->kg);
    }
    finish(x, &b, &s, b.from, b.to);
}

static void transform_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const int64_t from = x->b.from + chunk * x->share;
    space s;
    if (find_space(x, &s, NULL))
        transform(x, &x->b, &s, from, hwkit_min(from + x->share, x->b.to));
}

static void multiply_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const int64_t n0 = chunk / x->p->positions * x->column_share;
    const int64_t n1 = hwkit_min(n0 + x->column_share, x->p->kg);
    space s;
    if (find_space(x, &s, NULL))
        multiply(x, &x->b, &s, chunk % x->p->positions, n0, n1);
}

static void finish_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const int64_t from = x->b.from + chunk * x->share;
    space s;
    if (find_space(x, &s, NULL))
        finish(x, &x->b, &s, from, hwkit_min(from + x->share, x->b.to));
}

/* A block by all threads, one stage after the other. */
static void run_stages(job *x)
{
    const plan *p = x->p;
    const hwkit_winograd *c = &p->c;
    const int64_t count = x->b.to - x->b.from, chunks = CHUNKS_PER_THREAD * (int64_t)c->threads;
    const double part = p->base.seconds * 1e9 * (double)count / (double)(p->every * c->groups);
    const int64_t work = (int64_t)part;
    x->share = hwkit_parts(count, chunks);
    const int64_t shares = hwkit_parts(count, x->share);
    x->column_share = hwkit_even(p->kg, hwkit_parts(p->kg * p->positions, chunks), p->width);
    hwkit_parallel_work(shares, transform_chunk, x, c->threads, work / 8);
    hwkit_parallel_work(p->positions * hwkit_parts(p->kg, x->column_share), multiply_chunk, x,
                        c->threads, work);
    hwkit_parallel_work(shares, finish_chunk, x, c->threads, work / 8);
}

/* Of one tile and group: products, calls and transformations, as the costs of the default config. */
static double tile_seconds(const plan *p)
{
    const double sums = (double)(p->seen * p->cg + 12 * p->positions) * (double)p->kg;
    const double moved = (double)(p->seen * p->cg + p->positions * p->kg);
    return hwkit_product_seconds(sums + 150 * (double)p->positions + 5 * moved, p->kernels->vl);
}

static int64_t tiles_bytes(const plan *p)
{
    return v_bytes(p, p->c.tiles) + p->c.tiles * p->positions * p->m_step * p->size;
}

static int run_blocks(job *x, char *tiles)
{
    const plan *p = x->p;
    const int64_t blocks = p->blocks * p->c.groups;
    if (!p->c.stages) {
        hwkit_parallel_work(blocks, block_chunk, x, p->c.threads, 1e9 * p->base.seconds);
        return x->failed ? HWKIT_NO_MEMORY : HWKIT_OK;
    }
    for (int64_t i = 0; i < blocks && !x->failed; i++) {
        const int64_t index = i / p->c.groups;
        x->b = (block){tile_of(p, index), tile_of(p, index + 1), i % p->c.groups, tiles, NULL};
        x->b.m = tiles + v_bytes(p, p->c.tiles);
        run_stages(x);
    }
    return x->failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

/* ---- runs -------------------------------------------------------------------------------------- */

static int run_all(const plan *p, const void *const all[KINDS], void *out, int64_t out_row)
{
    const hwkit_winograd *c = &p->c;
    job x = {.p = p, .x = all[X], .w = all[W], .u = p->packed, .out = out, .row = out_row};
    x.epilogue = (hwkit_epilogue){.act = c->act, .alpha = 1, .out = out, .bias = all[BIAS]};
    x.epilogue.residual = all[RESIDUAL];
    const int64_t u = p->packed ? 0 : hwkit_round_up(weights_bytes(p), 64);
    char *shared = NULL;
    if (u || c->stages) {
        shared = hwkit_scratch(HWKIT_SCRATCH_SHARED, u + (c->stages ? tiles_bytes(p) : 0));
        if (!shared)
            return HWKIT_NO_MEMORY;
    }
    if (u) {
        const int64_t panels = hwkit_parts(p->kg, p->width) * c->groups;
        x.u = x.pack_to = shared;
        x.share = hwkit_parts(panels, CHUNKS_PER_THREAD * (int64_t)c->threads);
        hwkit_parallel_work(hwkit_parts(panels, x.share), pack_chunk, &x, c->threads,
                            c->k * p->cg * 4);
    }
    if (!c->nhwc && c->c > 1) {
        x.x = hwkit_channels_last(p->size, all[X], c->n, c->c, p->area, c->c, c->threads);
        if (!x.x)
            return HWKIT_NO_MEMORY;
    }
    return x.failed ? HWKIT_NO_MEMORY : run_blocks(&x, shared ? shared + u : NULL);
}

static int run_apart(const hwkit_plan *base, const void *const *operands, void *out, int64_t x_row,
                     int64_t out_row)
{
    (void)x_row;
    const plan *p = (const plan *)base;
    const void *all[KINDS];
    hwkit_bind(&p->operands, KINDS, operands, all);
    return run_all(p, all, out, out_row);
}

static int run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    const void *all[KINDS];
    hwkit_bind(&p->operands, KINDS, operands, all);
    char *turned = p->is_turned ? hwkit_turn_in(&p->turned, &all[X], &all[RESIDUAL]) : out;
    if (!turned || run_all(p, all, turned, p->c.k) != HWKIT_OK)
        return HWKIT_NO_MEMORY;
    if (p->is_turned)
        hwkit_to_channels_first(&p->turned.result, out, turned);
    return HWKIT_OK;
}

static void destroy(hwkit_plan *base)
{
    plan *p = (plan *)base;
    hwkit_release(&p->operands);
    hwkit_free(p->zeros);
    hwkit_free(p->packed);
    free(p);
}

/* Transform the weights that p holds. They stay beside it: what overflows is recomputed. */
static int pack_whole(plan *p)
{
    const int64_t panels = hwkit_parts(p->kg, p->width) * p->c.groups;
    p->packed = hwkit_alloc(weights_bytes(p));
    for (int64_t i = 0; p->packed && i < panels; i++)
        if (!pack_panel(p, p->packed, p->operands.held[W], i))
            return 0;
    return p->packed != NULL;
}

static hwkit_plan *prepack(const hwkit_plan *base, const hwkit_constants *constants)
{
    const plan *old = (const plan *)base;
    plan *p = malloc(sizeof *p);
    if (!p)
        return NULL;
    *p = *old;
    p->packed = NULL;
    p->zeros = hwkit_alloc_zeros(p->cg * p->size);
    if (hwkit_hold(&p->operands, &old->operands, constants, -1) && p->zeros &&
        (!p->operands.held[W] || pack_whole(p)))
        return &p->base;
    destroy(&p->base);
    return NULL;
}

static const hwkit_winograd_transform *find(const hwkit_kernels *kernels, int m, int taps, int stride)
{
    for (int i = 0; i < HWKIT_WINOGRAD_KINDS; i++) {
        const hwkit_winograd_transform *t = &kernels->winograd->of[i];
        if (t->m == m && t->taps == taps && t->stride == stride)
            return t;
    }
    return NULL;
}

int hwkit_winograd_has(int m, int taps, int stride)
{
    return find(&hwkit_isa_get()->f32, m, taps, stride) != NULL;
}

/* Where pixels go that are transformed. Of a line with stride 2, those after the first m + 1 are of its
 * second part, which has no position at infinity. */
static void set_positions(plan *p)
{
    const int line = p->c.m + p->c.taps - p->c.stride;
    p->positions = line * line;
    for (int i = 0; i < p->seen; i++) {
        const int y = i / p->side, x = i % p->side, to = y % line * line + x % line;
        p->position[i] = (unsigned char)to;
        p->part[i] = (unsigned char)(p->deep[to] / p->cg);
        p->deep[to] += p->cg;
    }
    if (p->c.way.products) {
        hwkit_winograd_tiles_plan(p);
        return;
    }
    for (int i = 0; i < p->positions; i++) {
        const int64_t deep = p->deep[i];
        const int64_t panels = hwkit_panels_bytes(p->kg, deep, p->width, p->kernels->vl, p->size);
        p->v_at[i] = p->v_step;
        p->u_at[i] = p->u_step;
        p->v_step += hwkit_odd_lines(deep, p->size);
        p->u_step += hwkit_odd_lines(panels, 1) / p->size;
    }
    for (int i = 0; i < p->seen; i++)
        p->v_pixel[i] = p->v_at[p->position[i]] + p->part[i] * p->cg;
}

static void set_sizes(plan *p)
{
    hwkit_winograd *c = &p->c;
    const hwkit_isa *isa = hwkit_isa_get();
    p->kernels = c->is_double ? &isa->f64 : &isa->f32;
    p->table = p->kernels->gemm;
    p->transform = find(p->kernels, c->m, c->taps, c->stride);
    p->size = c->is_double ? 8 : 4;
    if (c->way.products)
        c->rows = HWKIT_AMX_SIDE;
    p->width = c->way.products ? HWKIT_AMX_SIDE : c->vectors * p->kernels->vl;
    p->window = c->taps * c->taps;
    p->side = (c->m - 1) * c->stride + c->taps;
    p->seen = p->side * p->side;
    p->cg = c->c / c->groups;
    p->kg = c->k / c->groups;
    p->area = c->h * c->w;
    p->out_area = c->p * c->q;
    p->across = hwkit_parts(hwkit_parts(c->q, c->dilation), c->m);
    p->down = hwkit_parts(hwkit_parts(c->p, c->dilation), c->m);
    p->every = c->n * c->dilation * c->dilation * p->across * p->down;
    p->far = c->nhwc && c->n * (p->area * c->c + p->out_area * c->k) * p->size > HWKIT_FAR_BYTES;
    if (c->way.products || c->stages) {
        c->tiles = hwkit_even(p->every, c->tiles, c->stages ? 1 : c->rows);
        p->blocks = hwkit_parts(p->every, c->tiles);
    } else {
        p->blocks = hwkit_blocks(p->every, c->tiles, c->threads);
        c->tiles = hwkit_parts(p->every, p->blocks);
    }
    p->m_step = hwkit_odd_lines(p->kg, p->size);
    set_positions(p);
}

hwkit_plan *hwkit_winograd_plan(const hwkit_winograd *given)
{
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = *given;
    p->by_channel = !given->nhwc;
    p->is_turned = !given->nhwc && given->dilation > 1;
    p->c.nhwc |= p->is_turned;
    set_sizes(p);
    p->zeros = hwkit_alloc_zeros(p->cg * p->size);
    if (!p->zeros) {
        free(p);
        return NULL;
    }
    const hwkit_winograd *c = &p->c;
    p->turned = (hwkit_turned){
        .image = {p->size, c->n, c->c, p->area, c->c, c->threads},
        .result = {p->size, c->n, c->k, p->out_area, c->k, c->threads},
        .has_residual = c->has_residual};
    int64_t start[SPACES];
    p->operands =
        (hwkit_operands){.kinds = KINDS, .present = {1, 1, c->has_bias, c->has_residual}};
    p->base.run = run;
    /* A residual is laid out like the result. */
    p->base.out_apart = given->nhwc && !c->has_residual;
    p->base.run_apart = run_apart;
    p->base.prepack = prepack;
    p->base.destroy = destroy;
    p->base.workspace = weights_bytes(p) +
                        c->threads * hwkit_max(lay_out(p, start), packing_bytes(p)) +
                        (c->stages ? tiles_bytes(p) : 0) +
                        (p->is_turned ? hwkit_turned_bytes(&p->turned)
                         : c->nhwc    ? 0
                                      : c->n * p->area * c->c * p->size);
    p->base.seconds = (double)(p->every * c->groups) * tile_seconds(p);
    return &p->base;
}
