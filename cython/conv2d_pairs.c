/* Direct convolutions by the dot products of AVX512-BF16, and what keeps them from ever differing in
 * kind from float32.
 *
 * Those products take denormal operands and sums for zeros. With weights below 2^40 that is an error
 * of less than 2^-70 in sums of 2^14 products, so where a result of 2^-40 or more is found in an image
 * the error is no part of what is measured there. Where none is found, or weights are denormal
 * themselves, operands are looked at; if they may be what is lost, the convolution is done again. */
#include "conv2d_plan.h"

#include "amx_kernels.h"
#include "half.h"

#include <string.h>

/* Bits of powers of two, of bfloat16. */
#define POWER(n) ((uint16_t)((127 + (n)) << 7))

const hwkit_amx_kernels *hwkit_pairs_table(void)
{
    return hwkit_pairs() == HWKIT_AMX_REAL ? hwkit_pairs_real : hwkit_pairs_twin;
}

int hwkit_pairs_tile(int rows, int vectors)
{
    return rows > 0 && rows <= HWKIT_MAX_ROWS && vectors > 0 && vectors <= HWKIT_MAX_VECTORS &&
           hwkit_pairs_table()->by_row[2 * vectors - 1][rows - 1];
}

/* ---- weights ----------------------------------------------------------------------------------- */

/* Bytes of a segment of the weights of a channel, and of an image. */
static int64_t run_bytes(const plan *p)
{
    return (2 * p->depth - p->odd) * p->x_size;
}

/* Whether weights come as [channel][tap]. */
static int by_channel(const plan *p) { return !p->c.nhwc && p->c.r * p->c.s > 1; }

/* The segments of `count` channels of the result as they are packed: with a zero behind each of an odd
 * number of elements. */
static void lay_out(const plan *p, uint16_t *to, const uint16_t *w, int count)
{
    const int64_t taps = p->c.r * p->c.s, some = taps / p->segments;
    for (int64_t j = 0; j < count * p->segments; j++) {
        const uint16_t *from = w + j / p->segments * taps * p->cg + j % p->segments * some;
        for (int64_t t = 0; t < some && by_channel(p); t++, from++)
            for (int64_t i = 0; i < p->cg; i++)
                *to++ = from[i * taps];
        if (!by_channel(p)) {
            memcpy(to, w + j * some * p->cg, (size_t)run_bytes(p));
            to += some * p->cg;
        }
        if (p->odd)
            *to++ = 0;
    }
}

/* Columns of weights that run along the output channels. */
static void pack_by_depth(const plan *p, uint32_t *to, const uint16_t *w, int count, int wide)
{
    for (int64_t i = 0; i < p->whole; i++, to += wide, w += 2 * p->kg) {
        const int alone = p->odd && i == p->whole - 1;
        for (int j = 0; j < count; j++)
            to[j] = w[j] | (alone ? 0 : (uint32_t)w[p->kg + j] << 16);
        for (int j = count; j < wide; j++)
            to[j] = 0;
    }
}

int64_t hwkit_pairs_packing_bytes(const plan *p)
{
    return (p->odd || by_channel(p)) && !p->c.by_depth ? p->width * p->whole * p->size : 0;
}

int hwkit_pairs_pack(const plan *p, char *to, const char *w, int64_t panel)
{
    const int64_t j = panel * p->width;
    const int count = (int)hwkit_min(p->width, p->kg - j);
    const int wide = (int)hwkit_round_up(count, p->vl);
    to += j * p->whole * p->size;
    if (p->c.by_depth) {
        pack_by_depth(p, (uint32_t *)to, (const uint16_t *)w + j, count, wide);
        return 1;
    }
    w += j * p->segments * run_bytes(p);
    if (hwkit_pairs_packing_bytes(p)) {
        char *even = hwkit_scratch(HWKIT_SCRATCH_THREAD, count * p->whole * p->size);
        if (!even)
            return 0;
        lay_out(p, (uint16_t *)even, (const uint16_t *)w, count);
        w = even;
    }
    p->table->pack_transposed(to, w, p->whole, p->whole, count, wide);
    return 1;
}

/* The weights as they came. */
static uint16_t *unpacked(const plan *p, const char *packed)
{
    const int64_t taps = p->c.r * p->c.s, some = taps / p->segments, row = taps * p->cg;
    uint16_t *w = hwkit_alloc(p->c.k * row * p->x_size);
    for (int64_t k = 0; w && k < p->c.k; k++) {
        const int64_t j = k % p->kg, first = j / p->width * p->width;
        const int64_t wide = hwkit_round_up(hwkit_min(p->width, p->kg - first), p->vl);
        const char *panel = packed + k / p->kg * p->group_bytes + first * p->whole * p->size;
        const uint16_t *column = (const uint16_t *)panel + 2 * (j - first);
        for (int64_t t = 0; t < taps; t++)
            for (int64_t i = 0; i < p->cg; i++) {
                const int64_t at = t % some * p->cg + i, pair = t / some * p->depth + at / 2;
                w[k * row + (p->c.nhwc ? t * p->cg + i : i * taps + t)] = column[pair * 2 * wide + at % 2];
            }
    }
    return w;
}

