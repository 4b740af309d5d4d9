/* All kernels of the selected instruction set against plain loops in double, on random problems,
 * with every array right before or right behind a page that may not be touched.
 *
 *     kernels_test <problems> [<name of the instruction set that must have been selected> [open]]
 *
 * With "open" the pages around can be touched: some emulators read what a mask leaves out.
 * Prints one line; returns 1 at the first wrong answer. */
#define _GNU_SOURCE
#include "conv2d.h"
#include "depthwise.h"
#include "elementwise.h"
#include "gemm.h"
#include "isa.h"
#include "lrn.h"
#include "pool2d.h"
#include "kernels_test.h"
#include "threads.h"
#include "transpose.h"
#include "winograd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- arrays between guard pages -------------------------------------------------------------- */

typedef struct {
    char *map, *data;
    size_t mapped, bytes;
} block;

enum { MOST_BLOCKS = 48 };
static block blocks[MOST_BLOCKS];
static int block_count, open_pages;

void *guarded(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    block *b = &blocks[block_count++];
    b->bytes = bytes;
    b->mapped = body + 2 * page;
    b->map = mmap(NULL, b->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->map == MAP_FAILED || block_count > MOST_BLOCKS)
        abort();
    if (!open_pages) {
        mprotect(b->map, page, PROT_NONE);
        mprotect(b->map + page + body, page, PROT_NONE);
    }
    b->data = rand() % 2 ? b->map + page : b->map + page + body - bytes;
    return b->data;
}

int64_t guarded_bytes(const void *array)
{
    for (int i = 0; i < block_count; i++)
        if (blocks[i].data == array)
            return (int64_t)blocks[i].bytes;
    abort();
}

static void release_all(void)
{
    while (block_count--)
        munmap(blocks[block_count].map, blocks[block_count].mapped);
    block_count = 0;
}

int64_t upto(int64_t most)
{
    return 1 + rand() % most;
}

static double get(const void *array, int is_double, int64_t i)
{
    return is_double ? ((const double *)array)[i] : (double)((const float *)array)[i];
}

static void put(void *array, int is_double, int64_t i, double value)
{
    if (is_double)
        ((double *)array)[i] = value;
    else
        ((float *)array)[i] = (float)value;
}

static void *fresh(int is_double, int64_t n)
{
    void *array = guarded((size_t)n * (is_double ? sizeof(double) : sizeof(float)));
    for (int64_t i = 0; i < n; i++)
        put(array, is_double, i, rand() / (double)RAND_MAX * 2 - 1);
    return array;
}

static double activated(double x, const hwkit_activation *act)
{
    switch (act->kind) {
    case HWKIT_CLAMP:
        return fmin(fmax(x, act->lo), act->hi);
    case HWKIT_LEAKY_RELU:
        return x < 0 ? x * act->lo : x;
    case HWKIT_SIGMOID:
        return 1 / (1 + exp(-x));
    case HWKIT_HARD_SWISH:
        return x * fmin(fmax(x + 3, 0), 6) / 6;
    case HWKIT_SILU:
        return x / (1 + exp(-x));
    default:
        return x;
    }
}

static hwkit_activation any_activation(void)
{
    hwkit_activation act = {rand() % 6, 0, 0};
    if (act.kind == HWKIT_CLAMP)
        act.lo = -0.25, act.hi = 0.75;
    if (act.kind == HWKIT_LEAKY_RELU)
        act.lo = 0.125;
    return act;
}

/* Whether the Frobenius error of `got` is below `bound`. */
static int close_enough(const char *what, const void *got, const double *want, int64_t n,
                        int is_double, double bound)
{
    double error = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = get(got, is_double, i) - want[i];
        error += d * d;
        norm += want[i] * want[i];
    }
    if (sqrt(error) <= bound * sqrt(norm) + 1e-300)
        return 1;
    printf("%s: relative error %g\n", what, sqrt(error / norm));
    return 0;
}

/* The plan that keeps the operand at `position`, which `plan` takes; NULL if there is none. */
static hwkit_plan *prepacked(const hwkit_plan *plan, int position, const void *operand)
{
    const int64_t bytes = guarded_bytes(operand);
    const hwkit_constants constants = {1, &position, &operand, &bytes};
    return plan->prepack(plan, &constants);
}

static void destroy(hwkit_plan *plan)
{
    if (plan)
        plan->destroy(plan);
}

/* Run a plan as it is, then with operand 1 prepacked if it can be, then with operand 0 as well; 1 if
 * the errors of all answers are below `bound`. */
