/* float16 and bfloat16: the conversions against bit arithmetic, and plans whose operands are stored
 * narrow against the plan in float32 between two conversions, bit for bit. */
#include "depthwise.h"
#include "half.h"
#include "isa.h"
#include "kernels_test.h"
#include "pool2d.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int test_half(void)
{
    int64_t n = upto(100);
    float *wide = guarded((size_t)n * 4), *back = guarded((size_t)n * 4);
    uint16_t *half = guarded((size_t)n * 2), *same = guarded((size_t)n * 2);
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)rand() << 9 ^ (uint32_t)rand();
        memcpy(&wide[i], &bits, 4);
    }
    hwkit_f32_to_f16(wide, half, n);
    hwkit_f32_to_f16_portable(wide, same, n);
    int good = !memcmp(half, same, (size_t)n * 2);
    hwkit_f16_to_f32(half, wide, n);
    hwkit_f16_to_f32_portable(half, back, n);
    good = good && !memcmp(wide, back, (size_t)n * 4);
    hwkit_f32_to_bf16(wide, half, n);
    hwkit_bf16_to_f32(half, back, n);
    hwkit_f32_to_bf16(back, same, n);
    good = good && !memcmp(half, same, (size_t)n * 2);
    if (!good)
        printf("half: conversions differ\n");
    return good;
}

enum { MOST = 4 };

/* Operands as they are stored and widened, and the result of the plan in float32, rounded. */
typedef struct {
    hwkit_half type;
    int count;
    int64_t sizes[MOST + 1];
    const void *narrow[MOST];
    const uint16_t *want;
} example;

static void add(example *e, int64_t n)
{
    float *wide = guarded((size_t)n * 4);
    uint16_t *narrow = guarded((size_t)n * 2);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (float)(rand() / (double)RAND_MAX * 2 - 1);
    hwkit_half_round(e->type, wide, narrow, n, 1);
    e->sizes[e->count] = n;
    e->narrow[e->count++] = narrow;
}

/* What the float32 plan `wide` makes of the operands; n results. */
static int expect(example *e, const hwkit_plan *wide, int64_t n)
{
    const void *operands[MOST];
    for (int i = 0; i < e->count; i++) {
        float *copy = guarded((size_t)e->sizes[i] * 4);
        hwkit_half_widen(e->type, e->narrow[i], copy, e->sizes[i], 1);
        operands[i] = copy;
    }
    float *out = guarded((size_t)n * 4);
    uint16_t *want = guarded((size_t)n * 2);
    const int good = wide && wide->run(wide, operands, out) == HWKIT_OK;
    hwkit_half_round(e->type, out, want, n, 1);
    e->sizes[e->count] = n;
    e->want = want;
    return good;
}

static int same(const char *what, const example *e, const hwkit_plan *plan,
                const void *const *operands)
{
    const size_t bytes = (size_t)e->sizes[e->count] * 2;
    void *out = guarded(bytes);
    memset(out, 77, bytes);
    if (plan && plan->run(plan, operands, out) == HWKIT_OK && !memcmp(out, e->want, bytes))
        return 1;
    printf("half: %s differs from float32, rounded\n", what);
    return 0;
}

/* `plan` as it is, then with operand 1 prepacked where it has one. Takes over the plan. */
static int agrees(const char *what, const example *e, hwkit_plan *plan)
{
    const int position = 1;
    const int64_t bytes = e->sizes[1] * 2;
    int good = same(what, e, plan, e->narrow);
    if (good && e->count > 1) {
        const hwkit_constants constants = {1, &position, &e->narrow[1], &bytes};
        const void *rest[MOST] = {e->narrow[0]};
        for (int i = 2; i < e->count; i++)
            rest[i - 1] = e->narrow[i];
        hwkit_plan *packed = plan->prepack(plan, &constants);
        good = same(what, e, packed, rest);
        if (packed)
            packed->destroy(packed);
    }
    if (plan)
        plan->destroy(plan);
    return good;
}

/* Sizes of an image and a window that fits; some images are several pieces. */
typedef struct {
    int64_t n, c, h, w, r, s, p, q, sy, sx, dy, dx, top, left;
} geometry;

