/* Products of tiles and of pairs: the twins in plain C against plain loops, and the instructions against
 * the twins where the processor has them; those of tiles bit for bit. */
#include "amx.h"
#include "amx_kernels.h"
#include "conv2d.h"
#include "gemm.h"
#include "half.h"
#include "isa.h"
#include "kernels_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { C, A, B, SIZE = HWKIT_TILE_ROWS * HWKIT_TILE_BYTES };

static float bf16_at(const uint8_t *at)
{
    uint32_t bits = (uint32_t)at[0] << 16 | (uint32_t)at[1] << 24;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* Random bytes; of bf16, numbers around one, so that an error bound makes sense. */
static void fill(uint8_t *to, int64_t n, int bf16)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (uint8_t)(bf16 && i % 2 ? (rand() & 0x80) | 0x3f : rand());
}

#define PRODUCT(load, store, configure, release, dot)                                              \
    do {                                                                                           \
        configure(&config);                                                                        \
        load(C, c, n * 4);                                                                         \
        load(A, a, k * 4);                                                                         \
        load(B, b, n * 4);                                                                         \
        dot;                                                                                       \
        store(C, out, n * 4);                                                                      \
        release();                                                                                 \
    } while (0)

#define TWIN(dot)                                                                                  \
    PRODUCT(hwkit_tile_load, hwkit_tile_store, hwkit_tile_configure, hwkit_tile_release, dot)
#define REAL(dot) PRODUCT(tile_load, tile_store, tile_configure, tile_release, dot)

/* Of m x n x k words; op 0: bf16, else int8 with the signs of the bits of op - 1. */
static void multiply(int real, int op, int m, int n, int k, const uint8_t *c, const uint8_t *a,
                     const uint8_t *b, uint8_t *out)
{
    hwkit_tile_config config = {.palette = 1};
    config.rows[C] = config.rows[A] = (uint8_t)m;
    config.colsb[C] = config.colsb[B] = (uint16_t)(n * 4);
    config.colsb[A] = (uint16_t)(k * 4);
    config.rows[B] = (uint8_t)k;
    if (!real) {
        TWIN(op ? hwkit_tile_int8(C, A, B, (op - 1) & 1, (op - 1) >> 1)
                : hwkit_tile_bf16(C, A, B));
        return;
    }
#if HWKIT_HAS_AMX
    switch (op) {
    case 0: REAL(tile_bf16(C, A, B)); break;
    case 1: REAL(tile_uu(C, A, B)); break;
    case 2: REAL(tile_su(C, A, B)); break;
    case 3: REAL(tile_us(C, A, B)); break;
    default: REAL(tile_ss(C, A, B)); break;
    }
#endif
}

static int32_t int8_at(uint8_t byte, int is_signed)
{
    return is_signed ? (int8_t)byte : byte;
}

static int right(int op, int m, int n, int k, const uint8_t *c, const uint8_t *a, const uint8_t *b,
                 const uint8_t *got)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            const uint8_t *left = a + i * k * 4, *right = b + j * 4;
            double sum = 0, most = 0;
            uint32_t whole = 0, word;
            float was, is;
            memcpy(&was, c + (i * n + j) * 4, 4);
            memcpy(&is, got + (i * n + j) * 4, 4);
            for (int g = 0; g < k * 2 && !op; g++) {
                double term = (double)bf16_at(left + g * 2) *
                              bf16_at(right + g / 2 * n * 4 + g % 2 * 2);
                sum += term;
                most += fabs(term);
            }
            for (int g = 0; g < k * 4 && op; g++)
                whole += (uint32_t)(int8_at(left[g], (op - 1) & 1) *
                                    int8_at(right[g / 4 * n * 4 + g % 4], (op - 1) >> 1));
            memcpy(&word, c + (i * n + j) * 4, 4);
            whole += word;
            memcpy(&word, got + (i * n + j) * 4, 4);
            if (op ? word != whole : fabs(is - (sum + was)) > 1e-6 * (most + fabs(was)))
                return 0;
        }
    return 1;
}