static int within(double bound, const char *what, hwkit_plan *plan, int count,
                  const void **operands, int64_t n, int is_double, const double *want)
{
    void *out = fresh(is_double, n);
    int good = plan && plan->run(plan, operands, out) == HWKIT_OK;
    good = good && close_enough(what, out, want, n, is_double, bound);
    if (good && count > 1 && plan->prepack) {
        hwkit_plan *packed = prepacked(plan, 1, operands[1]), *both = NULL;
        const void *rest[HWKIT_MAX_OPERANDS] = {operands[0]};
        for (int i = 2; i < count; i++)
            rest[i - 1] = operands[i];
        out = fresh(is_double, n);
        good = packed && packed->run(packed, rest, out) == HWKIT_OK &&
               close_enough(what, out, want, n, is_double, bound);
        if (good)
            both = prepacked(packed, 0, operands[0]);
        destroy(packed);
        out = fresh(is_double, n);
        good = both && both->run(both, rest + 1, out) == HWKIT_OK &&
               close_enough(what, out, want, n, is_double, bound);
        destroy(both);
    }
    destroy(plan);
    return good;
}

static int right(const char *what, hwkit_plan *plan, int count, const void **operands, int64_t n,
                 int is_double, const double *want)
{
    return within(is_double ? 1e-13 : 2e-6, what, plan, count, operands, n, is_double, want);
}

/* ---- convolutions ---------------------------------------------------------------------------- */

static int64_t image(int nhwc, int64_t c, int64_t h, int64_t w, int64_t n_, int64_t c_, int64_t h_,
                     int64_t w_)
{
    return nhwc ? ((n_ * h + h_) * w + w_) * c + c_ : ((n_ * c + c_) * h + h_) * w + w_;
}

static void convolve(const hwkit_conv2d *g, const void **operands, double *want)
{
    const int d = g->is_double;
    const void *bias = g->has_bias ? operands[2] : NULL;
    const void *residual = g->has_residual ? operands[2 + g->has_bias] : NULL;
    int64_t depth = g->c / g->groups, each = g->k / g->groups;
    for (int64_t n = 0; n < g->n; n++)
        for (int64_t k = 0; k < g->k; k++)
            for (int64_t p = 0; p < g->p; p++)
                for (int64_t q = 0; q < g->q; q++) {
                    double sum = bias ? get(bias, d, k) : 0;
                    for (int64_t c = 0; c < depth; c++)
                        for (int64_t r = 0; r < g->r; r++)
                            for (int64_t s = 0; s < g->s; s++) {
                                int64_t y = p * g->stride_y - g->top + r * g->dilation_y;
                                int64_t x = q * g->stride_x - g->left + s * g->dilation_x;
                                if (y < 0 || y >= g->h || x < 0 || x >= g->w)
                                    continue;
                                int64_t from = image(g->nhwc, g->c, g->h, g->w, n,
                                                     k / each * depth + c, y, x);
                                int64_t tap = image(g->nhwc, depth, g->r, g->s, k, c, r, s);
                                sum += get(operands[0], d, from) * get(operands[1], d, tap);
                            }
                    int64_t to = image(g->nhwc, g->k, g->p, g->q, n, k, p, q);
                    want[to] = activated(sum + (residual ? get(residual, d, to) : 0), &g->act);
                }
}

/* A geometry whose window fits; sizes of channels are left to the caller. */
static hwkit_conv2d any_window(void)
{
    hwkit_conv2d g = {.n = upto(2), .r = upto(3), .s = upto(3), .stride_y = upto(3)};
    g.stride_x = rand() % 2 ? g.stride_y : upto(3);
    g.dilation_y = rand() % 3 ? 1 : 2;
    g.dilation_x = rand() % 3 ? 1 : 2;
    if (rand() % 2) {
        g.r = g.s = 3;
        g.dilation_y = g.dilation_x = 1;
    } else if (rand() % 3 == 0) { /* depthwise, these have loops of their own too */
        g.s = 5 + 2 * (rand() % 2);
        g.dilation_x = 1;
    }
    g.top = rand() % 3;
    g.left = rand() % 3;
    int64_t reach_y = (g.r - 1) * g.dilation_y + 1, reach_x = (g.s - 1) * g.dilation_x + 1;
    g.h = reach_y + rand() % 12;
    g.w = reach_x + rand() % 40;
    g.p = (g.h + g.top + rand() % 3 - reach_y) / g.stride_y + 1;
    g.q = (g.w + g.left + rand() % 3 - reach_x) / g.stride_x + 1;
    g.nhwc = rand() % 2;
    g.is_double = rand() % 2;
    g.has_bias = rand() % 2;
    g.has_residual = rand() % 2;
    g.act = any_activation();
    g.threads = (int)upto(3);
    return g;
}

