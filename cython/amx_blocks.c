/* Panels and blocks of products by tiles; compiled once. */
#include "amx_blocks.h"

#include "amx.h"
#include "bits.h"
#include "gemm.h"
#include "half.h"
#include "isa.h"

#include <string.h>

enum { SIDE = HWKIT_AMX_SIDE };

hwkit_amx_maker hwkit_amx_maker_of(const hwkit_amx_way *way)
{
    static const int TERMS[HWKIT_AMX_PRODUCTS + 1] = {[1] = 1, [3] = 2, [4] = 2, [6] = 3};
    const hwkit_kernels *kernels = &hwkit_isa_get()->f32;
    const hwkit_amx_kernels *const tiles =
        hwkit_amx() == HWKIT_AMX_REAL ? hwkit_amx_real : hwkit_amx_twin;
    const hwkit_amx_kernels *const pairs =
        hwkit_pairs() == HWKIT_AMX_REAL ? hwkit_pairs_real : hwkit_pairs_twin;
    return (hwkit_amx_maker){.tiles = way->pairs ? pairs : tiles, .table = kernels->gemm,
                             .vl = kernels->vl, .products = way->products,
                             .terms = TERMS[way->products], .half = way->half};
}

static int64_t whole_steps(int64_t depth)
{
    return hwkit_round_up(depth, SIDE);
}

int64_t hwkit_amx_panel_bytes(const hwkit_amx_maker *m, int64_t depth)
{
    const int pieces = m->half || m->terms > 2 ? m->terms : 2; /* float32 must fit */
    return whole_steps(depth) / SIDE * pieces * HWKIT_AMX_PIECE;
}

void hwkit_amx_steps(const hwkit_amx_maker *m, int64_t *steps, int64_t count)
{
    for (int64_t s = 0; s < count; s++)
        steps[s] = s * m->terms * HWKIT_AMX_PIECE;
}

/* ---- what suits -------------------------------------------------------------------------------- */

/* Beyond this a value rounds to infinity. */
static const uint32_t TOO_LARGE = 0x7f7f8000;
/* A row whose largest value is this loses no more than 2^-126 of each element, 2^-46 of the largest;
 * with products as small, sums of 2^14 of them lose as much as a rounding of float32 at most. */
static const double LEAST = 0x1p-80;
/* Of what is stored narrow: elements below 2^-126 are zeros, and those are no part of such a row. */
static const float LEAST_HALF = 0x1p-100f;

int hwkit_amx_fits(hwkit_amx_range r)
{
    return r.most < TOO_LARGE && (r.most == 0 || hwkit_float(r.least) >= LEAST);
}

/* Whether a panel is kept as float32. */
static int kept(const hwkit_amx_maker *m, const hwkit_amx_panel *p)
{
    return !m->half && !hwkit_amx_fits(p->range);
}

static int suited(const hwkit_amx_maker *m, const hwkit_amx_panel *a, const hwkit_amx_panel *b)
{
    const uint32_t infinite = 0x7f800000;
    if (kept(m, a) || kept(m, b))
        return 0;
    if (a->range.most == 0 || b->range.most == 0)
        return a->range.most < infinite && b->range.most < infinite;
    if ((double)hwkit_float(a->range.least) * hwkit_float(b->range.least) < LEAST)
        return 0;
    if (hwkit_float(a->range.least) < LEAST_HALF || hwkit_float(b->range.least) < LEAST_HALF)
        return 0;
    if (m->half && m->terms == 1 && (a->range.most >= infinite || b->range.most >= infinite))
        return 1; /* exact products: infinities and NaN go where they go in float32 */
    /* no partial sum can overflow */
    return (double)hwkit_float(a->range.most) * hwkit_float(b->range.most) * (double)a->depth < 0x1p126;
}

/* ---- panels ------------------------------------------------------------------------------------ */

