/* Packing for narrow.h. Done once for each matrix, so it is plain C. */
#include "narrow.h"

#include "bits.h"
#include "half.h"
#include "sizes.h"
#include "threads.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const float LARGEST_BF16 = 0x1.fep127f;

/* Columns of a panel, of the widest vectors. */
enum { MOST_WIDTH = 4 * 16 };

/* Vectors of words of a row, and columns of a panel by VL. */
static const struct {
    int words, vectors, scales;
} format[HWKIT_STORAGES] = {
    [HWKIT_FLOAT32] = {4, 4, 0},
    [HWKIT_BFLOAT16] = {1, 2, 0},
    [HWKIT_INT8] = {1, 4, 1},
    [HWKIT_INT24] = {3, 4, 1},
};

int hwkit_narrow_width(int storage, int vl)
{
    return format[storage].vectors * vl;
}

int64_t hwkit_narrow_bytes(int storage, int vl, int64_t depth)
{
    int64_t words = depth * format[storage].words * vl;
    if (format[storage].scales)
        words += hwkit_parts(depth, HWKIT_NARROW_DEPTH) * hwkit_narrow_width(storage, vl);
    return 4 * words;
}

int hwkit_narrow_instead(int storage)
{
    return storage == HWKIT_INT8 ? HWKIT_BFLOAT16 : HWKIT_FLOAT32;
}

/* ---- parts of a panel -------------------------------------------------------------------------- */

/* Some rows of a panel of b, and the bits of the largest magnitude of each column. */
typedef struct {
    int rows, width;
    float value[HWKIT_NARROW_DEPTH][MOST_WIDTH];
    uint32_t most[MOST_WIDTH];
} part;

static void take_part(part *to, const hwkit_narrow_source *s, int64_t k, int64_t j, int width)
{
    const float *b = s->b;
    const int columns = (int)hwkit_min(width, s->columns - j);
    to->rows = (int)hwkit_min(HWKIT_NARROW_DEPTH, s->depth - k);
    to->width = width;
    memset(to->most, 0, sizeof to->most);
    for (int c = 0; c < columns && s->transposed; c++)
        for (int r = 0; r < to->rows; r++)
            to->value[r][c] = b[(j + c) * s->ld + k + r];
    for (int r = 0; r < to->rows; r++) {
        if (!s->transposed)
            memcpy(to->value[r], b + (k + r) * s->ld + j, (size_t)columns * sizeof *b);
        memset(to->value[r] + columns, 0, (size_t)(width - columns) * sizeof *b);
        for (int c = 0; c < width; c++) {
            const uint32_t size = hwkit_bits(to->value[r][c]) & 0x7fffffff;
            to->most[c] = size > to->most[c] ? size : to->most[c];
        }
    }
}

static int all_finite(const part *p)
{
    int good = 1;
    for (int c = 0; c < p->width; c++)
        good &= p->most[c] < 0x7f800000;
    return good;
}

static uint32_t to_bf16(float x)
{
    uint16_t half;
    if (fabsf(x) > LARGEST_BF16 && !isinf(x)) /* not to infinity; NaN compares false */
        x = copysignf(LARGEST_BF16, x);
    hwkit_f32_to_bf16(&x, &half, 1);
    return half;
}

static int put_float32(const part *p, int vl, uint32_t *to)
{
    for (int r = 0; r < p->rows; r++)
        memcpy(to + (int64_t)r * 4 * vl, p->value[r], (size_t)p->width * 4);
    return 1;
}

static int put_bf16(const part *p, int vl, uint32_t *to)
{
    for (int r = 0; r < p->rows; r++, to += vl)
        for (int i = 0; i < vl; i++)
            to[i] = to_bf16(p->value[r][i]) | to_bf16(p->value[r][vl + i]) << 16;
    return 1;
}

/* The nearest of -most..most, by the reciprocal of a scale. */
static int32_t to_int(float x, double reciprocal, int32_t most)
{
    const double q = x * reciprocal;
    const int32_t rounded = (int32_t)(q + (q < 0 ? -0.5 : 0.5));
    return rounded > most ? most : rounded < -most ? -most : rounded;
}

