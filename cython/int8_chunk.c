/* A chunk of 8-bit products but for the sums: where it lies, its memory, its input, its results. */
#include "int8_chunk.h"

#include <string.h>

enum { TURN = 64 }; /* pixels that are transposed at a time: a cache line of each channel */

/* ---- place and memory ------------------------------------------------------------------------ */

place hwkit_int8_place(const plan *p, int64_t chunk)
{
    const hwkit_int8 *g = &p->g;
    const int64_t all = g->depthwise ? g->k : p->kg, parts = hwkit_parts(all, g->channels);
    place at;
    at.n0 = chunk % parts * g->channels;
    at.n1 = hwkit_min(at.n0 + g->channels, all);
    chunk /= parts;
    at.x0 = chunk % chunks_across(p) * p->columns;
    chunk /= chunks_across(p);
    at.y0 = chunk % chunks_down(p) * p->rows;
    at.image = chunk / chunks_down(p);
    at.rows = hwkit_min(p->rows, g->p - at.y0);
    at.columns = hwkit_min(p->columns, g->q - at.x0);
    return at;
}

enum { STRIP, ROWS, ALL_ROWS, OFFSETS, BLOCK, SUMS, PIXEL_SUMS, TURNED, GATHERED, STRAIGHT, QUADS, SPACES };

/* Where each part of a thread's memory starts, in bytes; returns how many there are. */
static int64_t lay_out(const plan *p, int64_t start[SPACES])
{
    const int quads = by_quads(p);
    const int64_t pixels = p->rows * p->columns;
    const int64_t wide = quads            ? 2 * HWKIT_INT8_DEPTHWISE
                         : p->g.depthwise ? p->pitch
                                          : p->width;
    const int64_t pointers = quads            ? hwkit_int8_quads_pointers(p)
                             : p->g.depthwise ? hwkit_round_up(p->taps, 2)
                                              : pixels;
    const int64_t bytes[SPACES] = {
        [STRIP] = (p->strip_h * p->strip_w * p->pitch + p->deep) * strip_size(p),
        [ROWS] = pointers * (int64_t)sizeof(void *),
        [ALL_ROWS] = p->table->amx ? pixels * p->segments * (int64_t)sizeof(void *) : 0,
        [OFFSETS] = p->segments * (int64_t)sizeof(int64_t),
        [BLOCK] = p->summed * wide * (int64_t)sizeof(int32_t),
        [SUMS] = pixels * (int64_t)sizeof(int32_t),
        [PIXEL_SUMS] = p->g.has_zero && p->taps > 1 && !p->g.depthwise
                           ? p->strip_h * p->strip_w * (int64_t)sizeof(int32_t)
                           : 0,
        [TURNED] = hwkit_max(TURN * p->pitch, p->g.y_planes ? p->summed * wide : 0),
        [GATHERED] = TURN * p->pitch,
        [STRAIGHT] = p->straight_bytes,
        [QUADS] = quads ? hwkit_int8_quads_lines_bytes(p) : 0,
    };
    int64_t at = 0;
    for (int i = 0; i < SPACES; i++) {
        start[i] = at;
        at += hwkit_round_up(bytes[i], 64);
    }
    return at;
}

int64_t hwkit_int8_space_bytes(const plan *p)
{
    int64_t start[SPACES];
    return lay_out(p, start);
}

int hwkit_int8_find_space(const plan *p, space *s)
{
    int64_t start[SPACES];
    char *base = hwkit_scratch(HWKIT_SCRATCH_THREAD, lay_out(p, start));
    if (!base)
        return 0;
    *s = (space){.strip = base + start[STRIP],
                 .pixel = p->pitch * strip_size(p),
                 .line = p->strip_w * p->pitch * strip_size(p),
                 .rows = (const void **)(base + start[ROWS]),
                 .all_rows = (const void **)(base + start[ALL_ROWS]),
                 .offsets = (int64_t *)(base + start[OFFSETS]),
                 .block = (int32_t *)(base + start[BLOCK]),
                 .sums = (int32_t *)(base + start[SUMS]),
                 .pixel_sums = (int32_t *)(base + start[PIXEL_SUMS]),
                 .turned = (uint8_t *)base + start[TURNED],
                 .gathered = (uint8_t *)base + start[GATHERED],
                 .straight = base + start[STRAIGHT],
                 .quads = base + start[QUADS]};
    return 1;
}

/* ---- strips ---------------------------------------------------------------------------------- */

static void convert(const product *x, char *to, const void *from, int64_t n)
{
    const plan *p = x->p;
    if (strip_size(p) == 2)
        p->table->widen((int16_t *)to, from, n, p->g.x_signed, x->x_zero);
    else if (!x_flip(p))
        memcpy(to, from, (size_t)n);
    else
        p->table->flip(to, from, n, x_flip(p));
}

/* `count` pixels of the padding. */
static void fill_zero(const product *x, char *to, int64_t count)
{
    const int size = strip_size(x->p);
    memset(to, size == 2 ? 0 : x->x_zero, (size_t)(count * x->p->pitch * size));
}