/* dst[i][k], rows of `deep` elements, k beyond depth is zero. */
static void copy_rows(float *to, const float *a, int64_t ld, int count, int64_t depth)
{
    const int64_t deep = whole_steps(depth);
    memset(to, 0, (size_t)(SIDE * deep) * sizeof *to);
    for (int i = 0; i < count; i++)
        memcpy(to + i * deep, a + i * ld, (size_t)depth * sizeof *to);
}

static void copy_columns(float *to, const float *b, int64_t ld, int count, int64_t depth)
{
    memset(to, 0, (size_t)(SIDE * whole_steps(depth)) * sizeof *to);
    for (int64_t k = 0; k < depth; k++)
        memcpy(to + k * SIDE, b + k * ld, (size_t)count * sizeof *to);
}

/* Transpose `rows` of `columns` elements, `ld` apart, into rows beside each other in `turn`: by way of
 * float32, whose kernels have the shuffles. Returns where they are. */
static const void *turned(const hwkit_amx_maker *m, float *turn, const void *from, int64_t ld,
                          int64_t rows, int64_t columns)
{
    float *const second = turn + rows * columns;
    if (!m->half) {
        m->table->transpose(turn, rows, from, ld, columns, rows);
        return turn;
    }
    for (int64_t i = 0; i < rows; i++)
        hwkit_half_widen_row(m->half, (const uint16_t *)from + i * ld, second + i * columns, columns);
    m->table->transpose(turn, rows, second, columns, columns, rows);
    hwkit_half_round_row(m->half, turn, (uint16_t *)second, rows * columns);
    return second;
}

void hwkit_amx_fill_a(const hwkit_amx_maker *m, hwkit_amx_panel *p, const void *a, int64_t ld,
                      int transposed, int count, int64_t depth, float *turn)
{
    const hwkit_amx_a_fn split = m->half ? m->tiles->take_a[m->half] : m->tiles->split_a[m->terms - 1];
    p->depth = depth;
    if (transposed) {
        a = turned(m, turn, a, ld, depth, count);
        ld = depth;
    }
    p->range = split(p->data, m->terms * HWKIT_AMX_PIECE, HWKIT_AMX_PIECE, a, ld, count, depth);
    for (int64_t piece = 0; piece < whole_steps(depth) / SIDE * m->terms && count < SIDE; piece++)
        memset(p->data + piece * HWKIT_AMX_PIECE + count * HWKIT_TILE_BYTES, 0,
               (size_t)(SIDE - count) * HWKIT_TILE_BYTES);
    if (kept(m, p))
        copy_rows((float *)p->data, a, ld, count, depth);
}

void hwkit_amx_fill_b(const hwkit_amx_maker *m, hwkit_amx_panel *p, const void *b, int64_t ld,
                      int transposed, int count, int64_t depth, float *turn)
{
    const hwkit_amx_b_fn split = m->half ? m->tiles->take_b[m->half] : m->tiles->split_b[m->terms - 1];
    p->depth = depth;
    if (transposed) {
        b = turned(m, turn, b, ld, count, depth);
        ld = count;
    }
    p->range = split(p->data, b, ld, count, depth);
    if (kept(m, p))
        copy_columns((float *)p->data, b, ld, count, depth);
}

/* ---- blocks ------------------------------------------------------------------------------------ */

/* Which of the 32 elements of a step number k is; see amx_kernels.h. */
static int64_t place(const hwkit_amx_maker *m, int64_t k)
{
    return m->half ? k : k % 16 * 2 + k / 16;
}

static float half_at(const char *at)
{
    uint16_t half;
    memcpy(&half, at, 2);
    return hwkit_float((uint32_t)half << 16);
}

