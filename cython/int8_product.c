/* Chunks of matrix products and convolutions of 8-bit integers; conv2d.c has the same structure in
 * floating point. */
#include "int8_chunk.h"
#include "int8_pack.h"

#include <string.h>

/* Where the segments of each pixel are. */
static void point(const plan *p, const space *s, const place *at)
{
    const int64_t across = p->merged ? 1 : p->g.s;
    const void **to = s->rows;
    for (int64_t y = 0; y < at->rows; y++) {
        const char *pixel = s->strip + y * p->sy * s->line;
        for (int64_t i = 0; i < at->columns; i++, pixel += p->sx * s->pixel)
            *to++ = pixel;
    }
    for (int64_t t = 0; t < p->segments; t++)
        s->offsets[t] = t / across * p->dy * s->line + t % across * p->dx * s->pixel;
}

/* The same of all segments, as tiles of AMX read them. */
static void point_all(const plan *p, const space *s, int64_t count)
{
    const void **to = s->all_rows;
    for (int64_t tile = 0; tile < count; tile += p->g.rows)
        for (int64_t t = 0; t < p->segments; t++)
            for (int64_t i = tile; i < hwkit_min(tile + p->g.rows, count); i++)
                *to++ = (const char *)s->rows[i] + s->offsets[t];
}

/* Copy rows that tiles cannot read where they lie, those around the end of an image's row, once for
 * all panels. What finds no room is copied by each product. */
static void straighten(const plan *p, const space *s, int64_t count)
{
    enum { ROWS = HWKIT_INT8_TILE };
    const int64_t size = p->segments * ROWS * p->deep;
    char *to = s->straight, *end = to + p->straight_bytes;
    for (int64_t tile = 0; tile < count; tile += p->g.rows) {
        const int64_t some = hwkit_min(p->g.rows, count - tile);
        for (int64_t half = 0; half + ROWS <= some; half += ROWS) {
            const void **rows = s->all_rows + tile * p->segments + half;
            int64_t step;
            if (hwkit_int8_evenly_spaced(rows, &step))
                continue;
            if (end - to < size)
                return;
            for (int64_t t = 0; t < p->segments; t++, rows += some)
                for (int i = 0; i < ROWS; i++, to += p->deep)
                    rows[i] = memcpy(to, rows[i], (size_t)p->deep);
        }
    }
}

/* The sums of the input under each output pixel: those of its channels, once for each pixel of the
 * strip, then of the window. */
static void add_up(const product *x, const space *s, const place *at)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    int32_t *to = s->sums;
    if (p->taps == 1) {
        for (int64_t i = 0; i < at->rows * at->columns; i++)
            to[i] = p->table->sum(s->rows[i], p->cg);
        return;
    }
    const int64_t height = (at->rows - 1) * p->sy + (g->r - 1) * p->dy + 1;
    const int64_t width = (at->columns - 1) * p->sx + (g->s - 1) * p->dx + 1;
    for (int64_t y = 0; y < height; y++)
        for (int64_t i = 0; i < width; i++)
            s->pixel_sums[y * width + i] =
                p->table->sum(s->strip + y * s->line + i * s->pixel, p->cg);
    memset(to, 0, (size_t)(at->rows * at->columns) * sizeof *to);
    for (int64_t y = 0; y < at->rows; y++, to += at->columns)
        for (int64_t t = 0; t < p->taps; t++) {
            const int64_t line = y * p->sy + t / g->s * p->dy;
            const int32_t *from = s->pixel_sums + line * width + t % g->s * p->dx;
            for (int64_t i = 0; i < at->columns; i++)
                to[i] = (int32_t)((uint32_t)to[i] + (uint32_t)from[i * p->sx]);
        }
}

/* A panel of weights and the pixels of a chunk; columns: of the result, which may be fewer than `wide`. */
typedef struct {
    const char *weights;
    int64_t vector; /* its first, of all */
    int64_t wide, columns, count;
    int64_t line;                  /* so many pixels are evenly spaced */
    int64_t image, pixel, channel; /* of the result */
    int32_t *sums; /* where sums are results, these; else NULL */
} panel;

/* Where the sums of a panel are its results, in the order in which tiles have them. */
static int32_t *sums_in_place(const product *x, const panel *to)
{
    const hwkit_int8 *g = &x->p->g;
    const int plain = g->output == HWKIT_INT8_TO_INT32 && x->least == INT32_MIN &&
                      x->most == INT32_MAX && !x->w_zero && !g->y_planes && !x->p->table->amx;
    if (!plain || to->columns < to->wide)
        return NULL;
    return (int32_t *)(void *)x->out + (to->image * g->p * g->q + to->pixel) * g->k + to->channel;
}

/* The kernels of a panel, by row and by step. Where nobody asks for the second half of the only vector
 * there are others. */
static void choose_tiles(const plan *p, const panel *to, const hwkit_int8_tile_fn *tiles[2])
{
    const hwkit_int8_kernels *table = p->table;
    const int narrow = p->b_size == 1, half = table->half && 2 * to->columns <= table->vl;
    const int64_t vectors = to->wide / table->vl;
    for (int by_step = 0; by_step < 2; by_step++)
        tiles[by_step] = narrow && half                        ? table->half[by_step]
                         : narrow && by_step && table->by_step ? table->by_step[vectors - 1]
                                                               : table->tiles[narrow][vectors - 1];
}

