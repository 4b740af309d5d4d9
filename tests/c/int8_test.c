/* 8-bit products, convolutions and depthwise convolutions against plain loops in 64 bits, exactly. */
#include "kernels_test.h"

#include "int8.h"
#include "isa.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPERANDS = 9 };

/* The operands of one problem, in the order in which a plan takes them. */
typedef struct {
    const void *all[MOST_OPERANDS];
    int count;
    const uint8_t *x, *w;
    const int32_t *bias;
    const float *x_scale, *w_scale, *y_scale;
    const uint8_t *x_zero, *w_zero, *y_zero;
} operands;

static int value(const uint8_t *bytes, int64_t i, int is_signed)
{
    return is_signed ? (int8_t)bytes[i] : bytes[i];
}

static const void *random_bytes(operands *o, int64_t n, int size)
{
    uint8_t *bytes = guarded((size_t)(n * size));
    for (int64_t i = 0; i < n * size; i++)
        bytes[i] = (uint8_t)(rand() >> 4);
    if (size == 4) /* not too far from the sums */
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)(void *)bytes)[i] %= 10000;
    return o->all[o->count++] = bytes;
}

/* Weights whose sums of two fit 16 bits beside any x, but for a few, or for none. */
static void make_small(uint8_t *w, int64_t n, int is_signed)
{
    const int rare = rand() % 2 ? 50 : 1 << 30;
    for (int64_t i = 0; i < n; i++) {
        const int v = rand() % rare ? rand() % 129 - 64 : rand() % 2 ? 127 : -128;
        w[i] = (uint8_t)(is_signed ? v : v + 128);
    }
}