static geometry any_geometry(void)
{
    const int large = rand() % 4 == 0;
    geometry g = {.n = upto(2), .c = upto(large ? 300 : 40), .r = upto(3), .s = upto(3),
                  .sy = upto(3), .sx = upto(3), .dy = upto(2), .dx = upto(2),
                  .top = rand() % 3, .left = rand() % 3};
    g.h = (g.r - 1) * g.dy + upto(large ? 40 : 9);
    g.w = (g.s - 1) * g.dx + upto(large ? 60 : 20);
    g.p = (g.h + 2 * g.top - (g.r - 1) * g.dy - 1) / g.sy + 1;
    g.q = (g.w + 2 * g.left - (g.s - 1) * g.dx - 1) / g.sx + 1;
    return g;
}

static int test_pool(void)
{
    const geometry g = any_geometry();
    int64_t count_y[64], count_x[128];
    for (int i = 0; i < 64; i++)
        count_y[i] = upto(9);
    for (int i = 0; i < 128; i++)
        count_x[i] = upto(9);
    hwkit_pool d = {.n = g.n, .c = g.c, .h = g.h, .w = g.w, .r = g.r, .s = g.s, .p = g.p, .q = g.q,
                    .sy = g.sy, .sx = g.sx, .dy = g.dy, .dx = g.dx, .top = g.top, .left = g.left,
                    .nhwc = rand() % 2, .mean = rand() % 2, .global = rand() % 3 == 0,
                    .count_y = count_y, .count_x = count_x, .rows = upto(30), .block = upto(300),
                    .threads = (int)upto(3)};
    d.transpose = !d.nhwc && !d.global && rand() % 2;
    if (d.global && rand() % 4 == 0) { /* planes of several parts */
        d.c = upto(5);
        d.h = upto(150);
        d.w = upto(150);
    }
    example e = {.type = rand() % 2 ? HWKIT_HALF_F16 : HWKIT_HALF_BF16};
    add(&e, d.n * d.c * d.h * d.w);
    hwkit_plan *wide = hwkit_pool_plan(&d);
    int good = expect(&e, wide, d.n * d.c * (d.global ? 1 : d.p * d.q));
    d.half = e.type;
    good = good && agrees("pool", &e, hwkit_pool_plan(&d));
    if (wide)
        wide->destroy(wide);
    return good;
}

/* The kernel that widens by itself, and the plan that widens for another. */
static int test_depthwise(void)
{
    const geometry g = any_geometry();
    const int has_bias = rand() % 2, has_residual = rand() % 2;
    hwkit_depthwise d = {.n = g.n, .c = g.c, .h = g.h, .w = g.w, .k = g.c * (rand() % 4 ? 1 : upto(3)),
                         .r = g.r, .s = g.s, .p = g.p, .q = g.q, .sy = g.sy, .sx = g.sx, .dy = g.dy,
                         .dx = g.dx, .top = g.top, .left = g.left, .nhwc = rand() % 2,
                         .act = {rand() % 2 ? HWKIT_CLAMP : 0, -0.25, 0.75}, .wide = (int)upto(7),
                         .rows = upto(30), .block = upto(300), .threads = (int)upto(3)};
    d.transpose = !d.nhwc && d.k == d.c && rand() % 2;
    d.mix = d.k == d.c && (d.nhwc || d.transpose) ? 1 << rand() % 4 : 1;
    if (d.mix > hwkit_isa_get()->f32.vl)
        d.mix = 1;
    d.c = d.mix > 1 ? (d.c + d.mix - 1) / d.mix * d.mix : d.c;
    d.k = d.mix > 1 ? d.c : d.k;
    hwkit_depthwise narrow = d;
    example e = {.type = rand() % 2 ? HWKIT_HALF_F16 : HWKIT_HALF_BF16};
    const int64_t n = d.n * d.k * d.p * d.q;
    add(&e, d.n * d.c * d.h * d.w);
    add(&e, d.k * d.r * d.s * d.mix);
    if (has_bias)
        add(&e, d.k);
    if (has_residual)
        add(&e, n);
    hwkit_plan *wide = hwkit_depthwise_prepare(&d) ? NULL
                                                   : hwkit_depthwise_plan(&d, has_bias, has_residual);
    narrow.half = e.type;
    int good = expect(&e, wide, n) && hwkit_depthwise_prepare(&narrow) == 0 &&
               agrees("depthwise", &e, hwkit_depthwise_plan(&narrow, has_bias, has_residual)) &&
               agrees("the plan around another", &e,
                      hwkit_half_plan(wide, e.type, e.count, e.sizes, d.threads));
    if (wide)
        wide->destroy(wide);
    return good;
}

int test_half_images(void)
{
    return rand() % 2 ? test_pool() : test_depthwise();
}