static int operands_of(const hwkit_conv2d *g, const void **operands)
{
    int count = 2;
    operands[0] = fresh(g->is_double, g->n * g->c * g->h * g->w);
    operands[1] = fresh(g->is_double, g->k * (g->c / g->groups) * g->r * g->s);
    if (g->has_bias)
        operands[count++] = fresh(g->is_double, g->k);
    if (g->has_residual)
        operands[count++] = fresh(g->is_double, g->n * g->k * g->p * g->q);
    return count;
}

static int test_depthwise(void)
{
    const void *operands[4];
    hwkit_conv2d g = any_window();
    g.c = g.groups = upto(40);
    g.k = g.c * (rand() % 4 ? 1 : upto(3));
    const int transpose = !g.nhwc && g.k == g.c && rand() % 2;
    const hwkit_isa *isa = hwkit_isa_get();
    int mix = 1 << rand() % 4;
    if (g.k != g.c || !(g.nhwc || transpose) || mix > (g.is_double ? isa->f64.vl : isa->f32.vl))
        mix = 1;
    g.c = g.groups * mix;
    g.k *= mix;
    int64_t n = g.n * g.k * g.p * g.q;
    double *want = malloc((size_t)n * sizeof(double));
    int count = operands_of(&g, operands);
    convolve(&g, operands, want);
    hwkit_depthwise d = {
        .n = g.n, .c = g.c, .h = g.h, .w = g.w, .k = g.k, .r = g.r, .s = g.s, .p = g.p, .q = g.q,
        .sy = g.stride_y, .sx = g.stride_x, .dy = g.dilation_y, .dx = g.dilation_x, .top = g.top,
        .left = g.left, .nhwc = g.nhwc, .is_double = g.is_double, .act = g.act, .mix = mix,
        .transpose = transpose, .wide = (int)upto(7), .rows = upto(9), .block = upto(50),
        .threads = g.threads};
    int good = hwkit_depthwise_prepare(&d) == 0 &&
               right("depthwise", hwkit_depthwise_plan(&d, g.has_bias, g.has_residual), count,
                     operands, n, g.is_double, want);
    free(want);
    return good;
}

/* A tile that the selected table has, as it is meant to be used: any rows up to the most. */
static void any_tile(int is_double, int *rows, int *vectors)
{
    const hwkit_isa *isa = hwkit_isa_get();
    const hwkit_kernels *kernels = is_double ? &isa->f64 : &isa->f32;
    do {
        *rows = (int)upto(HWKIT_MAX_ROWS);
        *vectors = (int)upto(HWKIT_MAX_VECTORS);
    } while (!kernels->gemm->by_panel[2 * *vectors - 1][*rows - 1]);
}

/* Products of terms by tiles, and the error bound of float32. */
static const int PRODUCTS[] = {1, 3, 6};

static double of_products(int products)
{
    return products == 1 ? 3e-2 : products == 3 ? 5e-5 : 2e-6;
}

/* Columns of taps so far apart that tiles of some pixels see only a few of them. */
static void spread_taps(hwkit_conv2d *g)
{
    g->dilation_x = 6 + upto(14);
    const int64_t reach = (g->s - 1) * g->dilation_x + 1;
    g->left = rand() % reach;
    g->w = upto(40);
    g->q = (g->w + g->left - 1) / g->stride_x + 1; /* and reach - 1 zeros at the right */
}

static int test_conv2d(void)
{
    const void *operands[4];
    hwkit_conv2d g = any_window();
    if (g.s > 1 && rand() % 4 == 0)
        spread_taps(&g);
    g.groups = rand() % 3 ? 1 : upto(3);
    g.c = g.groups * upto(9);
    g.k = g.groups * upto(40);
    g.algorithm = !g.nhwc && rand() % 2 ? HWKIT_CONV_PACKED : HWKIT_CONV_DIRECT;
    g.kc = upto(40);
    g.pixels = upto(60);
    g.channels = upto(30);
    g.pack_a = g.algorithm == HWKIT_CONV_DIRECT && rand() % 2;
    g.merge = g.algorithm == HWKIT_CONV_DIRECT && g.dilation_x == 1 && rand() % 2;
    if ((g.nhwc || g.r * g.s == 1) && g.groups == 1 && g.c * g.r * g.s > 1 && rand() % 3 == 0) {
        g.algorithm = HWKIT_CONV_STRASSEN;
        g.pack_a = g.merge = 0;
    }
    if (g.nhwc && rand() % 4 == 0) {
        g.algorithm = HWKIT_CONV_DOT;
        g.pack_a = g.merge = 0;
    }
    const int tiles = hwkit_amx() && rand() % 2;
    if (tiles) {
        g.algorithm = HWKIT_CONV_TILES;
        g.is_double = g.merge = g.pack_a = 0;
        g.groups = 1;
        g.c = rand() % 2 ? upto(9) : 30 + upto(10);
        g.kc = upto(200);
        g.way.products = PRODUCTS[rand() % 3];
    }
    any_tile(g.is_double, &g.rows, &g.vectors);
    int64_t n = g.n * g.k * g.p * g.q;
    double *want = malloc((size_t)n * sizeof(double));
    int count = operands_of(&g, operands);
    convolve(&g, operands, want);
    int good = within(tiles ? of_products(g.way.products) : g.is_double ? 1e-13 : 2e-6, "conv2d",
                      hwkit_conv2d_plan(&g), count, operands, n, g.is_double, want);
    free(want);
    return good;
}