/* Weights [c][k] as [k][c]. */
static uint16_t *turned(const plan *p, const uint16_t *w)
{
    const int64_t c = p->c.c, k = p->c.k;
    uint16_t *to = hwkit_alloc(c * k * (int64_t)sizeof *to);
    for (int64_t i = 0; to && i < c * k; i++)
        to[i] = w[i % c * k + i / c];
    return to;
}

/* ---- what can be trusted ----------------------------------------------------------------------- */

hwkit_pairs_range hwkit_pairs_range_of(const void *values, int64_t count)
{
    enum { LANES = 32 };
    const uint16_t *v = values;
    /* signed, which every instruction set can compare; less one, zero is the largest */
    int16_t most[LANES] = {0}, least[LANES];
    memset(least, 0x7f, sizeof least);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) {
            const int16_t size = (int16_t)(v[i + j] & 0x7fff);
            const int16_t less = (int16_t)((size - 1) & 0x7fff);
            most[j] = size > most[j] ? size : most[j];
            least[j] = less < least[j] ? less : least[j];
        }
    for (; i < count; i++) {
        const int16_t size = (int16_t)(v[i] & 0x7fff);
        const int16_t less = (int16_t)((size - 1) & 0x7fff);
        most[0] = size > most[0] ? size : most[0];
        least[0] = less < least[0] ? less : least[0];
    }
    for (int j = 1; j < LANES; j++) {
        most[0] = most[j] > most[0] ? most[j] : most[0];
        least[0] = least[j] < least[0] ? least[j] : least[0];
    }
    return (hwkit_pairs_range){(uint16_t)most[0], most[0] ? (uint16_t)(least[0] + 1) : UINT16_MAX};
}

int hwkit_pairs_suit(hwkit_pairs_range w)
{
    return w.most < POWER(40);
}

/* Whether an image of the result has one value that is large enough. */
static int large(const plan *p, const uint16_t *image)
{
    const int64_t count = p->out_area * p->c.k;
    for (int64_t i = 0; i < count; i++)
        if ((image[i] & 0x7fff) >= POWER(-40))
            return 1;
    return 0;
}

int hwkit_pairs_trusted(const plan *p, const void *x, hwkit_pairs_range w, const void *out)
{
    int found = 1;
    for (int64_t i = 0; i < p->c.n && found; i++)
        found = large(p, (const uint16_t *)out + i * p->out_area * p->c.k);
    const int normal = w.least >= POWER(-126);
    if (found && normal)
        return 1;
    const hwkit_pairs_range r =
        hwkit_pairs_range_of(x, p->c.n * p->area * p->c.c);
    if (found)
        return r.most < POWER(40);
    /* no product below 2^-80: what sums of them lose is as little as a rounding of float32 */
    return r.most == 0 || w.most == 0 || (r.least >= POWER(-40) && w.least >= POWER(-40));
}

/* ---- float32 ----------------------------------------------------------------------------------- */

hwkit_plan *hwkit_conv2d_plain_plan(const plan *p)
{
    hwkit_conv2d c = p->c;
    c.way = (hwkit_amx_way){0};
    c.by_depth = 0;
    c.rows = 1;
    while (c.rows < HWKIT_MAX_ROWS && p->table->by_row[3][c.rows])
        c.rows++;
    c.vectors = 2;
    c.kc = 256;
    c.pixels = 96;
    c.channels = c.k;
    c.merge = c.block_float = 0;
    return hwkit_conv2d_plan(&c);
}

int hwkit_pairs_run_plain(const plan *p, const void *const all[KINDS], void *out)
{
    const int64_t sizes[KINDS + 1] = {p->c.n * p->area * p->c.c,
                                      p->c.k * p->c.r * p->c.s * p->c.c / p->c.groups, p->c.k,
                                      p->c.n * p->out_area * p->c.k, p->c.n * p->out_area * p->c.k};
    const void *given[KINDS];
    int64_t taken[KINDS + 1];
    int count = 0, status = HWKIT_NO_MEMORY;
    const int own = p->operands.held[W] || p->c.by_depth;
    uint16_t *w = p->operands.held[W] ? unpacked(p, all[W]) : own ? turned(p, all[W]) : NULL;
    for (int i = 0; i < KINDS; i++)
        if (all[i]) {
            taken[count] = sizes[i];
            given[count++] = i == W && w ? w : all[i];
        }
    taken[count] = sizes[KINDS];
    hwkit_plan *wide = hwkit_conv2d_plain_plan(p);
    hwkit_plan *narrow = wide ? hwkit_half_plan(wide, HWKIT_HALF_BF16, count, taken, p->c.threads)
                              : NULL;
    if (narrow && (w || !own))
        status = narrow->run(narrow, given, out);
    if (narrow)
        narrow->destroy(narrow);
    if (wide)
        wide->destroy(wide);
    hwkit_free(w);
    return status;
}