static uint16_t *fresh(hwkit_half type, int64_t n)
{
    uint16_t *array = guarded((size_t)n * 2);
    for (int64_t i = 0; i < n; i++) {
        const float x = (float)(rand() / (double)RAND_MAX * 2 - 1);
        hwkit_half_round_row(type, &x, array + i, 1);
    }
    return array;
}

static double half_at(hwkit_half type, const uint16_t *array, int64_t i)
{
    float x;
    hwkit_half_widen_row(type, array + i, &x, 1);
    return x;
}

/* A product of half precision with bias and residual, by tiles or by pairs. */
static int test_half_precision(void)
{
    static const hwkit_amx_way WAYS[] = {{1, HWKIT_HALF_BF16, 0}, {3, HWKIT_HALF_F16, 0},
                                         {4, HWKIT_HALF_F16, 0}, {1, HWKIT_HALF_BF16, 1}};
    const hwkit_amx_way way = WAYS[hwkit_amx() ? rand() % 4 : 3];
    const hwkit_half type = way.half;
    hwkit_gemm g = {.batch = 1, .m = upto(70), .n = upto(70), .k = upto(100), .alpha = 1, .way = way,
                    .has_bias = 1, .has_residual = 1, .rows = 4, .vectors = 2,
                    .algorithm = HWKIT_GEMM_TILES, .kc = 1, .mc = upto(70), .nc = upto(70),
                    .threads = (int)upto(3)};
    g.transpose_a = rand() % 2;
    g.transpose_b = rand() % 2;
    const uint16_t *a = fresh(type, g.m * g.k), *b = fresh(type, g.k * g.n), *bias = fresh(type, g.n);
    const uint16_t *residual = fresh(type, g.m * g.n);
    const void *operands[] = {a, b, bias, residual};
    uint16_t *out = fresh(type, g.m * g.n);
    const double rounding = type == HWKIT_HALF_F16 ? 0x1p-11 : 0x1p-8;
    const double left_out = way.products == 3 ? 0x1p-16 : 1e-6;
    hwkit_plan *plan = hwkit_gemm_plan(&g);
    int good = plan && plan->run(plan, operands, out) == HWKIT_OK;
    for (int64_t i = 0; good && i < g.m; i++)
        for (int64_t j = 0; good && j < g.n; j++) {
            const int64_t at = i * g.n + j;
            double sum = half_at(type, bias, j) + half_at(type, residual, at), most = fabs(sum);
            for (int64_t k = 0; k < g.k; k++) {
                const double term = half_at(type, a, g.transpose_a ? k * g.m + i : i * g.k + k) *
                                    half_at(type, b, g.transpose_b ? j * g.k + k : k * g.n + j);
                sum += term;
                most += fabs(term);
            }
            good = fabs(half_at(type, out, at) - sum) <= fabs(sum) * rounding + most * left_out;
        }
    if (plan)
        plan->destroy(plan);
    if (!good)
        printf("amx: half precision %d, %d products%s, %d x %d x %d is wrong\n", type, way.products,
               way.pairs ? " of pairs" : "", (int)g.m, (int)g.n, (int)g.k);
    return good;
}

/* What one output of a convolution is, and the sum of the magnitudes of its terms. */
static double pixel_of(const hwkit_conv2d *g, const uint16_t *x, const uint16_t *w, int64_t at,
                       double *most)
{
    const hwkit_half type = HWKIT_HALF_BF16;
    const int64_t depth = g->c / g->groups, k = at % g->k, row = at / g->k;
    const int64_t q = row % g->q, p = row / g->q % g->p, n = row / g->q / g->p;
    double sum = 0;
    *most = 0;
    for (int64_t tap = 0; tap < g->r * g->s; tap++) {
        const int64_t y = p * g->stride_y - g->top + tap / g->s * g->dilation_y;
        const int64_t z = q * g->stride_x - g->left + tap % g->s * g->dilation_x;
        const int64_t from = ((n * g->h + y) * g->w + z) * g->c + k / (g->k / g->groups) * depth;
        for (int64_t c = 0; c < depth && y >= 0 && y < g->h && z >= 0 && z < g->w; c++) {
            const double term = half_at(type, x, from + c) *
                                half_at(type, w, (k * g->r * g->s + tap) * depth + c);
            sum += term;
            *most += fabs(term);
        }
    }
    return sum;
}