/* Weights [k][c] as [c][k]. */
static void *turned(const hwkit_conv2d *g, const float *w)
{
    float *to = fresh(0, g->c * g->k);
    for (int64_t i = 0; i < g->c * g->k; i++)
        to[i] = w[i % g->k * g->c + i / g->k];
    return to;
}

/* Some values that are tiny, some that are zeros, and now and then one that cannot be converted. */
static void spoil(float *x, int64_t n)
{
    const float tiny = 0x1p-140f * (float)upto(1 << 10);
    for (int64_t i = 0; i < n; i++)
        x[i] *= rand() % 4 ? 1 : rand() % 2 ? 0 : tiny;
    if (rand() % 4 == 0)
        x[rand() % n] = 0x1p60f;
}

static int test_block_float(void)
{
    const void *operands[4];
    hwkit_conv2d g = any_window();
    if (!hwkit_vnni())
        return 1;
    g.block_float = g.merge = g.nhwc = 1;
    g.is_double = 0;
    g.groups = 1;
    if (rand() % 3 == 0) {
        g.r = g.s = g.stride_y = g.stride_x = 1;
        g.top = g.left = 0;
        g.p = g.h;
        g.q = g.w;
    }
    g.c = rand() % 2 ? upto(9) : 28 + upto(70);
    g.k = upto(70);
    g.kc = 1;
    g.pixels = upto(60);
    g.channels = upto(70);
    do {
        g.rows = (int)upto(HWKIT_MAX_ROWS);
        g.vectors = (int)upto(HWKIT_MAX_VECTORS);
    } while (!hwkit_block_float_tile(g.rows, g.vectors));
    int64_t n = g.n * g.k * g.p * g.q;
    double *want = malloc((size_t)n * sizeof(double));
    int count = operands_of(&g, operands);
    if (rand() % 4 == 0)
        spoil((float *)operands[0], g.n * g.c * g.h * g.w);
    if (rand() % 8 == 0)
        spoil((float *)operands[1], g.k * g.r * g.s * g.c);
    convolve(&g, operands, want);
    if (g.r * g.s == 1 && rand() % 2) {
        operands[1] = turned(&g, operands[1]);
        g.by_depth = 1;
    }
    /* a few terms may cancel, or be cut off */
    int good = within(1e-3, "block_float", hwkit_conv2d_plan(&g), count, operands, n, 0, want);
    free(want);
    return good;
}

