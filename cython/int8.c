/* Plans of 8-bit products, compiled once; see int8_kernels.h for what a strip and a panel are. The
 * parts are int8_run.c (a call), int8_chunk.c (input and results of a chunk), int8_product.c and
 * int8_depthwise.c (its sums), int8_pack.c (weights).
 *
 * With u the bytes of a strip, v those of a panel, and a, b their zero points:
 *   sum (u - a) (v - b) = sum u v - a sum v - b sum u + depth a b
 * The sums of v are made when weights are packed, those of u only where b is not 0; strips of int16
 * have their zero point subtracted, so a is 0 there. Padding holds the zero point. */
#include "int8.h"

#include "cpuinfo.h"
#include "int8_chunk.h"
#include "int8_pack.h"
#include "isa.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Up to this many channels, copying whole rows of taps beats a segment for each tap. */
enum { FEW_CHANNELS = 32 };
/* About so many pixels have sums before results are made of them. */
enum { SUMMED = 40 };
/* Depthwise by quads computes so many pixels at a time, of lines that are about as long: few enough for
 * the first cache. */
enum { PIXELS_OF_BATCH = 64 };
/* At most so many bytes of rows are copied for tiles. */
enum { STRAIGHT_BYTES = 256 << 10 };
/* Bytes that saturate are worth it while there is less than one extra for so many groups. */
enum { GROUPS_OF_EXTRA = 10 };

/* ---- tables ---------------------------------------------------------------------------------- */

static const struct {
    const hwkit_isa *isa;
    const hwkit_int8_kernels *table;
} TABLES[] = {
    {&hwkit_isa_avx512, &hwkit_int8_avx512vnni}, {&hwkit_isa_avx512, &hwkit_int8_avx512},
    {&hwkit_isa_avx2, &hwkit_int8_avxvnni},      {&hwkit_isa_avx2, &hwkit_int8_avx2},
    {&hwkit_isa_neon, &hwkit_int8_dotprod},      {&hwkit_isa_neon, &hwkit_int8_neon},
};

const hwkit_int8_kernels *hwkit_int8_table(void)
{
    const hwkit_isa *isa = hwkit_isa_get();
    const uint32_t bits = hwkit_cpu()->bits;
    for (size_t i = 0; i < sizeof TABLES / sizeof TABLES[0]; i++) {
        const hwkit_int8_kernels *table = TABLES[i].table;
        if (TABLES[i].isa == isa && table->vl && (bits & table->features) == table->features)
            return table;
    }
    return &hwkit_int8_scalar;
}

/* [whether x is signed]: products of tiles, all else as in the other table. */
static hwkit_int8_kernels tiled[2];
static pthread_once_t tiled_once = PTHREAD_ONCE_INIT;

static void make_tiled(void)
{
    const hwkit_int8_tiles *amx =
        hwkit_amx() == HWKIT_AMX_REAL ? hwkit_int8_amx_real : hwkit_int8_amx_twin;
    for (int i = 0; i < 2; i++) {
        tiled[i] = *hwkit_int8_table();
        tiled[i].name = hwkit_isa_name();
        tiled[i].bytes = NULL;
        memset(tiled[i].tiles, 0, sizeof tiled[i].tiles);
        tiled[i].vl = HWKIT_INT8_TILE;
        tiled[i].group = 4;
        tiled[i].depth = HWKIT_INT8_TILES_DEPTH;
        tiled[i].a_size = 1;
        tiled[i].a_signed = i;
        tiled[i].amx = amx + i;
        tiled[i].sum = amx[i].sum;
    }
}

static const hwkit_int8_kernels *table_for(const hwkit_int8 *g)
{
    if (!g->tiles)
        return hwkit_int8_table();
    pthread_once(&tiled_once, make_tiled);
    return &tiled[g->x_signed != 0];
}

/* ---- sizes ------------------------------------------------------------------------------------- */

/* One row of pixels where rows of the image need not be told apart, images where weights are one. */
static void simplify(hwkit_int8 *g)
{
    if (g->batch > 1 && g->w_shared && !g->x_shared) {
        g->n *= g->batch;
        g->batch = 1;
    }
    const int plain = g->r == 1 && g->s == 1 && g->stride_y == 1 && g->stride_x == 1 &&
                      g->p == g->h && g->q == g->w && !g->top && !g->left;
    if (plain) {
        g->w = g->q = g->h * g->w;
        g->h = g->p = 1;
        if (!g->x_planes && !g->y_planes) {
            g->w = g->q = g->n * g->w;
            g->n = 1;
        }
    }
}

