/* Products of Winograd's convolution by tiles (AMX), of float32 in terms of bfloat16.
 *
 * Of 32 tiles, V has [position][step][term][32 tiles][32 channels]: transformed tiles become terms while
 * they are in the first cache, and are never in memory as float32. Each part of the depth starts a step
 * of its own. Behind all of them lie the bits of the largest value of each tile: one that does not
 * suit the terms is computed again from the image, plainly. */
#include "winograd_plan.h"

#include "amx.h"

#include <string.h>

enum { SIDE = HWKIT_AMX_SIDE, STEP = HWKIT_AMX_PIECE };
enum { CHANNELS = 64 }; /* that are transformed at once: two steps */

/* Depth of a part. */
static int64_t part_depth(const plan *p)
{
    return hwkit_round_up(p->cg, SIDE);
}

static hwkit_amx_gemm weights_at(const plan *p, int64_t position)
{
    hwkit_amx_gemm g = p->tiles;
    g.k = g.kc = p->deep[position];
    return g;
}

void hwkit_winograd_tiles_plan(plan *p)
{
    p->tiles = (hwkit_amx_gemm){.maker = hwkit_amx_maker_of(&p->c.way), .n = p->kg, .ldb = SIDE};
    for (int i = 0; i < p->positions; i++) {
        p->deep[i] = p->deep[i] / p->cg * part_depth(p);
        const hwkit_amx_gemm g = weights_at(p, i);
        p->v_at[i] = p->v_step;
        p->u_at[i] = p->u_step;
        p->v_step += p->deep[i] / SIDE * g.maker.terms * (STEP / p->size);
        p->u_step += hwkit_amx_packed_bytes(&g) / p->size;
    }
    for (int i = 0; i < p->seen; i++)
        p->v_pixel[i] = p->v_at[p->position[i]] +
                        p->part[i] * (part_depth(p) / SIDE) * p->tiles.maker.terms * (STEP / p->size);
}

/* ---- weights ----------------------------------------------------------------------------------- */

int64_t hwkit_winograd_tiles_turn(const plan *p)
{
    return p->seen * part_depth(p) * SIDE * p->size;
}

void hwkit_winograd_tiles_pack(const plan *p, char *u, int64_t panel, const char *turned, char *to)
{
    int64_t from[HWKIT_WINOGRAD_MOST], at[HWKIT_WINOGRAD_MOST], end = 0;
    for (int i = 0; i < p->positions; i++) {
        from[i] = end;
        end += p->deep[i] * SIDE;
    }
    for (int i = 0; i < p->seen; i++)
        at[i] = from[p->position[i]] + p->part[i] * part_depth(p) * SIDE;
    if (p->cg % SIDE)
        memset(to, 0, (size_t)hwkit_winograd_tiles_turn(p));
    p->transform->weights(turned, p->by_channel ? SIDE : p->cg * SIDE,
                          p->by_channel ? (int64_t)p->window * SIDE : SIDE, to, at, p->cg, SIDE);
    for (int i = 0; i < p->positions; i++) {
        const hwkit_amx_gemm g = weights_at(p, i);
        hwkit_amx_pack_panel(&g, u + p->u_at[i] * p->size, panel, to + from[i] * p->size, NULL);
    }
}

/* ---- V ----------------------------------------------------------------------------------------- */

static int64_t panels_bytes(const plan *p, int64_t tiles)
{
    return hwkit_parts(tiles, SIDE) * p->v_step * p->size;
}

int64_t hwkit_winograd_tiles_v(const plan *p, int64_t tiles)
{
    return panels_bytes(p, tiles) + hwkit_round_up(tiles * (int64_t)sizeof(uint32_t), 64);
}

/* The bits of the largest value of each tile of a block. */
static uint32_t *largest(const plan *p, const block *b)
{
    return (uint32_t *)(b->v + panels_bytes(p, p->c.tiles));
}

static hwkit_amx_range range_of(uint32_t most)
{
    return (hwkit_amx_range){most, most ? most : UINT32_MAX};
}

int hwkit_winograd_tiles_fit(const plan *p, const block *b, int64_t tile)
{
    return hwkit_amx_fits(range_of(largest(p, b)[tile - b->from]));
}

/* A part of a thread's own memory. */
enum { TRANSFORMED, BLOCK, STEPS, ROWS, PLAIN, PARTS };

