/* Depthwise convolutions of 8-bit integers, in int16: weights, and chunks. */
#include "int8_chunk.h"
#include "int8_pack.h"

#include <string.h>

void hwkit_int8_pack_depthwise(const plan *p, int16_t *to, const uint8_t *w, const void *zeros)
{
    const hwkit_int8 *g = &p->g;
    const int64_t even = hwkit_round_up(p->taps, 2);
    memset(to, 0, (size_t)p->w_bytes);
    for (int64_t c = 0; c < g->k; c++) {
        const int32_t zero = read_zero(zeros, g->per_channel ? c : 0, g->w_signed);
        for (int64_t t = 0; t < p->taps; t++) {
            /* one input channel: both orders are the same */
            const uint8_t byte = w[c * p->taps + t];
            to[hwkit_int8_depthwise_index(t, even, c)] =
                (int16_t)((g->w_signed ? (int8_t)byte : byte) - zero);
        }
    }
}

void hwkit_int8_depthwise_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    const place at = hwkit_int8_place(p, chunk);
    const int64_t columns = at.n1 - at.n0, even = hwkit_round_up(p->taps, 2);
    const int64_t wide = hwkit_round_up(columns, HWKIT_INT8_DEPTHWISE);
    space s;
    if (!hwkit_int8_find_space(p, &s)) {
        x->failed = 1;
        return;
    }
    hwkit_int8_fill(x, &s, &at, at.n0, columns);
    if (by_quads(p)) {
        hwkit_int8_quads_chunk(x, &s, &at);
        return;
    }
    const int16_t **rows = (const int16_t **)s.rows;
    const int16_t *weights = (const int16_t *)x->weights + at.n0 * even;
    const int64_t pixel = p->pitch, line = p->strip_w * pixel;
    for (int64_t y = 0; y < at.rows; y++) {
        const int16_t *corner = (const int16_t *)s.strip + y * p->sy * line;
        for (int64_t r = 0, t = 0; r < g->r; r++)
            for (int64_t c = 0; c < g->s; c++)
                rows[t++] = corner + r * p->dy * line + c * p->dx * pixel;
        if (even > p->taps)
            rows[p->taps] = corner; /* its weights are 0 */
        for (int64_t i = 0; i < at.columns; i++) {
            p->table->depthwise(rows, weights, even, wide, s.block + (y * at.columns + i) * wide);
            for (int64_t t = 0; t < even; t++)
                rows[t] += p->sx * pixel;
        }
    }
    hwkit_int8_put(x, &s, at.image, at.y0 * g->q + at.x0, at.rows * at.columns, at.n0, columns, wide);
}