static int test_winograd(void)
{
    const void *operands[4];
    hwkit_conv2d g = any_window();
    static const int kinds[HWKIT_WINOGRAD_KINDS][3] = {{2, 3, 1}, {4, 3, 1}, {6, 3, 1},
                                                       {2, 3, 2}, {4, 3, 2}, {2, 5, 1}};
    const int *kind = kinds[rand() % HWKIT_WINOGRAD_KINDS];
    g.r = g.s = kind[1];
    g.stride_y = g.stride_x = kind[2];
    g.dilation_y = g.dilation_x = kind[2] == 1 && rand() % 2 ? 1 + rand() % 4 : 1;
    const int64_t tall = (g.r - 1) * g.dilation_y, wide = (g.s - 1) * g.dilation_x;
    g.h = 1 + tall + rand() % 12;
    g.w = 1 + wide + rand() % 20;
    g.p = (g.h + g.top + rand() % 3 - tall - 1) / g.stride_y + 1;
    g.q = (g.w + g.left + rand() % 3 - wide - 1) / g.stride_x + 1;
    g.groups = rand() % 3 ? 1 : upto(3);
    g.c = g.groups * upto(20);
    g.k = g.groups * upto(40);
    hwkit_winograd d = {
        .n = g.n, .c = g.c, .h = g.h, .w = g.w, .k = g.k, .p = g.p, .q = g.q, .top = g.top,
        .left = g.left, .groups = g.groups, .nhwc = g.nhwc, .is_double = g.is_double,
        .has_bias = g.has_bias, .has_residual = g.has_residual, .act = g.act,
        .m = kind[0], .taps = kind[1], .stride = kind[2],
        .dilation = g.dilation_y, .kc = upto(30), .tiles = upto(50), .stages = rand() % 2,
        .threads = g.threads};
    if (hwkit_amx() && d.m < 6 && rand() % 2) {
        d.way.products = rand() % 2 ? 6 : 3;
        g.is_double = d.is_double = 0;
    }
    any_tile(g.is_double, &d.rows, &d.vectors);
    int64_t n = g.n * g.k * g.p * g.q;
    double *want = malloc((size_t)n * sizeof(double));
    int count = operands_of(&g, operands);
    convolve(&g, operands, want);
    const double limit = d.way.products == 3 ? 1e-3 : d.m == 6 ? 4e-5 : 1e-5;
    int good = within(g.is_double ? 1e-13 : limit, "winograd", hwkit_winograd_plan(&d), count, operands, n,
                      g.is_double, want);
    /* what is not finite is computed again, and must spoil no more than its windows */
    if (good && g.act.kind == HWKIT_IDENTITY && g.n == 1) {
        int64_t y = rand() % g.h, x = rand() % g.w;
        put((void *)operands[0], g.is_double, image(g.nhwc, g.c, g.h, g.w, 0, 0, y, x), NAN);
        void *out = fresh(g.is_double, n);
        hwkit_plan *plan = hwkit_winograd_plan(&d);
        good = plan && plan->run(plan, operands, out) == HWKIT_OK;
        for (int64_t p = 0; p < g.p && good; p++)
            for (int64_t q = 0; q < g.q && good; q++) {
                const int64_t dy = y - p * g.stride_y + g.top, dx = x - q * g.stride_x + g.left;
                const int64_t d = g.dilation_y;
                const int seen = dy >= 0 && dy < g.r * d && dy % d == 0 && dx >= 0 &&
                                 dx < g.s * d && dx % d == 0;
                const int64_t at = image(g.nhwc, g.k, g.p, g.q, 0, 0, p, q);
                good = isnan(get(out, g.is_double, at)) == seen;
            }
        if (!good)
            printf("winograd: a NaN is where it should not be, or not where it should\n");
        if (plan)
            plan->destroy(plan);
    }
    free(want);
    return good;
}

/* ---- matrix products ------------------------------------------------------------------------- */

static int test_gemm(void)
{
    const void *operands[5];
    hwkit_gemm g = {.batch = upto(2), .m = upto(40), .n = upto(70), .k = upto(50),
                    .is_double = rand() % 2, .alpha = rand() % 2 ? 1 : 0.5, .threads = (int)upto(3),
                    .kc = upto(60), .mc = upto(50), .nc = upto(80), .pack_a = rand() % 2};
    g.algorithm = rand() % (hwkit_amx() ? 7 : 6);
    const int tiles = g.algorithm == HWKIT_GEMM_TILES;
    const int narrow = g.algorithm == HWKIT_GEMM_NARROW;
    const int strassen = g.algorithm == HWKIT_GEMM_STRASSEN;
    if (strassen)
        g.k++; /* at least 2 */
    if (narrow) {
        g.is_double = 0;
        g.storage = HWKIT_BFLOAT16 + rand() % 3;
        g.k = upto(200);
    }
    if (tiles) {
        g.is_double = 0;
        g.way.products = PRODUCTS[rand() % 3];
        g.k = upto(200);
    }
    if (g.algorithm == HWKIT_GEMM_STREAM && rand() % 8 == 0) { /* more than one part */
        g.m = upto(5);
        g.n = upto(20);
        g.k = 8192 + upto(20);
    }
    const int stream = g.algorithm == HWKIT_GEMM_STREAM;
    g.transpose_a = !narrow && !strassen && rand() % 2;
    g.transpose_b = g.algorithm != HWKIT_GEMM_UNPACKED && (!stream || g.transpose_a) && rand() % 2;
    g.b_shared = g.batch > 1 && rand() % 2;
    if (g.batch == 1) {
        g.has_addend = rand() % 2;
        g.beta = g.has_addend ? 0.75 : 0;
        g.has_bias = rand() % 2;
        g.has_residual = rand() % 2;
        g.act = any_activation();
    }
    any_tile(g.is_double, &g.rows, &g.vectors);
    int d = g.is_double, count = 2;
    int64_t n = g.batch * g.m * g.n;
    operands[0] = fresh(d, g.batch * g.m * g.k);
    operands[1] = fresh(d, (g.b_shared ? 1 : g.batch) * g.k * g.n);
    const void *addend = g.has_addend ? operands[count++] = fresh(d, n) : NULL;
    const void *bias = g.has_bias ? operands[count++] = fresh(d, g.n) : NULL;
    const void *residual = g.has_residual ? operands[count++] = fresh(d, n) : NULL;
    double *want = malloc((size_t)n * sizeof(double));
    for (int64_t z = 0; z < g.batch; z++)
        for (int64_t i = 0; i < g.m; i++)
            for (int64_t j = 0; j < g.n; j++) {
                double sum = 0;
                int64_t to = (z * g.m + i) * g.n + j, zb = g.b_shared ? 0 : z;
                for (int64_t k = 0; k < g.k; k++)
                    sum += get(operands[0], d,
                               z * g.m * g.k + (g.transpose_a ? k * g.m + i : i * g.k + k)) *
                           get(operands[1], d,
                               zb * g.k * g.n + (g.transpose_b ? j * g.k + k : k * g.n + j));
                sum = g.alpha * sum + (addend ? g.beta * get(addend, d, to) : 0);
                sum += (bias ? get(bias, d, j) : 0) + (residual ? get(residual, d, to) : 0);
                want[to] = activated(sum, &g.act);
            }
    int good = within(tiles ? of_products(g.way.products) : narrow && g.storage != HWKIT_INT24 ? 3e-2 : d ? 1e-13 : 2e-6, "gemm", hwkit_gemm_plan(&g), count, operands,
                      n, d, want);
    free(want);
    return good;
}