/* The terms of A added up, the small ones first. */
static const float *plain_a(const hwkit_amx_maker *m, const hwkit_amx_block *x, float *to)
{
    const int64_t deep = whole_steps(x->a->depth);
    if (kept(m, x->a))
        return (const float *)x->a->data;
    for (int64_t k = 0; k < deep; k++)
        for (int i = 0; i < SIDE; i++) {
            const char *at = x->a->data + x->steps[k / SIDE] + (i * SIDE + place(m, k % SIDE)) * 2;
            float sum = 0;
            for (int t = m->terms - 1; t >= 0; t--)
                sum += half_at(at + t * x->term);
            to[i * deep + k] = sum;
        }
    return to;
}

const float *hwkit_amx_plain_b(const hwkit_amx_maker *m, const hwkit_amx_panel *b, float *to)
{
    const int64_t deep = whole_steps(b->depth);
    if (kept(m, b))
        return (const float *)b->data;
    for (int64_t k = 0; k < deep; k++)
        for (int j = 0; j < SIDE; j++) {
            const int64_t at_step = place(m, k % SIDE);
            const char *at = b->data + k / SIDE * m->terms * HWKIT_AMX_PIECE +
                             j / 16 * (HWKIT_AMX_PIECE / 2) + at_step / 2 * HWKIT_TILE_BYTES +
                             j % 16 * 4 + at_step % 2 * 2;
            float sum = 0;
            for (int t = m->terms - 1; t >= 0; t--)
                sum += half_at(at + t * HWKIT_AMX_PIECE);
            to[k * SIDE + j] = sum;
        }
    return to;
}

static void multiply_plain(const hwkit_amx_maker *m, const hwkit_amx_block *x)
{
    const int64_t deep = whole_steps(x->a->depth);
    const float *a = plain_a(m, x, x->plain), *b = hwkit_amx_plain_b(m, x->b, x->plain + SIDE * deep);
    const int wide = 2 * m->vl;
    int most = 4;
    while (most < HWKIT_MAX_ROWS && m->table->by_step[3][most])
        most++;
    for (int j = 0; j < x->columns; j += wide)
        for (int i = 0, count; i < x->rows; i += count) {
            count = hwkit_tile_rows(x->rows - i, most);
            hwkit_tile t = {.a = a + i * deep, .step = deep, .b = b + j, .ldb = SIDE, .segments = 1, .tiles = 1,
                            .depth = x->a->depth, .c = x->c + i * x->ldc + j, .ldc = x->ldc,
                            .columns = (int)hwkit_min(wide, x->columns - j),
                            .accumulate = x->accumulate};
            m->table->by_step[hwkit_halves(t.columns, m->vl) - 1][count - 1](&t);
        }
}

void hwkit_amx_round(const hwkit_amx_maker *m, const float *sums, int64_t ld, uint16_t *to, int64_t ldc,
                     int rows, int64_t columns)
{
    if (m->half == HWKIT_HALF_BF16) {
        m->tiles->round(to, ldc, sums, ld, rows, columns);
        return;
    }
    for (int i = 0; i < rows; i++)
        hwkit_half_round_row(m->half, sums + i * ld, to + i * ldc, columns);
}

void hwkit_amx_multiply(const hwkit_amx_maker *m, const hwkit_amx_block *x)
{
    if (!suited(m, x->a, x->b)) {
        multiply_plain(m, x);
        return;
    }
    const int whole = x->rows == SIDE && x->columns == SIDE;
    /* Six products start from zero, so that those of low order meet small sums. */
    const int add = whole && x->accumulate && m->terms < 3;
    const int direct = whole && (add || !x->accumulate);
    hwkit_amx_tile t = {
        .a = x->a->data, .a_steps = x->steps, .a_term = x->term, .b = x->b->data,
        .steps = whole_steps(x->a->depth) / SIDE, .c = direct ? x->c : x->block,
        .ldc = (direct ? x->ldc : SIDE) * (int64_t)sizeof(float), .accumulate = add};
    m->tiles->product[m->products](&t);
    if (!direct)
        m->tiles->put(x->c, x->ldc, x->block, x->rows, x->columns, x->accumulate);
}