static void set_chunk(plan *p)
{
    hwkit_int8 *g = &p->g;
    g->pixels = hwkit_min(g->pixels, g->p * g->q);
    if (g->pixels >= g->q) {
        p->rows = hwkit_even(g->p, g->pixels / g->q, 1);
        p->columns = g->q;
    } else {
        p->rows = 1;
        p->columns = hwkit_parts(g->q, hwkit_parts(g->q, g->pixels));
        p->columns = hwkit_min(hwkit_round_up(p->columns, g->rows), g->q);
    }
    p->strip_h = (p->rows - 1) * p->sy + (g->r - 1) * p->dy + 1;
    p->strip_w = (p->columns - 1) * p->sx + (g->s - 1) * p->dx + 1;
}

static void set_quads(plan *p)
{
    const int64_t step = 4 * p->dy;
    p->deep = HWKIT_INT8_DEPTHWISE; /* two blocks are read where the last pixel may have one */
    p->quads = hwkit_parts(p->g.r, 4);
    p->piece = hwkit_even(p->columns, hwkit_max(PIXELS_OF_BATCH / p->sx, 1), 1);
    p->batch = p->piece < p->columns
                   ? 1
                   : hwkit_max(hwkit_min(PIXELS_OF_BATCH / p->columns, p->rows), 1);
    p->ring_step = p->quads == 1 || step % p->sy ? 0 : step / p->sy;
    p->ring = p->ring_step ? (p->quads - 1) * p->ring_step + p->batch : p->quads * p->batch;
    p->w_bytes = hwkit_int8_quads_bytes(p);
    p->summed = p->batch * p->piece;
}

static void set_sizes(plan *p)
{
    hwkit_int8 *g = &p->g;
    p->cg = g->c / g->groups;
    p->kg = g->k / g->groups;
    p->taps = g->r * g->s;
    p->step_y = g->r == 1 ? g->stride_y : 1;
    p->step_x = g->s == 1 ? g->stride_x : 1;
    p->sy = g->r == 1 ? 1 : g->stride_y;
    p->sx = g->s == 1 ? 1 : g->stride_x;
    p->dy = g->r == 1 ? 1 : g->dilation_y;
    p->dx = g->s == 1 ? 1 : g->dilation_x;
    p->b_size = g->narrow ? 1 : 2;
    p->width = g->vectors * p->table->vl;
    set_chunk(p);
    p->summed = p->rows * p->columns;
    if (g->depthwise) {
        g->channels = hwkit_round_up(hwkit_min(g->channels, g->k), HWKIT_INT8_DEPTHWISE);
        p->pitch = g->channels;
        p->segments = p->taps;
        p->depth = p->deep = 1;
        if (by_quads(p)) {
            set_quads(p);
            return;
        }
        p->w_bytes = hwkit_round_up(g->k, HWKIT_INT8_DEPTHWISE) * hwkit_round_up(p->taps, 2) * 2;
        return;
    }
    p->merged = g->s > 1 && p->dx == 1 && g->groups == 1 && p->cg <= FEW_CHANNELS;
    p->segments = p->merged ? g->r : p->taps;
    p->depth = p->merged ? g->s * p->cg : p->cg;
    p->deep = hwkit_round_up(p->depth, depth_unit(p));
    /* A group's last elements may be the next one's first: their weights are 0. */
    p->pitch = p->merged || g->groups > 1 ? g->c : p->deep;
    /* Rows of x a multiple of 2 KiB apart would fight for the same sets of the first cache. */
    if (p->taps == 1 && p->pitch * strip_size(p) % 2048 == 0)
        p->pitch += 64 / strip_size(p);
    p->whole = p->segments * p->deep;
    g->kc = hwkit_max(hwkit_min(g->kc, p->whole), 1);
    if (g->kc == p->whole && !g->y_planes)
        p->summed = hwkit_min(p->summed, hwkit_round_up(SUMMED, g->rows));
    g->channels = hwkit_round_up(hwkit_min(g->channels, p->kg), p->width);
    if (p->table->amx && p->rows > 1 && g->channels > p->width)
        p->straight_bytes = hwkit_min(p->rows * p->columns / HWKIT_INT8_TILE * HWKIT_INT8_TILE *
                                          p->whole, STRAIGHT_BYTES);
    p->group_bytes = hwkit_round_up(
        hwkit_panels_bytes(p->kg, p->whole, p->width, p->table->vl, p->b_size), 64);
    p->w_bytes = g->groups * p->group_bytes + hwkit_round_up(g->k * 4, 64);
}

/* ---- prepacked weights ------------------------------------------------------------------------- */

static void destroy(hwkit_plan *base)
{
    plan *p = (plan *)base;
    hwkit_release(&p->operands);
    free(p);
}

