/* Depthwise convolutions of 8-bit integers by dot products of four bytes: weights, and chunks.
 *
 * Zero points of weights are subtracted when they are packed. What does not fit a byte then is left to
 * further passes over the same input; nearly all weights need one. Packed weights are
 *   how many passes, in 64 bytes; the sums of each channel
 *   [block of channels][pass][quad of rows][column][channel of the block][row of the quad] */
#include "int8_chunk.h"
#include "int8_pack.h"

#include <string.h>

/* ---- weights --------------------------------------------------------------------------------- */

/* The most that zero points leave is 255: 127 + 127 + 1. */
enum { MOST_PASSES = 3 };

static int64_t weights_at(const plan *p)
{
    return HWKIT_INT8_QUAD + hwkit_round_up(p->g.k * (int64_t)sizeof(int32_t), 64);
}

static int64_t pass_bytes(const plan *p)
{
    return p->quads * p->g.s * HWKIT_INT8_QUAD;
}

int64_t hwkit_int8_quads_bytes(const plan *p)
{
    const int64_t blocks = hwkit_parts(p->g.k, HWKIT_INT8_DEPTHWISE);
    return weights_at(p) + blocks * MOST_PASSES * pass_bytes(p);
}

static int64_t *passes_of(const void *packed)
{
    return (int64_t *)(uintptr_t)packed;
}

int64_t hwkit_int8_quads_pointers(const plan *p)
{
    return p->batch * MOST_PASSES * p->quads;
}

/* A weight of a channel without its zero point. */
static int32_t weight_of(const plan *p, const uint8_t *w, int64_t c, int64_t tap, int32_t zero)
{
    const uint8_t byte = w[c * p->taps + tap]; /* one input channel: both orders are the same */
    return (p->g.w_signed ? (int8_t)byte : byte) - zero;
}

static int32_t as_byte(int32_t value)
{
    return value < -128 ? -128 : value > 127 ? 127 : value;
}

void hwkit_int8_pack_quads(const plan *p, void *to, const uint8_t *w, const void *zeros)
{
    const hwkit_int8 *g = &p->g;
    int64_t passes = 1;
    for (int64_t c = 0; c < g->k; c++) {
        const int32_t zero = read_zero(zeros, g->per_channel ? c : 0, g->w_signed);
        uint32_t sum = 0;
        for (int64_t t = 0; t < p->taps; t++) {
            const int32_t value = weight_of(p, w, c, t, zero);
            passes = hwkit_max(passes, value < 0 ? hwkit_parts(-value, 128) : hwkit_parts(value, 127));
            sum += (uint32_t)value;
        }
        hwkit_int8_sums(p, to)[c] = (int32_t)sum;
    }
    *passes_of(to) = passes;
    const int64_t pass = pass_bytes(p), blocks = hwkit_parts(g->k, HWKIT_INT8_DEPTHWISE);
    int8_t *packed = (int8_t *)to + weights_at(p);
    memset(packed, 0, (size_t)(blocks * passes * pass));
    for (int64_t c = 0; c < g->k; c++) {
        const int32_t zero = read_zero(zeros, g->per_channel ? c : 0, g->w_signed);
        int8_t *channel = packed + c / HWKIT_INT8_DEPTHWISE * passes * pass +
                          c % HWKIT_INT8_DEPTHWISE * 4;
        for (int64_t t = 0; t < p->taps; t++) {
            const int64_t r = t / g->s, quad = r / 4 * g->s + t % g->s;
            int8_t *at = channel + quad * HWKIT_INT8_QUAD + r % 4;
            for (int32_t rest = weight_of(p, w, c, t, zero); rest; rest -= *at, at += pass)
                *at = (int8_t)as_byte(rest);
        }
    }
}

/* ---- chunks ---------------------------------------------------------------------------------- */

enum { WIDE = 2 * HWKIT_INT8_DEPTHWISE };

/* Bytes from a block of channels of a line of quads to the next. */
static int64_t block_bytes(const plan *p)
{
    return ((p->piece - 1) * p->sx + (p->g.s - 1) * p->dx + 1) * HWKIT_INT8_QUAD;
}

