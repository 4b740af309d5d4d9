/* Packing for narrow.h. Done once for each matrix, so it is plain C. */
#include "narrow.h"

#include "half.h"
#include "threads.h"

#include <math.h>
#include <string.h>

static const float LARGEST_BF16 = 0x1.fep127f;

int hwkit_narrow_width(int storage, int vl)
{
    return storage == HWKIT_INT8 ? 4 * vl : 2 * vl;
}

static int64_t parts_of(int64_t depth)
{
    return depth / HWKIT_NARROW_DEPTH + (depth % HWKIT_NARROW_DEPTH != 0);
}

int64_t hwkit_narrow_bytes(int storage, int vl, int64_t depth)
{
    int64_t words = depth * vl;
    if (storage == HWKIT_INT8)
        words += parts_of(depth) * hwkit_narrow_width(storage, vl);
    return 4 * words;
}

static float element(const hwkit_narrow_source *s, int64_t k, int64_t j)
{
    const float *b = s->b;
    return j >= s->columns ? 0 : s->transposed ? b[j * s->ld + k] : b[k * s->ld + j];
}

int hwkit_narrow_fits(const hwkit_narrow_source *s)
{
    const float *b = s->b;
    int64_t rows = s->transposed ? s->columns : s->depth, columns = s->transposed ? s->depth : s->columns;
    for (int64_t i = 0; i < rows; i++) {
        float sum = 0; /* of zeros, NaN if one is not finite */
        for (int64_t j = 0; j < columns; j++)
            sum += b[i * s->ld + j] * 0.0f;
        if (sum != sum)
            return 0;
    }
    return 1;
}

static uint32_t to_bf16(float x)
{
    uint16_t half;
    if (fabsf(x) > LARGEST_BF16 && !isinf(x)) /* not to infinity; NaN compares false */
        x = copysignf(LARGEST_BF16, x);
    hwkit_f32_to_bf16(&x, &half, 1);
    return half;
}

static void pack_bf16(const hwkit_narrow_source *s, uint32_t *to, int64_t first)
{
    for (int64_t k = 0; k < s->depth; k++, to += s->vl)
        for (int i = 0; i < s->vl; i++)
            to[i] = to_bf16(element(s, k, first + i)) |
                    to_bf16(element(s, k, first + s->vl + i)) << 16;
}

static uint32_t to_int8(float x, float scale)
{
    float rounded = scale > 0 ? nearbyintf(x / scale) : 0;
    rounded = rounded > 127 ? 127 : rounded < -127 ? -127 : rounded;
    return (uint8_t)(int8_t)rounded;
}

static void pack_int8(const hwkit_narrow_source *s, uint32_t *to, int64_t first)
{
    const int width = hwkit_narrow_width(HWKIT_INT8, s->vl);
    for (int64_t k0 = 0; k0 < s->depth; k0 += HWKIT_NARROW_DEPTH) {
        int64_t stop = s->depth - k0 < HWKIT_NARROW_DEPTH ? s->depth : k0 + HWKIT_NARROW_DEPTH;
        float *scales = (float *)to;
        for (int j = 0; j < width; j++) {
            float most = 0;
            for (int64_t k = k0; k < stop; k++)
                most = fmaxf(most, fabsf(element(s, k, first + j)));
            scales[j] = nextafterf(most / 127, 0); /* so that 127 of it do not overflow */
        }
        to += width;
        for (int64_t k = k0; k < stop; k++, to += s->vl)
            for (int i = 0; i < s->vl; i++) {
                to[i] = 0;
                for (int q = 0; q < 4; q++) {
                    int j = q * s->vl + i;
                    to[i] |= to_int8(element(s, k, first + j), scales[j]) << 8 * q;
                }
            }
    }
}

typedef struct {
    int storage;
    char *panels;
    const hwkit_narrow_source *source;
} job;

static void pack_panel(void *ctx, int64_t panel)
{
    const job *j = ctx;
    const hwkit_narrow_source *s = j->source;
    char *to = j->panels + panel * hwkit_narrow_bytes(j->storage, s->vl, s->depth);
    int64_t first = panel * hwkit_narrow_width(j->storage, s->vl);
    if (j->storage == HWKIT_INT8)
        pack_int8(s, (uint32_t *)(void *)to, first);
    else
        pack_bf16(s, (uint32_t *)(void *)to, first);
}

void hwkit_narrow_pack(int storage, void *panels, const hwkit_narrow_source *source, int threads)
{
    job j = {storage, panels, source};
    int width = hwkit_narrow_width(storage, source->vl);
    hwkit_parallel_work((source->columns + width - 1) / width, pack_panel, &j, threads,
                        source->columns * source->depth * 4);
}