/* Pixels from `from` on, their channels as planes. */
static void fill_from_planes(const product *x, const space *s, char *to, const uint8_t *from,
                             int64_t count, int64_t channels)
{
    const plan *p = x->p;
    const int64_t area = p->g.h * p->g.w, row = p->pitch * strip_size(p);
    for (int64_t i = 0; i < count; i += TURN) {
        const int64_t some = hwkit_min(TURN, count - i);
        const uint8_t *planes = from + i * p->step_x;
        int64_t ld = area;
        if (p->step_x > 1) {
            for (int64_t c = 0; c < channels; c++)
                for (int64_t j = 0; j < some; j++)
                    s->gathered[c * TURN + j] = planes[c * area + j * p->step_x];
            planes = s->gathered;
            ld = TURN;
        }
        if (strip_size(p) == 1 && !x_flip(p)) {
            p->turn(to + i * row, row, planes, ld, channels, some);
            continue;
        }
        p->turn(s->turned, channels, planes, ld, channels, some);
        if (p->pitch == channels) {
            convert(x, to + i * row, s->turned, some * channels);
            continue;
        }
        for (int64_t j = 0; j < some; j++)
            convert(x, to + (i + j) * row, s->turned + j * channels, channels);
    }
}

static void fill_from_pixels(const product *x, char *to, const uint8_t *from, int64_t count,
                             int64_t channels)
{
    const plan *p = x->p;
    const int64_t row = p->pitch * strip_size(p), step = p->step_x * p->g.c;
    if (p->pitch == channels && step == channels) {
        convert(x, to, from, count * channels);
        return;
    }
    for (int64_t j = 0; j < count; j++)
        convert(x, to + j * row, from + j * step, channels);
}

/* The input under output rows from y0 and columns from x0 on, with its padding. `channel`: the first
 * of `channels`. */
static void fill_strip(const product *x, const space *s, const uint8_t *image, int64_t channel,
                       int64_t channels, int64_t y0, int64_t x0, int64_t height, int64_t width)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    const int64_t row = p->pitch * strip_size(p);
    const int64_t at = x0 * g->stride_x - g->left, step = p->step_x;
    const int64_t lo = hwkit_min(at < 0 ? hwkit_parts(-at, step) : 0, width);
    const int64_t hi = hwkit_max(hwkit_min(g->w > at ? hwkit_parts(g->w - at, step) : 0, width), lo);
    for (int64_t i = 0; i < height; i++) {
        char *line = s->strip + i * p->strip_w * row;
        const int64_t y = y0 * g->stride_y - g->top + i * p->step_y;
        if (y < 0 || y >= g->h || lo == hi) {
            fill_zero(x, line, width);
            continue;
        }
        fill_zero(x, line, lo);
        const int64_t pixel = y * g->w + at + lo * step;
        if (g->x_planes)
            fill_from_planes(x, s, line + lo * row, image + channel * g->h * g->w + pixel, hi - lo,
                             channels);
        else
            fill_from_pixels(x, line + lo * row, image + pixel * g->c + channel, hi - lo, channels);
        fill_zero(x, line + hi * row, width - hi);
    }
}

/* Whether pixels can be read where they lie: bytes as they are, without padding. Those a multiple of
 * 2 KiB apart would fight for sets of the first cache as often as they are read; of 4 KiB, even once. */
static int readable(const plan *p)
{
    const hwkit_int8 *g = &p->g;
    return strip_size(p) == 1 && !g->depthwise && !x_flip(p) && !g->x_planes && p->taps == 1 && !g->top &&
           !g->left && (g->p - 1) * g->stride_y < g->h && (g->q - 1) * g->stride_x < g->w &&
           p->deep == p->depth && p->step_x * g->c % (p->kg > p->width ? 2048 : 4096);
}

void hwkit_int8_fill(const product *x, space *s, const place *at, int64_t channel, int64_t channels)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    if (readable(p)) {
        s->pixel = p->step_x * g->c;
        s->line = p->step_y * g->w * g->c;
        s->strip = (char *)(uintptr_t)x->x + at->image * g->h * g->w * g->c + at->y0 * s->line +
                   at->x0 * s->pixel + channel;
        return;
    }
    fill_strip(x, s, x->x + at->image * g->h * g->w * g->c, channel, channels, at->y0, at->x0,
               (at->rows - 1) * p->sy + (g->r - 1) * p->dy + 1,
               (at->columns - 1) * p->sx + (g->s - 1) * p->dx + 1);
}

/* ---- results --------------------------------------------------------------------------------- */

void hwkit_int8_put(const product *x, const space *s, int64_t image, int64_t at, int64_t count,
                    int64_t channel, int64_t columns, int64_t ld)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    const int64_t area = g->p * g->q, size = g->output >= HWKIT_INT8_TO_INT8 ? 1 : 4;
    hwkit_int8_finish f = {.acc = s->block, .ld = ld, .rows = count, .columns = columns,
                           .kind = g->output, .least = x->least, .most = x->most,
                           .y_zero = x->y_zero, .lo = x->lo, .hi = x->hi, .sums = s->sums};
    f.shift = x->shift ? x->shift + channel : NULL;
    f.w_zero = x->w_zero ? x->w_zero + channel : NULL;
    f.scale = x->scale ? x->scale + channel : NULL;
    if (!g->y_planes) {
        f.to = x->out + ((image * area + at) * g->k + channel) * size;
        f.to_ld = g->k;
        p->table->finish(&f);
        return;
    }
    char *to = x->out + ((image * g->k + channel) * area + at) * size;
    f.to = size == 1 ? (void *)s->turned : s->block;
    f.to_ld = size == 1 ? columns : ld;
    p->table->finish(&f);
    if (size == 1)
        p->turn(to, area, s->turned, columns, count, columns);
    else
        p->floats->transpose(to, area, s->block, ld, columns, count);
}