/* One part of the depth: segments [segment, segment + segments), elements [skip, skip + depth) of
 * each. Results are made of the sums of a few tiles while these are near, but for planes. */
static void multiply(const product *x, const space *s, const panel *to, int64_t segment,
                     int64_t segments, int64_t skip, int64_t depth)
{
    const plan *p = x->p;
    const int rows = p->g.rows;
    const int64_t wide = to->wide, count = to->count;
    const int last = segment + segments == p->segments && skip + depth == p->deep;
    space near = *s;
    hwkit_int8_tile t = {.segments = segments, .groups = depth / p->table->group};
    t.skip = skip * strip_size(p);
    t.offsets = s->offsets + segment;
    t.all_offsets = s->offsets;
    t.step = p->sx * s->pixel;
    t.accumulate = segment > 0 || skip > 0;
    t.start = to->sums && x->shift ? x->shift + to->channel : NULL;
    t.ldc = to->sums ? p->g.k : wide;
    t.b = to->weights + (segment * p->deep + skip) * wide * p->b_size;
    if (p->extras && last) {
        const extra_space e = hwkit_int8_extras_of(p, (char *)x->weights);
        t.from = e.from + to->vector;
        t.extras = e.extras;
        t.extra_weights = (const char *)e.weights;
    }
    const int vectors = (int)(wide / p->table->vl);
    const hwkit_int8_tiles *amx = p->table->amx;
    const hwkit_int8_tile_fn *tiles[2];
    choose_tiles(p, to, tiles);
    int64_t column = 0, first = 0;
    for (int64_t i = 0; i < count; i += rows) {
        const int64_t some = hwkit_min(rows, count - i);
        t.rows = amx ? s->all_rows + i * p->segments + segment * some : s->rows + i;
        t.c = s->block + (i - first) * wide;
        if (to->sums)
            t.c = to->sums + i * t.ldc;
        if (amx)
            amx->product[w_signed(p)](&t, (int)some, vectors);
        else
            tiles[column + some <= to->line][some - 1](&t);
        column = (column + some) % to->line;
        const int64_t summed = i + some - first;
        if (summed < p->summed && i + some < count)
            continue;
        if (last && !p->g.y_planes && !to->sums) {
            near.sums = s->sums + first;
            hwkit_int8_put(x, &near, to->image, to->pixel + first, summed, to->channel, to->columns,
                           wide);
        }
        first = i + some;
    }
}

/* The depth in parts of about kc, so that a part of a panel stays in the first cache. */
static void multiply_panel(const product *x, const space *s, const panel *to)
{
    const plan *p = x->p;
    const int64_t cuts = hwkit_parts(p->deep, p->g.kc);
    const int64_t some = cuts > 1 ? 1 : hwkit_min(p->g.kc / p->deep, p->segments);
    const int64_t even = hwkit_parts(p->segments, hwkit_parts(p->segments, some));
    const int64_t step = hwkit_round_up(hwkit_parts(p->deep, cuts), depth_unit(p));
    for (int64_t t = 0; t < p->segments; t += even)
        for (int64_t d = 0; d < p->deep; d += step)
            multiply(x, s, to, t, hwkit_min(even, p->segments - t), d,
                     hwkit_min(step, p->deep - d));
    if (p->g.y_planes)
        hwkit_int8_put(x, s, to->image, to->pixel, to->count, to->channel, to->columns, to->wide);
}

/* All panels of a chunk in one group, whose channels s->strip starts with. */
static void multiply_group(const product *x, const space *s, const place *at, int64_t group)
{
    const plan *p = x->p;
    const int64_t count = at->rows * at->columns, pixel = p->sx * s->pixel;
    const int even = at->rows == 1 || p->sy * s->line == at->columns * pixel;
    point(p, s, at);
    if (x->w_zero)
        add_up(x, s, at);
    if (p->table->amx) {
        point_all(p, s, count);
        straighten(p, s, count);
    }
    for (int64_t n = at->n0; n < at->n1; n += p->width) {
        const int64_t columns = hwkit_min(p->width, at->n1 - n);
        panel to = {.weights = x->weights + group * p->group_bytes + n * p->whole * p->b_size,
                    .vector = group * vectors_of_group(p) + n / p->table->vl,
                    .wide = hwkit_round_up(columns, p->table->vl),
                    .columns = columns,
                    .count = count,
                    .line = even ? count : at->columns,
                    .image = at->image,
                    .pixel = at->y0 * p->g.q + at->x0,
                    .channel = group * p->kg + n};
        to.sums = sums_in_place(x, &to);
        multiply_panel(x, s, &to);
    }
}

void hwkit_int8_product_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const place at = hwkit_int8_place(p, chunk);
    space s;
    if (!hwkit_int8_find_space(p, &s)) {
        x->failed = 1;
        return;
    }
    hwkit_int8_fill(x, &s, &at, 0, p->g.c);
    if (p->table->amx)
        p->table->amx->begin();
    for (int64_t group = 0; group < p->g.groups; group++) {
        multiply_group(x, &s, &at, group);
        s.strip += p->cg * strip_size(p);
    }
    if (p->table->amx)
        p->table->amx->end();
}