/* A direct convolution by pairs, now and then of values so small that it is done in float32. */
static int test_direct_pairs(void)
{
    const hwkit_half type = HWKIT_HALF_BF16;
    hwkit_conv2d g = {.n = upto(2), .groups = upto(2), .r = upto(3), .s = upto(3), .stride_y = upto(2),
                      .stride_x = upto(2), .dilation_y = upto(2), .nhwc = 1, .has_bias = rand() % 2,
                      .has_residual = rand() % 2, .way = {1, type, 1}, .kc = 1, .pixels = upto(60),
                      .channels = upto(90), .threads = (int)upto(3),
                      .act = {rand() % 2 ? HWKIT_SIGMOID : HWKIT_IDENTITY, 0, 0}};
    g.merge = rand() % 2;
    g.dilation_x = g.merge ? 1 : upto(2);
    g.c = g.groups * upto(40);
    g.k = g.groups * upto(rand() % 2 ? 8 : 70);
    g.top = rand() % 3;
    g.left = rand() % 3;
    g.p = upto(7);
    g.q = upto(20);
    g.h = (g.p - 1) * g.stride_y + (g.r - 1) * g.dilation_y + 1 - g.top + rand() % 2;
    g.w = (g.q - 1) * g.stride_x + (g.s - 1) * g.dilation_x + 1 - g.left + rand() % 2;
    if (g.h < 1 || g.w < 1)
        return 1;
    do {
        g.rows = (int)upto(HWKIT_MAX_ROWS);
        g.vectors = (int)upto(HWKIT_MAX_VECTORS);
    } while (!hwkit_pairs_tile(g.rows, g.vectors));
    const int64_t pixels = g.n * g.h * g.w * g.c, outputs = g.n * g.p * g.q * g.k;
    const double scale = rand() % 4 ? 1 : 0x1p-60;
    uint16_t *x = fresh(type, pixels), *w = fresh(type, g.k * g.r * g.s * g.c / g.groups);
    for (int64_t i = 0; i < pixels; i++) {
        const float small = (float)(half_at(type, x, i) * scale);
        hwkit_half_round_row(type, &small, x + i, 1);
    }
    const uint16_t *bias = fresh(type, g.k), *residual = fresh(type, outputs);
    const void *operands[4] = {x, w};
    int count = 2;
    if (g.has_bias)
        operands[count++] = bias;
    if (g.has_residual)
        operands[count++] = residual;
    uint16_t *out = fresh(type, outputs);
    hwkit_plan *plan = hwkit_conv2d_plan(&g);
    int good = plan && plan->run(plan, operands, out) == HWKIT_OK;
    for (int64_t i = 0; good && i < outputs; i++) {
        double most, sum = pixel_of(&g, x, w, i, &most);
        sum += g.has_bias ? half_at(type, bias, i % g.k) : 0;
        sum += g.has_residual ? half_at(type, residual, i) : 0;
        sum = g.act.kind == HWKIT_SIGMOID ? 1 / (1 + exp(-sum)) : sum;
        good = fabs(half_at(type, out, i) - sum) <= fabs(sum) * 0x1p-8 + most * 1e-6;
    }
    if (plan)
        plan->destroy(plan);
    if (!good)
        printf("amx: a direct convolution by pairs is wrong, c=%d k=%d tile %d x %d\n", (int)g.c,
               (int)g.k, g.rows, g.vectors);
    return good;
}