/* ---- pooling --------------------------------------------------------------------------------- */

static int test_pool(void)
{
    hwkit_conv2d g = any_window();
    int64_t count_y[64], count_x[128];
    hwkit_pool d = {
        .n = g.n, .c = upto(70), .h = g.h, .w = g.w, .r = g.r, .s = g.s, .p = g.p, .q = g.q,
        .sy = g.stride_y, .sx = g.stride_x, .dy = g.dilation_y, .dx = g.dilation_x, .top = g.top,
        .left = g.left, .nhwc = g.nhwc, .is_double = g.is_double, .mean = rand() % 2,
        .global = rand() % 4 == 0, .count_y = count_y, .count_x = count_x, .rows = upto(9),
        .block = upto(40), .threads = g.threads};
    d.transpose = !d.nhwc && !d.global && rand() % 2;
    if (d.global) {
        d.r = d.h, d.s = d.w, d.p = d.q = d.sy = d.sx = d.dy = d.dx = 1;
        d.top = d.left = 0;
    }
    const void *x = fresh(d.is_double, d.n * d.c * d.h * d.w);
    int64_t n = d.n * d.c * d.p * d.q;
    double *want = malloc((size_t)n * sizeof(double));
    for (int64_t p = 0; p < d.p; p++)
        count_y[p] = upto(9);
    for (int64_t q = 0; q < d.q; q++)
        count_x[q] = upto(9);
    for (int64_t i = 0; i < d.n; i++)
        for (int64_t c = 0; c < d.c; c++)
            for (int64_t p = 0; p < d.p; p++)
                for (int64_t q = 0; q < d.q; q++) {
                    double result = d.mean ? 0 : -INFINITY;
                    for (int64_t r = 0; r < d.r; r++)
                        for (int64_t s = 0; s < d.s; s++) {
                            int64_t row = p * d.sy - d.top + r * d.dy;
                            int64_t column = q * d.sx - d.left + s * d.dx;
                            if (row < 0 || row >= d.h || column < 0 || column >= d.w)
                                continue;
                            double v = get(x, d.is_double,
                                           image(d.nhwc, d.c, d.h, d.w, i, c, row, column));
                            result = d.mean ? result + v : fmax(result, v);
                        }
                    if (d.mean)
                        result /= d.global ? (double)(d.h * d.w) : (double)(count_y[p] * count_x[q]);
                    /* infinities, of windows of padding, would make the norm useless */
                    int64_t to = image(d.nhwc, d.c, d.p, d.q, i, c, p, q);
                    want[to] = result;
                }
    void *out = fresh(d.is_double, n);
    hwkit_plan *plan = hwkit_pool_plan(&d);
    int good = plan && plan->run(plan, &x, out) == HWKIT_OK;
    for (int64_t i = 0; i < n && good; i++)
        if (isinf(want[i]) && get(out, d.is_double, i) == want[i]) {
            want[i] = 0;
            put(out, d.is_double, i, 0);
        }
    good = good && close_enough("pool", out, want, n, d.is_double,
                                !d.mean ? 0 : d.is_double ? 1e-13 : 2e-6);
    if (plan)
        plan->destroy(plan);
    free(want);
    return good;
}

