/* A call of a plan of 8-bit products: what it computes once, then its chunks on all threads. */
#include "int8_chunk.h"
#include "int8_pack.h"
#include "threads.h"

#include <string.h>

/* min(max(value, lo), hi) */
static float bound(float value, float lo, float hi)
{
    value = value > lo ? value : lo;
    return value < hi ? value : hi;
}

static void set_bounds(product *x, const void *const *all)
{
    const hwkit_int8 *g = &x->p->g;
    const int clamp = g->act.kind == HWKIT_CLAMP;
    const float lo = clamp ? (float)g->act.lo : -__builtin_inff();
    const float hi = clamp ? (float)g->act.hi : __builtin_inff();
    x->least = INT32_MIN;
    x->most = INT32_MAX;
    if (clamp && g->output == HWKIT_INT8_TO_INT32) { /* relu or relu6 */
        x->least = (int32_t)lo;
        x->most = hi < 0x1p31f ? (int32_t)hi : INT32_MAX;
    }
    x->lo = lo;
    x->hi = hi;
    if (g->output < HWKIT_INT8_TO_INT8)
        return;
    const int is_signed = g->output == HWKIT_INT8_TO_INT8;
    x->y_zero = read_zero(all[Y_ZERO], 0, is_signed);
    const float scale = *(const float *)all[Y_SCALE];
    const float from = (float)((is_signed ? -128 : 0) - x->y_zero), to = from + 255;
    x->lo = bound(clamp ? lo / scale : from, from, to);
    x->hi = bound(clamp ? hi / scale : to, from, to);
}

static int64_t channels_bytes(const plan *p)
{
    return 3 * p->g.k * (int64_t)sizeof(int32_t);
}

/* Whether threads run whole products of the batch; what they run in parallel inside runs inline. */
static int shares_batch(const plan *p)
{
    return p->g.threads > 1 && p->g.batch >= 2 * (int64_t)p->g.threads;
}

int64_t hwkit_int8_shared_bytes(const plan *p)
{
    return (shares_batch(p) ? p->g.threads : 1) * (p->w_bytes + channels_bytes(p));
}

/* What belongs to each output channel; 0 if memory is short. */
static int set_channels(product *x, const void *const *all, const void *packed)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    int32_t *vectors = hwkit_scratch(HWKIT_SCRATCH_LAYOUT, channels_bytes(p));
    if (!vectors)
        return 0;
    int32_t *shift = vectors, *w_zero = vectors + g->k;
    float *scale = (float *)(vectors + 2 * g->k);
    const int32_t *bias = all[BIAS];
    const uint32_t depth = (uint32_t)(p->cg * p->taps);
    int any = bias != NULL, zeros = 0;
    const int bytes = strip_size(p) == 1;
    const int32_t flip = w_flip(p) ? 128 : 0;
    if (!g->depthwise && g->per_channel)
        for (int64_t n = 0; n < g->k; n++) {
            w_zero[n] = read_zero(all[W_ZERO], n, g->w_signed) - flip;
            zeros |= w_zero[n];
        }
    else if (!g->depthwise && (zeros = read_zero(all[W_ZERO], 0, g->w_signed) - flip))
        for (int64_t n = 0; n < g->k; n++)
            w_zero[n] = zeros;
    const uint32_t zero = bytes ? (uint32_t)x->x_zero : 0;
    any |= zero != 0;
    const int32_t *sums = bytes ? hwkit_int8_sums(p, (void *)packed) : NULL;
    for (int64_t n = 0; any && n < g->k; n++)
        shift[n] = bias ? bias[n] : 0;
    for (int64_t n = 0; zero && n < g->k; n++)
        shift[n] = (int32_t)((uint32_t)shift[n] - zero * (uint32_t)sums[n]);
    for (int64_t n = 0; zero && zeros && n < g->k; n++)
        shift[n] = (int32_t)((uint32_t)shift[n] + zero * depth * (uint32_t)w_zero[n]);
    if (g->has_scale) {
        const float *x_scale = all[X_SCALE], *w_scale = all[W_SCALE], *y_scale = all[Y_SCALE];
        for (int64_t n = 0; n < g->k; n++) {
            const float unit = *x_scale * w_scale[g->per_channel ? n : 0];
            scale[n] = y_scale ? unit / *y_scale : unit;
        }
    }
    x->shift = any ? shift : NULL;
    x->w_zero = zeros ? w_zero : NULL;
    x->scale = g->has_scale ? scale : NULL;
    return 1;
}

static int run_one(const plan *p, const void *const *all, char *out)
{
    const hwkit_int8 *g = &p->g;
    product x = {.p = p, .x = all[X], .weights = all[W], .out = out};
    x.x_zero = read_zero(all[X_ZERO], 0, g->x_signed);
    if (strip_size(p) == 1) /* in the other sign a byte stands for 128 more, or less */
        x.x_zero += x_flip(p) ? (p->table->a_signed ? -128 : 128) : 0;
    if (!p->w_packed) {
        char *to = hwkit_scratch(HWKIT_SCRATCH_SHARED, p->w_bytes);
        if (!to || !hwkit_int8_pack(p, to, all[W], all[W_ZERO], g->threads))
            return HWKIT_NO_MEMORY;
        x.weights = to;
    }
    if (!set_channels(&x, all, x.weights))
        return HWKIT_NO_MEMORY;
    set_bounds(&x, all);
    const int64_t channels = g->depthwise ? g->k : p->kg;
    const int64_t chunks = g->n * chunks_down(p) * chunks_across(p) *
                           hwkit_parts(channels, g->channels);
    hwkit_parallel_work(chunks,
                        g->depthwise ? hwkit_int8_depthwise_chunk : hwkit_int8_product_chunk, &x,
                        g->threads, 1e9 * p->base.seconds / (double)g->batch);
    return x.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static int64_t x_bytes(const hwkit_int8 *g)
{
    return g->n * g->c * g->h * g->w;
}

typedef struct {
    const plan *p;
    const void *all[KINDS];
    char *out;
    _Atomic int failed;
} batch;

static void batch_chunk(void *ctx, int64_t index)
{
    batch *b = ctx;
    const plan *p = b->p;
    const hwkit_int8 *g = &p->g;
    const void *all[KINDS];
    memcpy(all, b->all, sizeof all);
    const int64_t size = g->output >= HWKIT_INT8_TO_INT8 ? 1 : 4;
    all[X] = (const char *)all[X] + (g->x_shared ? 0 : index * x_bytes(g));
    all[W] = (const char *)all[W] +
             (g->w_shared ? 0 : index * (p->w_packed ? p->w_bytes : w_elements(p)));
    if (run_one(p, all, b->out + index * g->n * g->k * g->p * g->q * size) != HWKIT_OK)
        b->failed = 1;
}

int hwkit_int8_run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    batch b = {.p = p, .out = out};
    hwkit_bind(&p->operands, KINDS, operands, b.all);
    if (shares_batch(p))
        hwkit_parallel_work(p->g.batch, batch_chunk, &b, p->g.threads,
                            1e9 * base->seconds);
    else
        for (int64_t i = 0; i < p->g.batch; i++)
            batch_chunk(&b, i);
    return b.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}