static int64_t weights_count(const plan *p)
{
    return p->g.w_shared ? 1 : p->g.batch;
}

/* All weights that are held, packed; NULL if memory is short. */
static char *packed_copy(const plan *p)
{
    const char *w = p->operands.held[W];
    const int64_t count = weights_count(p);
    char *packed = hwkit_alloc(count * p->w_bytes);
    int done = packed != NULL;
    for (int64_t i = 0; done && i < count; i++)
        done = hwkit_int8_pack(p, packed + i * p->w_bytes, w + i * w_elements(p),
                               p->operands.held[W_ZERO], 1);
    if (done)
        return packed;
    hwkit_free(packed);
    return NULL;
}

/* The same for the table of bytes, if the weights have few extras; p is changed then only. */
static char *packed_bytes(plan *p)
{
    plan other = *p;
    if (!p->table->bytes || p->g.depthwise || p->g.batch > 1)
        return NULL;
    other.table = p->table->bytes;
    other.g = p->given;
    other.g.narrow = 1;
    set_sizes(&other);
    const int64_t plain = other.w_bytes;
    char *packed = packed_copy(&other);
    if (!packed)
        return NULL;
    other.extras = hwkit_int8_count_extras(&other, packed);
    const int64_t all = other.g.groups * vectors_of_group(&other) * other.whole / other.table->group;
    if (other.extras * GROUPS_OF_EXTRA > all) {
        hwkit_free(packed);
        return NULL;
    }
    if (other.extras) {
        hwkit_int8_lay_out_extras(&other);
        char *more = hwkit_alloc(other.w_bytes);
        if (more)
            memcpy(more, packed, (size_t)plain);
        hwkit_free(packed);
        if (!(packed = more))
            return NULL;
        hwkit_int8_move_extras(&other, packed);
    }
    *p = other;
    return packed;
}

/* Replace plain weights that are held by packed ones; 0 if memory is short. */
static int pack_held(plan *p)
{
    char *packed = packed_bytes(p);
    if (!packed)
        packed = packed_copy(p);
    p->w_packed = 1;
    return hwkit_keep(&p->operands, W, packed, weights_count(p) * p->w_bytes);
}

static hwkit_plan *prepack(const hwkit_plan *base, const hwkit_constants *constants)
{
    const plan *old = (const plan *)base;
    plan *p = malloc(sizeof *p);
    if (!p)
        return NULL;
    *p = *old;
    int good = hwkit_hold(&p->operands, &old->operands, constants, -1);
    void *const *held = p->operands.held;
    /* The zero points of depthwise weights are subtracted when they are packed. */
    const int known = !p->g.depthwise || !p->g.has_zero || held[W_ZERO];
    if (good && held[W] && !p->w_packed && known)
        good = pack_held(p);
    if (good)
        return &p->base;
    destroy(&p->base);
    return NULL;
}

/* ---- plans ----------------------------------------------------------------------------------- */

static hwkit_operands operands_of(const hwkit_int8 *g)
{
    const int requantised = g->output >= HWKIT_INT8_TO_INT8;
    return (hwkit_operands){.kinds = KINDS,
                            .present = {[X] = 1,
                                        [W] = 1,
                                        [BIAS] = g->has_bias,
                                        [X_SCALE] = g->has_scale,
                                        [X_ZERO] = g->has_zero,
                                        [W_SCALE] = g->has_scale,
                                        [W_ZERO] = g->has_zero,
                                        [Y_SCALE] = requantised,
                                        [Y_ZERO] = requantised}};
}

hwkit_plan *hwkit_int8_plan(const hwkit_int8 *given)
{
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->g = *given;
    p->table = table_for(given);
    p->floats = hwkit_isa_get()->f32.gemm;
    p->turn = hwkit_isa_get()->transpose[0]->any;
    simplify(&p->g);
    p->given = p->g;
    set_sizes(p);
    p->operands = operands_of(&p->g);
    p->base.run = hwkit_int8_run;
    p->base.prepack = prepack;
    p->base.destroy = destroy;
    p->base.workspace =
        hwkit_int8_shared_bytes(p) +
        p->g.threads * hwkit_max(hwkit_int8_space_bytes(p), hwkit_int8_packing_bytes(p));
    const hwkit_int8 *g = &p->g;
    const double work = (double)g->batch * (double)g->n * (double)g->k * (double)(g->p * g->q) *
                        (double)(p->cg * p->taps);
    p->base.seconds = hwkit_product_seconds(work, (p->table->amx ? 16 : 2) * p->table->vl);
    return &p->base;
}