/* ---- elementwise ----------------------------------------------------------------------------- */

static double stood_alone(double x, const hwkit_activation *act)
{
    switch (act->kind) {
    case HWKIT_TANH:
        return tanh(x);
    case HWKIT_EXP:
        return exp(x);
    case HWKIT_ELU:
        return x < 0 ? act->lo * expm1(x) : x;
    case HWKIT_HARD_SIGMOID:
        return fmin(fmax(act->lo * x + act->hi, 0), 1);
    case HWKIT_ERF:
        return erf(x);
    case HWKIT_GELU:
        return x * erfc(-x / sqrt(2)) / 2;
    case HWKIT_GELU_TANH:
        return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case HWKIT_MISH:
        return x * tanh(log1p(exp(x)));
    default:
        return activated(x, act);
    }
}

static double joined(double x, double other, hwkit_operator operator)
{
    switch (operator) {
    case HWKIT_ADD:
        return x + other;
    case HWKIT_SUBTRACT:
        return x - other;
    case HWKIT_MULTIPLY:
        return x * other;
    case HWKIT_DIVIDE:
        return x / other;
    case HWKIT_MAXIMUM:
        return fmax(x, other);
    case HWKIT_MINIMUM:
        return fmin(x, other);
    case HWKIT_PRELU:
        return x < 0 ? x * other : x;
    default:
        return x;
    }
}

static int test_elementwise(void)
{
    hwkit_elementwise d = {
        .b = upto(3), .n = upto(20), .c = upto(70), .l = rand() % 2 ? 1 : upto(40),
        .is_double = rand() % 2, .operator = (hwkit_operator)(rand() % HWKIT_OPERATORS),
        .block = upto(300), .threads = (int)upto(3)};
    d.act = any_activation();
    if (rand() % 2) {
        d.act.kind = HWKIT_TANH + rand() % (HWKIT_ACTIVATIONS - HWKIT_TANH);
        d.act.lo = 0.5, d.act.hi = 0.25;
    }
    const int64_t n = d.b * d.n * d.c * d.l;
    const void *operands[2] = {fresh(d.is_double, n), fresh(d.is_double, d.b * d.c)};
    double *want = malloc((size_t)n * sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        const int64_t other = i / (d.l * d.c * d.n) * d.c + i / d.l % d.c;
        double *x = (double *)(uintptr_t)operands[0];
        put(x, d.is_double, i, 5 * get(x, d.is_double, i));
        double y = joined(get(x, d.is_double, i), get(operands[1], d.is_double, other), d.operator);
        /* what rounding does to a quotient before an exponential is no fault of the exponential */
        want[i] = stood_alone(d.is_double ? y : (double)(float)y, &d.act);
    }
    void *out = fresh(d.is_double, n);
    hwkit_plan *plan = hwkit_elementwise_plan(&d);
    int good = plan && plan->run(plan, operands, out) == HWKIT_OK;
    for (int64_t i = 0; i < n && good; i++)
        if (!isfinite((float)want[i]) || fabs(want[i]) > 1e6) { /* exp(x / small) */
            want[i] = 0;
            put(out, d.is_double, i, 0);
        }
    good = good && close_enough("elementwise", out, want, n, d.is_double,
                                d.is_double ? 1e-13 : 2e-6);
    if (!good)
        printf("operator %d, activation %d\n", d.operator, d.act.kind);
    if (plan)
        plan->destroy(plan);
    free(want);
    return good;
}

/* ---- transposition --------------------------------------------------------------------------- */

static int test_transpose(void)
{
    const hwkit_transpose d = {.batch = upto(5), .rows = upto(rand() % 2 ? 5 : 70),
                               .columns = upto(rand() % 2 ? 5 : 70), .size = 1 << rand() % 4,
                               .block = upto(2000), .threads = (int)upto(3)};
    const size_t n = (size_t)(d.batch * d.rows * d.columns), size = (size_t)d.size;
    char *x = guarded(n * size), *out = guarded(n * size);
    for (size_t i = 0; i < n * size; i++)
        x[i] = (char)rand();
    hwkit_plan *plan = hwkit_transpose_plan(&d);
    int good = plan && plan->run(plan, (const void *const[]){x}, out) == HWKIT_OK;
    for (size_t i = 0; good && i < n; i++) {
        const size_t r = (size_t)d.rows, c = (size_t)d.columns;
        const size_t b = i / (r * c), row = i / c % r, column = i % c;
        good = !memcmp(out + ((b * c + column) * r + row) * size, x + i * size, size);
    }
    if (!good)
        printf("transpose: %d x %d of %d bytes\n", (int)d.rows, (int)d.columns, d.size);
    if (plan)
        plan->destroy(plan);
    return good;
}