static int put_int8(const part *p, int vl, uint32_t *to)
{
    float *scales = (float *)to;
    double reciprocal[MOST_WIDTH];
    if (!all_finite(p))
        return 0;
    for (int c = 0; c < p->width; c++) {
        scales[c] = nextafterf(hwkit_float(p->most[c]) / 127, 0); /* so that 127 of it do not overflow */
        reciprocal[c] = scales[c] > 0 ? 1 / (double)scales[c] : 0;
    }
    to += p->width;
    for (int r = 0; r < p->rows; r++, to += vl)
        for (int i = 0; i < vl; i++) {
            to[i] = 0;
            for (int q = 0; q < 4; q++) {
                const int c = q * vl + i;
                to[i] |= (uint32_t)(uint8_t)to_int(p->value[r][c], reciprocal[c], 127) << 8 * q;
            }
        }
    return 1;
}

static int put_int24(const part *p, int vl, uint32_t *to)
{
    enum { MOST = (1 << 23) - 1 };
    float *scales = (float *)to;
    double reciprocal[MOST_WIDTH];
    int good = 1;
    for (int c = 0; good && c < p->width; c++) {
        const float most = hwkit_float(p->most[c]);
        scales[c] = most / (256.0f * MOST); /* of a word, whose lowest byte is 0 */
        /* the product of the largest word and its scale may round up, which must not overflow */
        good = p->most[c] == 0 || (scales[c] >= FLT_MIN && most < 0x1p127f);
        reciprocal[c] = p->most[c] ? 1 / (256 * (double)scales[c]) : 0;
    }
    if (!good)
        return 0;
    to += p->width;
    for (int r = 0; r < p->rows; r++, to += 3 * vl) {
        uint32_t whole[MOST_WIDTH];
        for (int c = 0; c < p->width; c++) {
            const float x = p->value[r][c];
            const int32_t rounded = to_int(x, reciprocal[c], MOST);
            whole[c] = (uint32_t)(rounded ? rounded : (x > 0) - (x < 0));
        }
        for (int i = 0; i < vl; i++) {
            const uint32_t last = whole[3 * vl + i];
            for (int q = 0; q < 3; q++)
                to[q * vl + i] = whole[q * vl + i] << 8 | (last >> (16 - 8 * q) & 0xff);
        }
    }
    return 1;
}

/* ---- panels ------------------------------------------------------------------------------------ */

typedef struct {
    int storage;
    char *panels;
    const hwkit_narrow_source *source;
    _Atomic int failed;
} job;

static void pack_panel(void *ctx, int64_t panel)
{
    static int (*const put[HWKIT_STORAGES])(const part *, int, uint32_t *) = {
        put_float32, put_bf16, put_int8, put_int24};
    job *j = ctx;
    const hwkit_narrow_source *s = j->source;
    const int width = hwkit_narrow_width(j->storage, s->vl);
    const int64_t bytes = hwkit_narrow_bytes(j->storage, s->vl, s->depth);
    const int64_t step = hwkit_narrow_bytes(j->storage, s->vl, HWKIT_NARROW_DEPTH);
    char *to = j->panels + panel * bytes;
    part part;
    for (int64_t k = 0; k < s->depth && !j->failed; k += HWKIT_NARROW_DEPTH, to += step) {
        take_part(&part, s, k, panel * width, width);
        if (!put[j->storage](&part, s->vl, (uint32_t *)(void *)to))
            j->failed = 1;
    }
}

int hwkit_narrow_pack(int storage, void *panels, const hwkit_narrow_source *source, int threads)
{
    job j = {.storage = storage, .panels = panels, .source = source};
    int width = hwkit_narrow_width(storage, source->vl);
    hwkit_parallel_work(hwkit_parts(source->columns, width), pack_panel, &j, threads,
                        source->columns * source->depth * 4);
    return !j.failed;
}