/* Line `quad` of output row y, in a ring of lines as they follow each other in the strip. */
static char *line_at(const plan *p, const space *s, int64_t y, int64_t quad)
{
    const int64_t index = p->ring_step ? y + quad * p->ring_step : y * p->quads + quad;
    return s->quads + index % p->ring * 2 * block_bytes(p);
}

/* The part of a chunk that is computed at a time: two blocks of channels of which `channels` are there,
 * output columns [x0, x0 + columns). */
typedef struct {
    int64_t channel, channels, x0, columns;
} piece;

/* The quads that output row y needs. What row y - p->ring_step had as a later quad is there already. */
static void make_lines(const plan *p, const space *s, const place *at, const piece *now, int64_t y)
{
    const int64_t height = (at->rows - 1) * p->sy + (p->g.r - 1) * p->dy + 1;
    const int64_t width = (now->columns - 1) * p->sx + (p->g.s - 1) * p->dx + 1;
    const char *corner = s->strip + now->x0 * p->sx * s->pixel + now->channel - at->n0;
    for (int64_t j = p->ring_step && y >= p->ring_step ? p->quads - 1 : 0; j < p->quads; j++) {
        const char *rows[4];
        for (int64_t i = 0; i < 4; i++) { /* past the window, weights are 0 */
            const int64_t row = y * p->sy + (4 * j + i) * p->dy;
            rows[i] = corner + hwkit_min(row, height - 1) * s->line;
        }
        p->table->interleave(line_at(p, s, y, j), block_bytes(p), rows, s->pixel, width);
    }
}

int64_t hwkit_int8_quads_lines_bytes(const plan *p)
{
    return p->ring * 2 * block_bytes(p);
}

/* Sums of output rows y0, ..., y0 + rows - 1. */
static void add_rows(const product *x, const space *s, const piece *now, int64_t y0, int64_t rows)
{
    const plan *p = x->p;
    const int64_t passes = *passes_of(x->weights), block = passes * pass_bytes(p);
    const char **lines = (const char **)s->rows;
    int64_t count = 0;
    hwkit_int8_quads q = {.x = lines, .lines = passes * p->quads, .taps = p->g.s,
                          .tap = p->dx * HWKIT_INT8_QUAD, .pixel = p->sx * HWKIT_INT8_QUAD,
                          .rows = rows, .pixels = now->columns, .ld = WIDE};
    q.w = x->weights + weights_at(p) + now->channel / HWKIT_INT8_DEPTHWISE * block;
    for (int64_t y = y0; y < y0 + rows; y++)
        for (int64_t pass = 0; pass < passes; pass++)
            for (int64_t j = 0; j < p->quads; j++)
                lines[count++] = line_at(p, s, y, j);
    for (int64_t n = 0; n < now->channels; n += HWKIT_INT8_DEPTHWISE, q.w += block) {
        q.acc = s->block + n;
        p->table->quads(&q);
        for (int64_t i = 0; i < count; i++)
            lines[i] += block_bytes(p);
    }
}

static void compute(const product *x, const space *s, const place *at, const piece *now)
{
    const plan *p = x->p;
    for (int64_t y0 = 0; y0 < at->rows; y0 += p->batch) {
        const int64_t rows = hwkit_min(p->batch, at->rows - y0);
        for (int64_t y = y0; y < y0 + rows; y++)
            make_lines(p, s, at, now, y);
        add_rows(x, s, now, y0, rows);
        hwkit_int8_put(x, s, at->image, (at->y0 + y0) * p->g.q + at->x0 + now->x0,
                       rows * now->columns, now->channel, now->channels, WIDE);
    }
}

void hwkit_int8_quads_chunk(const product *x, const space *s, const place *at)
{
    piece now;
    for (now.channel = at->n0; now.channel < at->n1; now.channel += WIDE)
        for (now.x0 = 0; now.x0 < at->columns; now.x0 += x->p->piece) {
            now.channels = hwkit_min(WIDE, at->n1 - now.channel);
            now.columns = hwkit_min(x->p->piece, at->columns - now.x0);
            compute(x, s, at, &now);
        }
}