/* What kernels of convolutions turn over: parts of wider matrices, begun anywhere. */
static int test_transpose_part(void)
{
    const int is_double = rand() % 2, far = rand() % 2;
    const hwkit_transpose_kernels *table = hwkit_isa_get()->transpose[is_double ? 3 : 2];
    const size_t size = is_double ? 8 : 4, line = 64 / size;
    const int64_t depth = upto(rand() % 2 ? 9 : 300), count = upto(rand() % 2 ? 9 : 300);
    const int64_t src_ld = depth + (rand() % 2 ? 0 : upto(500)), before = rand() % (int)line;
    int64_t dst_ld = before + count + (rand() % 2 ? 0 : upto(500));
    if (rand() % 2)
        dst_ld = hwkit_round_up(dst_ld, (int64_t)line);
    const size_t to = (size_t)(depth * dst_ld), from = (size_t)((count - 1) * src_ld + depth);
    char *x = guarded(from * size), *out = guarded(to * size), *old = malloc(to * size);
    for (size_t i = 0; i < from * size; i++)
        x[i] = (char)rand();
    for (size_t i = 0; i < to * size; i++)
        out[i] = old[i] = (char)rand();
    (far ? table->far : table->any)(out + (size_t)before * size, dst_ld, x, src_ld, count, depth);
    int good = 1;
    for (int64_t i = 0; good && i < depth; i++)
        for (int64_t j = 0; good && j < dst_ld; j++) {
            const size_t at = (size_t)(i * dst_ld + j), source = (size_t)((j - before) * src_ld + i);
            const int inside = j >= before && j < before + count;
            good = !memcmp(out + at * size, inside ? x + source * size : old + at * size, size);
        }
    if (!good)
        printf("transpose%s: %d x %d of %d bytes, rows of %d to rows of %d, %d before\n",
               far ? " far" : "", (int)depth, (int)count, (int)size, (int)src_ld, (int)dst_ld,
               (int)before);
    free(old);
    return good;
}

/* ---- local response normalisation -------------------------------------------------------------- */

static int test_lrn(void)
{
    const hwkit_lrn d = {.n = upto(9), .c = upto(70), .l = rand() % 2 ? 1 : upto(70),
                         .is_double = rand() % 2, .before = rand() % 5, .after = rand() % 5,
                         .factor = 0.25, .bias = 1.5, .quarters = (int)upto(4),
                         .block = upto(2000), .threads = (int)upto(3)};
    const int64_t n = d.n * d.c * d.l;
    const void *x = fresh(d.is_double, n);
    void *out = fresh(d.is_double, n);
    double *want = malloc((size_t)n * sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        const int64_t c = i / d.l % d.c;
        double sum = 0;
        for (int64_t k = -d.before; k <= d.after; k++)
            if (c + k >= 0 && c + k < d.c)
                sum += pow(get(x, d.is_double, i + k * d.l), 2);
        want[i] = get(x, d.is_double, i) / pow(d.bias + d.factor * sum, d.quarters / 4.0);
    }
    hwkit_plan *plan = hwkit_lrn_plan(&d);
    int good = plan && plan->run(plan, &x, out) == HWKIT_OK;
    good = good && close_enough("lrn", out, want, n, d.is_double, d.is_double ? 1e-13 : 2e-6);
    if (plan)
        plan->destroy(plan);
    free(want);
    return good;
}

int main(int argc, char **argv)
{
    static int (*const tests[])(void) = {test_depthwise, test_pool, test_conv2d, test_block_float,
                                         test_gemm, test_half, test_half_images, test_int8,
                                         test_winograd, test_amx, test_elementwise, test_transpose,
                                         test_transpose_part, test_lrn};
    int problems = argc > 1 ? atoi(argv[1]) : 200;
    const char *isa = hwkit_isa_name();
    if (argc > 2 && strcmp(argv[2], isa)) {
        printf("the selected instruction set is %s, not %s\n", isa, argv[2]);
        return 1;
    }
    open_pages = argc > 3 && !strcmp(argv[3], "open");
    hwkit_threads_limit(3);
    for (int i = 0; i < problems; i++) {
        srand((unsigned)i + 1);
        int good = tests[i % (int)(sizeof tests / sizeof tests[0])]();
        release_all();
        if (!good) {
            printf("%s: problem %d is wrong\n", isa, i);
            return 1;
        }
    }
    printf("%s: %d problems ok\n", isa, problems);
    return 0;
}