/* The terms of any float16 add up to it, in rows and in columns; of infinities and NaN by the first. */
static int test_terms_of_half(const hwkit_amx_kernels *kernels)
{
    enum { SIDE = HWKIT_AMX_SIDE, PIECE = HWKIT_AMX_PIECE };
    const int rows = (int)upto(SIDE), depth = (int)upto(SIDE);
    uint16_t *any = guarded((size_t)(rows * depth) * 2);
    uint8_t *left = guarded(2 * PIECE), *right = guarded(2 * PIECE);
    for (int i = 0; i < rows * depth; i++)
        any[i] = (uint16_t)rand();
    const hwkit_amx_range of_rows = kernels->take_a[HWKIT_HALF_F16](left, 0, PIECE, any, depth, rows,
                                                                    depth);
    kernels->take_b[HWKIT_HALF_F16](right, any, rows, rows, depth);
    uint32_t most = 0, bits;
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < depth; k++) {
            const uint8_t *a = left + (i * SIDE + k) * 2;
            const uint8_t *b = right + i / 16 * (PIECE / 2) + k / 2 * 64 + i % 16 * 4 + k % 2 * 2;
            const float want[] = {(float)half_at(HWKIT_HALF_F16, any, i * depth + k),
                                  (float)half_at(HWKIT_HALF_F16, any, k * rows + i)};
            const float got[] = {bf16_at(a) + bf16_at(a + PIECE), bf16_at(b) + bf16_at(b + PIECE)};
            memcpy(&bits, want, 4);
            most = (bits & 0x7fffffff) > most ? bits & 0x7fffffff : most;
            for (int side = 0; side < 2; side++)
                if (isnan(want[side]) ? !isnan(got[side]) : want[side] != got[side]) {
                    printf("amx: terms of the float16 %a add up to %a\n", want[side], got[side]);
                    return 0;
                }
        }
    if (most == of_rows.most)
        return 1;
    printf("amx: the largest float16 is %x, not %x\n", most, of_rows.most);
    return 0;
}