static int64_t lay_out(const plan *p, int64_t start[PARTS])
{
    int64_t deep = 0, at = 0;
    for (int i = 0; i < p->positions; i++)
        deep = hwkit_max(deep, p->deep[i]);
    const int64_t bytes[PARTS] = {
        [TRANSFORMED] = p->seen * CHANNELS * p->size, [BLOCK] = SIDE * SIDE * p->size,
        [STEPS] = deep / SIDE * (int64_t)sizeof(int64_t),
        [ROWS] = hwkit_parts(p->c.tiles, SIDE) * (int64_t)sizeof(hwkit_amx_panel),
        [PLAIN] = 2 * SIDE * deep * p->size};
    for (int i = 0; i < PARTS; i++) {
        start[i] = at;
        at += hwkit_round_up(bytes[i], 64);
    }
    return at;
}

int64_t hwkit_winograd_tiles_own(const plan *p)
{
    int64_t start[PARTS];
    return lay_out(p, start);
}

void hwkit_winograd_tiles_transform(const job *x, const block *b, const space *s, int64_t from,
                                    int64_t to)
{
    const plan *p = x->p;
    const hwkit_amx_maker *m = &p->tiles.maker;
    float *const transformed = (float *)s->own;
    const int64_t step = m->terms * STEP;
    const void *pixels[HWKIT_WINOGRAD_MOST];
    int64_t at[HWKIT_WINOGRAD_MOST], v_at[HWKIT_WINOGRAD_MOST];
    for (int i = 0; i < p->seen; i++) {
        at[i] = i * CHANNELS;
        v_at[i] = p->v_pixel[i] * p->size;
    }
    for (int64_t i = from; i < to; i++) {
        const int64_t tile = i - b->from;
        char *v = b->v + tile / SIDE * p->v_step * p->size + tile % SIDE * HWKIT_TILE_BYTES;
        uint32_t most = 0;
        hwkit_winograd_point(p, x->x, i, b->group, pixels);
        for (int64_t c = 0; c < p->cg; c += CHANNELS, v += CHANNELS / SIDE * step) {
            const int64_t some = hwkit_min(CHANNELS, p->cg - c);
            p->transform->input(pixels, transformed, at, some);
            const uint32_t seen = m->tiles->spread[m->terms - 1](v, v_at, step, STEP, transformed,
                                                                 CHANNELS, p->seen, some);
            most = seen > most ? seen : most;
            for (int j = 0; j < p->seen; j++)
                pixels[j] = (const char *)pixels[j] + some * p->size;
        }
        largest(p, b)[tile] = most;
    }
}

/* ---- products ---------------------------------------------------------------------------------- */

/* Of the 32 tiles from number `i` of a block on, but for those that do not fit. */
static hwkit_amx_range range_of_rows(const plan *p, const block *b, int64_t i)
{
    const uint32_t *most = largest(p, b);
    hwkit_amx_range range = range_of(0);
    for (int64_t end = hwkit_min(i + SIDE, b->to - b->from); i < end; i++)
        if (hwkit_amx_fits(range_of(most[i])))
            range = hwkit_amx_both(range, range_of(most[i]));
    return range;
}

void hwkit_winograd_tiles_multiply(const job *x, const block *b, const space *s, int64_t position,
                                   int64_t n0, int64_t n1)
{
    const plan *p = x->p;
    const hwkit_amx_gemm g = weights_at(p, position);
    const int64_t count = b->to - b->from, ldc = p->positions * p->m_step;
    char *const u = (char *)x->u + (b->group * p->u_step + p->u_at[position]) * p->size;
    float *const m = (float *)b->m + position * p->m_step;
    int64_t start[PARTS];
    lay_out(p, start);
    int64_t *const steps = (int64_t *)(s->own + start[STEPS]);
    hwkit_amx_steps(&g.maker, steps, g.k / SIDE);
    hwkit_amx_panel *const rows = (hwkit_amx_panel *)(s->own + start[ROWS]);
    for (int64_t i = 0; i < count; i += SIDE)
        rows[i / SIDE] = (hwkit_amx_panel){
            .data = b->v + (i / SIDE * p->v_step + p->v_at[position]) * p->size,
            .range = range_of_rows(p, b, i), .depth = g.k};
    g.maker.tiles->begin();
    for (int64_t j = n0; j < n1; j += SIDE) {
        const hwkit_amx_panel columns = hwkit_amx_panel_at(&g, u, j / SIDE, 0);
        for (int64_t i = 0; i < count; i += SIDE) {
            const hwkit_amx_block block = {
                .a = &rows[i / SIDE], .b = &columns, .steps = steps, .term = STEP, .c = m + i * ldc + j,
                .ldc = ldc, .rows = (int)hwkit_min(SIDE, count - i),
                .columns = (int)hwkit_min(SIDE, n1 - j),
                .block = (float *)(s->own + start[BLOCK]), .plain = (float *)(s->own + start[PLAIN])};
            hwkit_amx_multiply(&g.maker, &block);
        }
    }
    g.maker.tiles->end();
}
