/* Chunks of matrix products and convolutions of 8-bit integers; conv2d.c has the same structure in
 * floating point. */
#include "int8_chunk.h"
#include "int8_pack.h"

#include <string.h>

/* Pointers of all segments of all pixels, tile by tile. */
static void point(const plan *p, const space *s, const place *at)
{
    const int64_t count = at->rows * at->columns, across = p->merged ? 1 : p->g.s;
    const int64_t down_step = p->dy * s->line, across_step = p->dx * s->pixel;
    const char *line = s->strip, *corner = line;
    int64_t column = 0;
    for (int64_t tile = 0; tile < count; tile += p->g.rows) {
        const int64_t some = hwkit_min(p->g.rows, count - tile);
        for (int64_t i = 0; i < some; i++) {
            const void **to = s->rows + tile * p->segments + i;
            const char *row = corner;
            for (int64_t r = 0; r < p->g.r; r++, row += down_step) {
                const char *tap = row;
                for (int64_t t = 0; t < across; t++, tap += across_step, to += some)
                    *to = tap;
            }
            corner += p->sx * s->pixel;
            if (++column == at->columns) {
                column = 0;
                line += p->sy * s->line;
                corner = line;
            }
        }
    }
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
            const void **rows = s->rows + tile * p->segments + half;
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

static void add_up(const product *x, const space *s, int64_t count)
{
    const plan *p = x->p;
    for (int64_t i = 0; i < count; i++) {
        const int64_t tile = i / p->g.rows * p->g.rows;
        const int64_t some = hwkit_min(p->g.rows, count - tile);
        uint32_t sum = 0;
        for (int64_t t = 0; t < p->segments; t++)
            sum += (uint32_t)p->table->sum(s->rows[tile * p->segments + t * some + i - tile],
                                           p->depth);
        s->sums[i] = (int32_t)sum;
    }
}

/* One part of the depth of one panel: segments [segment, segment + segments), elements [skip,
 * skip + depth) of each. */
static void multiply(const product *x, const space *s, const char *panel, int64_t vector,
                     int64_t wide, int64_t count, int64_t segment, int64_t segments, int64_t skip,
                     int64_t depth)
{
    const plan *p = x->p;
    const int rows = p->g.rows;
    hwkit_int8_tile t = {.segments = segments, .groups = depth / p->table->group};
    t.skip = skip * strip_size(p);
    t.accumulate = segment > 0 || skip > 0;
    t.b = panel + (segment * p->deep + skip) * wide * p->b_size;
    if (p->extras && segment + segments == p->segments && skip + depth == p->deep) {
        const extra_space e = hwkit_int8_extras_of(p, (char *)x->weights);
        t.from = e.from + vector;
        t.extras = e.extras;
        t.extra_weights = (const char *)e.weights;
    }
    const int vectors = (int)(wide / p->table->vl);
    const hwkit_int8_tile_fn *tiles = p->table->tiles[p->b_size == 1][vectors - 1];
    for (int64_t i = 0; i < count; i += rows) {
        const int64_t some = hwkit_min(rows, count - i);
        t.all_rows = s->rows + i * p->segments;
        t.rows = t.all_rows + segment * some;
        t.c = s->block + i * wide;
        if (p->table->amx)
            p->table->amx->product[w_signed(p)](&t, (int)some, vectors);
        else
            tiles[some - 1](&t);
    }
}

/* The depth in parts of about kc, so that a part of a panel stays in the first cache. */
static void multiply_panel(const product *x, const space *s, const char *panel, int64_t vector,
                           int64_t wide, int64_t count)
{
    const plan *p = x->p;
    const int64_t cuts = hwkit_parts(p->deep, p->g.kc);
    const int64_t some = cuts > 1 ? 1 : hwkit_min(p->g.kc / p->deep, p->segments);
    const int64_t even = hwkit_parts(p->segments, hwkit_parts(p->segments, some));
    const int64_t step = hwkit_round_up(hwkit_parts(p->deep, cuts), depth_unit(p));
    for (int64_t t = 0; t < p->segments; t += even)
        for (int64_t d = 0; d < p->deep; d += step)
            multiply(x, s, panel, vector, wide, count, t, hwkit_min(even, p->segments - t), d,
                     hwkit_min(step, p->deep - d));
}

void hwkit_int8_product_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const place at = hwkit_int8_place(p, chunk);
    const int64_t count = at.rows * at.columns;
    space s;
    if (!hwkit_int8_find_space(p, &s)) {
        x->failed = 1;
        return;
    }
    hwkit_int8_fill(x, &s, &at, at.group * p->cg, p->cg);
    point(p, &s, &at);
    if (x->w_zero)
        add_up(x, &s, count);
    if (p->table->amx) {
        straighten(p, &s, count);
        p->table->amx->begin();
    }
    for (int64_t n = at.n0; n < at.n1; n += p->width) {
        const int64_t columns = hwkit_min(p->width, at.n1 - n);
        const int64_t wide = hwkit_round_up(columns, p->table->vl);
        multiply_panel(x, &s, x->weights + at.group * p->group_bytes + n * p->whole * p->b_size,
                       at.group * vectors_of_group(p) + n / p->table->vl, wide, count);
        hwkit_int8_put(x, &s, at.image, at.y0 * p->g.q + at.x0, count, at.group * p->kg + n, columns,
                       wide);
    }
    if (p->table->amx)
        p->table->amx->end();
}