/* Numbers of any sign and of magnitudes some orders apart. */
static float *any_floats(int64_t n)
{
    float *x = guarded((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        x[i] = ldexpf((float)rand() / (float)RAND_MAX - 0.5f, rand() % 20 - 10);
    return x;
}

/* Whether both tables of kernels make the same panels and, but for rounding, the same products. */
static int alike(const hwkit_amx_kernels *const tables[2], int products, float rounding)
{
    enum { SIDE = HWKIT_AMX_SIDE, LONGEST = 8 };
    const int terms = products == 6 ? 3 : products > 1 ? 2 : 1;
    const int rows = (int)upto(SIDE), columns = (int)upto(SIDE);
    const int64_t depth = upto(SIDE * LONGEST), steps = (depth + SIDE - 1) / SIDE;
    const int64_t step = (int64_t)terms * HWKIT_AMX_PIECE, size = steps * step;
    const float *a = any_floats(rows * depth), *b = any_floats(depth * columns);
    const float *before = any_floats(SIDE * SIDE);
    hwkit_amx_range ranges[2][2];
    char *left[2], *right[2];
    float *c[2];
    int64_t at[LONGEST];
    for (int64_t i = 0; i < steps; i++)
        at[i] = i * step;
    const int accumulate = rand() % 2;
    for (int i = 0; i < 2; i++) {
        const hwkit_amx_kernels *k = tables[i];
        left[i] = guarded((size_t)size);
        right[i] = guarded((size_t)size);
        memset(left[i], 0, (size_t)size); /* for rows that there are not */
        c[i] = guarded(SIDE * SIDE * sizeof(float));
        memcpy(c[i], before, SIDE * SIDE * sizeof(float));
        ranges[i][0] = k->split_a[terms - 1](left[i], step, HWKIT_AMX_PIECE, a, depth, rows,
                                               depth);
        ranges[i][1] = k->split_b[terms - 1](right[i], b, columns, columns, depth);
        const hwkit_amx_tile t = {left[i], at, HWKIT_AMX_PIECE, right[i], steps, c[i], SIDE * 4,
                                  accumulate};
        k->begin();
        k->product[products](&t);
        k->end();
    }
    const float most = rounding * (float)(depth + 1) * 0x1p14f; /* products are below 2^16 */
    int near = !memcmp(ranges[0], ranges[1], sizeof ranges[0]) &&
               !memcmp(left[0], left[1], (size_t)size) && !memcmp(right[0], right[1], (size_t)size);
    for (int i = 0; i < SIDE * SIDE; i++)
        near = near && fabsf(c[0][i] - c[1][i]) <= most;
    if (near)
        return 1;
    printf("amx: two tables of kernels differ, %d products, %d x %d x %lld\n", products, rows,
           columns, (long long)depth);
    return 0;
}

/* The twin and the instructions; pairs and tiles of one product, which add up in another order. */
static int test_tables(void)
{
    static const int PRODUCTS[] = {1, 3, 4, 6};
    const hwkit_amx_kernels *const tiles[] = {hwkit_amx_twin, hwkit_amx_real};
    const hwkit_amx_kernels *const pairs[] = {hwkit_pairs_twin, hwkit_pairs_real};
    const hwkit_amx_kernels *const twins[] = {hwkit_amx_twin, hwkit_pairs_twin};
    const hwkit_amx_kernels *const every[] = {hwkit_amx_twin, hwkit_pairs_twin, hwkit_amx_real,
                                              hwkit_pairs_real};
    int runs[] = {1, 1, hwkit_amx() == HWKIT_AMX_REAL, hwkit_pairs() == HWKIT_AMX_REAL};
    int good = alike(twins, 1, 0x1p-22f);
    for (int i = 0; good && i < 4; i++)
        good = !runs[i] || test_terms_of_half(every[i]);
    if (good && runs[2])
        good = alike(tiles, PRODUCTS[rand() % 4], 0);
    /* processors need not agree on the order of the two products of a pair */
    return good && runs[3] ? alike(pairs, 1, 0x1p-22f) : good;
}

int test_amx(void)
{
    if (hwkit_pairs() && rand() % 2)
        return rand() % 2 ? test_half_precision() : test_direct_pairs();
    if (rand() % 2)
        return test_tables();
    const int op = rand() % 5, m = (int)upto(16), n = (int)upto(16), k = (int)upto(16);
    uint8_t *c = guarded((size_t)(m * n * 4)), *a = guarded((size_t)(m * k * 4));
    uint8_t *b = guarded((size_t)(k * n * 4)), *out = guarded((size_t)(m * n * 4));
    uint8_t *same = guarded((size_t)(m * n * 4));
    for (int i = 0; i < m * n; i++) {
        float x = (float)rand() / (float)RAND_MAX;
        memcpy(c + i * 4, &x, 4);
    }
    fill(a, m * k * 4, !op);
    fill(b, k * n * 4, !op);
    multiply(0, op, m, n, k, c, a, b, out);
    if (!right(op, m, n, k, c, a, b, out)) {
        printf("amx: the twin is wrong, op %d, %d x %d x %d\n", op, m, n, k);
        return 0;
    }
    if (hwkit_amx() != HWKIT_AMX_REAL)
        return 1;
    fill(a, m * k * 4, 0); /* any bits now: denormals, infinities, NaN */
    fill(b, k * n * 4, 0);
    multiply(0, op, m, n, k, c, a, b, out);
    multiply(1, op, m, n, k, c, a, b, same);
    if (!memcmp(out, same, (size_t)(m * n * 4)))
        return 1;
    printf("amx: the twin and the processor differ, op %d, %d x %d x %d\n", op, m, n, k);
    return 0;
}