static const void *random_scales(operands *o, int64_t n, double middle)
{
    float *scales = guarded((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        scales[i] = (float)(middle * (0.5 + rand() / (double)RAND_MAX));
    return o->all[o->count++] = scales;
}

static hwkit_int8 any_problem(void)
{
    const hwkit_int8_kernels *table = hwkit_int8_table();
    hwkit_int8 g = {.batch = 1, .n = upto(2), .groups = rand() % 3 ? 1 : upto(3)};
    g.depthwise = rand() % 4 == 0;
    g.c = g.groups * (rand() % 10 ? upto(rand() % 2 ? 70 : 9) : 64 * upto(3));
    g.k = g.groups * upto(70);
    if (g.depthwise)
        g.groups = g.k = g.c;
    g.r = upto(3), g.s = upto(4), g.stride_y = upto(3), g.stride_x = upto(3);
    g.dilation_y = upto(2), g.dilation_x = upto(2);
    g.top = rand() % 3, g.left = rand() % 3;
    g.h = upto(10) + (g.r - 1) * g.dilation_y, g.w = upto(20) + (g.s - 1) * g.dilation_x;
    g.x_planes = rand() % 2, g.y_planes = rand() % 2, g.w_order = rand() % 2;
    if (!g.depthwise && rand() % 3 == 0) { /* a matrix product */
        g.r = g.s = g.stride_y = g.stride_x = g.dilation_y = g.dilation_x = g.groups = 1;
        g.top = g.left = 0;
        g.w_order = rand() % 3;
        g.batch = upto(3);
        g.x_shared = rand() % 2, g.w_shared = rand() % 2;
    }
    g.p = (g.h + g.top - (g.r - 1) * g.dilation_y - 1) / g.stride_y + 1;
    g.q = (g.w + g.left - (g.s - 1) * g.dilation_x - 1) / g.stride_x + 1;
    g.x_signed = rand() % 2, g.w_signed = rand() % 2, g.output = rand() % 4;
    g.has_bias = rand() % 2, g.has_zero = rand() % 3 > 0, g.per_channel = rand() % 2;
    g.has_scale = g.output != HWKIT_INT8_TO_INT32;
    g.act.kind = rand() % 2 ? HWKIT_CLAMP : HWKIT_IDENTITY;
    g.act.hi = 6;
    g.kc = upto(100), g.pixels = upto(90), g.channels = upto(90), g.threads = (int)upto(3);
    if (!g.depthwise && hwkit_amx() && rand() % 2) {
        g.tiles = g.narrow = 1;
        g.rows = rand() % 2 ? 16 : 32, g.vectors = (int)upto(2);
        return g;
    }
    do {
        g.narrow = rand() % 2;
        g.rows = (int)upto(HWKIT_INT8_ROWS), g.vectors = (int)upto(HWKIT_INT8_VECTORS);
    } while (!table->tiles[g.narrow][g.vectors - 1][g.rows - 1]);
    return g;
}

static operands any_operands(const hwkit_int8 *g)
{
    operands o = {.count = 0};
    const int64_t images = g->x_shared ? 1 : g->batch, filters = g->w_shared ? 1 : g->batch;
    const int64_t each = g->per_channel ? g->k : 1, depth = g->c / g->groups * g->r * g->s;
    o.x = random_bytes(&o, images * g->n * g->c * g->h * g->w, 1);
    o.w = random_bytes(&o, filters * g->k * depth, 1);
    if (rand() % 3)
        make_small((uint8_t *)(uintptr_t)o.w, filters * g->k * depth, g->w_signed);
    o.bias = g->has_bias ? random_bytes(&o, g->k, 4) : NULL;
    o.x_scale = g->has_scale ? random_scales(&o, 1, 0.02) : NULL;
    o.x_zero = g->has_zero ? random_bytes(&o, 1, 1) : NULL;
    o.w_scale = g->has_scale ? random_scales(&o, each, 0.03) : NULL;
    o.w_zero = g->has_zero ? random_bytes(&o, each, 1) : NULL;
    if (g->output >= HWKIT_INT8_TO_INT8) {
        o.y_scale = random_scales(&o, 1, 0.05 * sqrt((double)depth));
        o.y_zero = random_bytes(&o, 1, 1);
    }
    return o;
}

static int64_t pixel(int planes, int64_t c, int64_t h, int64_t w, int64_t i, int64_t channel,
                     int64_t y, int64_t x)
{
    return planes ? ((i * c + channel) * h + y) * w + x : ((i * h + y) * w + x) * c + channel;
}

/* One sum, of product b of the batch. */
static int64_t sum_of(const hwkit_int8 *g, const operands *o, int64_t b, int64_t i, int64_t k,
                      int64_t y, int64_t x)
{
    const int64_t cg = g->c / g->groups, first = k / (g->k / g->groups) * cg;
    const int x_zero = o->x_zero ? value(o->x_zero, 0, g->x_signed) : 0;
    const int w_zero = o->w_zero ? value(o->w_zero, g->per_channel ? k : 0, g->w_signed) : 0;
    const uint8_t *images = o->x + (g->x_shared ? 0 : b * g->n * g->c * g->h * g->w);
    const uint8_t *filters = o->w + (g->w_shared ? 0 : b * g->k * cg * g->r * g->s);
    int64_t sum = o->bias ? o->bias[k] : 0;
    for (int64_t c = 0; c < cg; c++)
        for (int64_t r = 0; r < g->r; r++)
            for (int64_t s = 0; s < g->s; s++) {
                const int64_t row = y * g->stride_y - g->top + r * g->dilation_y;
                const int64_t column = x * g->stride_x - g->left + s * g->dilation_x;
                if (row < 0 || row >= g->h || column < 0 || column >= g->w)
                    continue;
                const int64_t at = g->w_order == HWKIT_INT8_KRSC
                                       ? ((k * g->r + r) * g->s + s) * cg + c
                                   : g->w_order == HWKIT_INT8_KCRS
                                       ? ((k * cg + c) * g->r + r) * g->s + s
                                       : c * g->k + k;
                const int64_t from =
                    pixel(g->x_planes, g->c, g->h, g->w, i, first + c, row, column);
                sum += (value(images, from, g->x_signed) - x_zero) *
                       (int64_t)(value(filters, at, g->w_signed) - w_zero);
            }
    return sum;
}

/* Whether element `at` of the result is what becomes of `sum`. */
static int becomes(const hwkit_int8 *g, const operands *o, int64_t sum, int64_t k, const void *out,
                   int64_t at)
{
    const int clamp = g->act.kind == HWKIT_CLAMP;
    if (g->output == HWKIT_INT8_TO_INT32) {
        const int64_t want = !clamp ? sum : sum < 0 ? 0 : sum > 6 ? 6 : sum;
        return ((const int32_t *)out)[at] == want;
    }
    float scale = *o->x_scale * o->w_scale[g->per_channel ? k : 0];
    if (g->output == HWKIT_INT8_TO_FLOAT32) {
        const float real = (float)sum * scale;
        return ((const float *)out)[at] == (clamp ? fminf(fmaxf(real, 0), 6) : real);
    }
    scale = scale / *o->y_scale;
    float real = (float)sum * scale;
    if (clamp)
        real = fminf(fmaxf(real, 0), 6 / *o->y_scale);
    const int is_signed = g->output == HWKIT_INT8_TO_INT8;
    const double least = is_signed ? -128 : 0;
    const double shifted = rint(real) + value(o->y_zero, 0, is_signed);
    return value(out, at, is_signed) == fmin(fmax(shifted, least), least + 255);
}

static int right(const char *what, const hwkit_int8 *g, const operands *o, const void *out)
{
    for (int64_t b = 0; b < g->batch; b++)
        for (int64_t i = 0; i < g->n; i++)
            for (int64_t k = 0; k < g->k; k++)
                for (int64_t y = 0; y < g->p; y++)
                    for (int64_t x = 0; x < g->q; x++) {
                        const int64_t at = pixel(g->y_planes, g->k, g->p, g->q, b * g->n + i, k, y, x);
                        if (!becomes(g, o, sum_of(g, o, b, i, k, y, x), k, out, at)) {
                            printf("int8 %s: element %lld is wrong\n", what, (long long)at);
                            return 0;
                        }
                    }
    return 1;
}

int test_int8(void)
{
    const hwkit_int8 g = any_problem();
    const operands o = any_operands(&g);
    const size_t size = g.output >= HWKIT_INT8_TO_INT8 ? 1 : 4;
    const size_t bytes = (size_t)(g.batch * g.n * g.k * g.p * g.q) * size;
    void *out = guarded(bytes);
    hwkit_plan *plan = hwkit_int8_plan(&g);
    int positions[MOST_OPERANDS];
    int64_t sizes[MOST_OPERANDS];
    const void *constants[MOST_OPERANDS], *rest[MOST_OPERANDS];
    hwkit_constants held = {0, positions, constants, sizes};
    int left = 0;
    int good = plan && plan->run(plan, o.all, out) == HWKIT_OK && right("plain", &g, &o, out);
    for (int i = 0; i < o.count; i++)
        if (i > 0 && rand() % 4) {
            positions[held.count] = i;
            sizes[held.count] = guarded_bytes(o.all[i]);
            constants[held.count++] = o.all[i];
        } else {
            rest[left++] = o.all[i];
        }
    hwkit_plan *packed = good ? plan->prepack(plan, &held) : NULL;
    memset(out, 77, bytes);
    good = packed && packed->run(packed, rest, out) == HWKIT_OK && right("packed", &g, &o, out);
    if (packed)
        packed->destroy(packed);
    if (plan)
        plan->destroy(plan);
    return good;
}
