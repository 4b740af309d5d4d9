/* Products of tiles: the twin in plain C against plain loops, and the instructions against the twin,
 * bit for bit, where the processor has them. */
#include "amx.h"
#include "amx_kernels.h"
#include "gemm.h"
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

static uint16_t bf16_of(double value)
{
    float x = (float)value;
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)(bits >> 16);
}

static uint16_t *fresh(int64_t n)
{
    uint16_t *array = guarded((size_t)n * 2);
    for (int64_t i = 0; i < n; i++)
        array[i] = bf16_of(rand() / (double)RAND_MAX * 2 - 1);
    return array;
}

/* A product of bfloat16 with bias and residual. */
static int test_bfloat16(void)
{
    hwkit_gemm g = {.batch = 1, .m = upto(70), .n = upto(70), .k = upto(100), .alpha = 1,
                    .is_bfloat16 = 1, .has_bias = 1, .has_residual = 1, .terms = 1, .rows = 4,
                    .vectors = 2, .algorithm = HWKIT_GEMM_TILES, .kc = 1, .mc = upto(70),
                    .nc = upto(70), .threads = (int)upto(3)};
    g.transpose_a = rand() % 2;
    g.transpose_b = rand() % 2;
    const uint16_t *a = fresh(g.m * g.k), *b = fresh(g.k * g.n), *bias = fresh(g.n);
    const uint16_t *residual = fresh(g.m * g.n);
    const void *operands[] = {a, b, bias, residual};
    uint16_t *out = fresh(g.m * g.n);
    hwkit_plan *plan = hwkit_gemm_plan(&g);
    int good = plan && plan->run(plan, operands, out) == HWKIT_OK;
    for (int64_t i = 0; good && i < g.m; i++)
        for (int64_t j = 0; good && j < g.n; j++) {
            const int64_t at = i * g.n + j;
            double sum = bf16_at((const uint8_t *)&bias[j]) + bf16_at((const uint8_t *)&residual[at]);
            double most = fabs(sum);
            for (int64_t k = 0; k < g.k; k++) {
                const uint16_t *x = &a[g.transpose_a ? k * g.m + i : i * g.k + k];
                const uint16_t *y = &b[g.transpose_b ? j * g.k + k : k * g.n + j];
                const double term = (double)bf16_at((const uint8_t *)x) * bf16_at((const uint8_t *)y);
                sum += term;
                most += fabs(term);
            }
            good = fabs(bf16_at((const uint8_t *)&out[at]) - sum) <= fabs(sum) / 256 + most * 1e-6;
        }
    if (plan)
        plan->destroy(plan);
    if (!good)
        printf("amx: bfloat16 %d x %d x %d is wrong\n", (int)g.m, (int)g.n, (int)g.k);
    return good;
}

/* Numbers of any sign and of magnitudes some orders apart. */
static float *any_floats(int64_t n)
{
    float *x = guarded((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        x[i] = ldexpf((float)rand() / (float)RAND_MAX - 0.5f, rand() % 20 - 10);
    return x;
}

/* Splits and products by the two tables of kernels: bit for bit the same. */
static int same_by_both(void)
{
    enum { SIDE = HWKIT_AMX_SIDE, LONGEST = 8 };
    const int terms = (int)upto(HWKIT_AMX_TERMS), rows = (int)upto(SIDE), columns = (int)upto(SIDE);
    const int64_t depth = upto(SIDE * LONGEST), steps = (depth + SIDE - 1) / SIDE;
    const int64_t step = (int64_t)terms * HWKIT_AMX_PIECE, size = steps * step;
    const float *a = any_floats(rows * depth), *b = any_floats(depth * columns);
    const float *before = any_floats(SIDE * SIDE);
    const hwkit_amx_kernels *const tables[] = {hwkit_amx_twin, hwkit_amx_real};
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
        const hwkit_amx_tile t = {{left[i], left[i] + HWKIT_AMX_PIECE / 2}, at, HWKIT_AMX_PIECE,
                                  SIDE * 2, right[i], steps, c[i], SIDE * 4, accumulate};
        k->begin();
        k->product[terms - 1](&t);
        k->end();
    }
    if (!memcmp(ranges[0], ranges[1], sizeof ranges[0]) && !memcmp(left[0], left[1], (size_t)size) &&
        !memcmp(right[0], right[1], (size_t)size) &&
        !memcmp(c[0], c[1], SIDE * SIDE * sizeof(float)))
        return 1;
    printf("amx: kernels of the twin and of the processor differ, %d terms, %d x %d x %lld\n", terms,
           rows, columns, (long long)depth);
    return 0;
}

int test_amx(void)
{
    if (hwkit_amx() && rand() % 2)
        return test_bfloat16();
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
        return same_by_both();
    printf("amx: the twin and the processor differ, op %d, %d x %d x %d\n", op, m, n, k);
    return 0;
}
