/* Convolutions whose rows are output pixels, read tap by tap where they lie. */
#include "conv2d_plan.h"
#include "cpuinfo.h"
#include "layout.h"

#include <stdlib.h>
#include <string.h>

/* Where a tile finds its pixels. */
typedef struct {
    int64_t first; /* pixel of the chunk */
    int count;
    const void **rows; /* [segments][count], or NULL: they lie a step apart */
    const char *a;     /* the image at the group, or the strip; then elements to the first window */
    int64_t start;
    const int64_t *starts;
    int64_t from, to;  /* taps of a row that some pixel sees */
    int some_columns;  /* whether these are not all */
    int goes_on;       /* whether its pixels lie a step behind those of the place before */
    int64_t alike;     /* places from this one to the last that goes on */
} place;

/* What one thread needs for a chunk. */
typedef struct {
    const char *line;  /* the pixels, one after the other; NULL: see places */
    int64_t count;     /* of them */
    place *places;     /* of the tiles, one after the other */
    int64_t tiles;
    const void **rows; /* for each tile [segments][rows of the tile] */
    char *strip;       /* merge: padded input rows */
    char *panels;      /* pack_a: a block of pixels */
    char *block;       /* nchw: the result, [pixels][channels] */
    char *residual;    /* nchw: the same of the residual */
} space;

enum { PLACES, ROWS, STRIP, PANELS, BLOCK, OTHER, SPACES };

/* Whether tiles are cut from lines of the image, and read by step all of them. */
static int by_line(const plan *p)
{
    return p->c.merge && p->starts;
}

/* Where each of them starts, in bytes; returns how many there are. */
static int64_t lay_out(const plan *p, int64_t start[SPACES])
{
    const hwkit_conv2d *c = &p->c;
    const int64_t high = (p->out_rows - 1) * p->step_y + (c->r - 1) * c->dilation_y + 1;
    const int64_t strip = p->one_line ? c->pixels : high * p->strip_width;
    const int64_t block = c->nhwc ? 0 : c->pixels * c->channels * p->out_size;
    const int64_t bytes[SPACES] = {
        [PLACES] = p->tiles * (int64_t)sizeof(place),
        [ROWS] = by_line(p) ? 0 : c->pixels * p->segments * (int64_t)sizeof(void *),
        [STRIP] = c->merge ? strip * p->cg * p->x_size : 0,
        [PANELS] = c->pack_a ? c->pixels * hwkit_max(c->kc, p->depth) * p->size : 0,
        [BLOCK] = block,
        [OTHER] = c->has_residual ? block : 0,
    };
    int64_t at = 0;
    for (int i = 0; i < SPACES; i++) {
        start[i] = at;
        at += hwkit_round_up(bytes[i], 64);
    }
    return at;
}

int64_t hwkit_conv2d_direct_space(const plan *p)
{
    int64_t start[SPACES];
    return lay_out(p, start);
}

static int find_space(const plan *p, space *s)
{
    int64_t start[SPACES];
    char *base = hwkit_scratch(HWKIT_SCRATCH_THREAD, lay_out(p, start));
    if (!base)
        return 0;
    *s = (space){.places = (place *)(base + start[PLACES]),
                 .rows = (const void **)(base + start[ROWS]), .strip = base + start[STRIP],
                 .panels = base + start[PANELS], .block = base + start[BLOCK],
                 .residual = base + start[OTHER]};
    return 1;
}

/* Whether all rows of taps of output row `oy` lie in the image. */
static int rows_inside(const plan *p, int64_t oy)
{
    const int64_t y = oy * p->c.stride_y - p->c.top;
    return y >= 0 && y + (p->c.r - 1) * p->c.dilation_y < p->c.h;
}

/* The taps of a row that pixels of a tile from column `ox` on see: without those that lie beside the
 * image for all of them. */
static void find_columns(const plan *p, place *o, int64_t ox)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t x = ox * c->stride_x - c->left, last = x + (o->count - 1) * c->stride_x;
    o->from = 0;
    o->to = p->across;
    if (!p->leaves_columns || ox + o->count > c->q)
        return;
    while (o->from < o->to && last + o->from * c->dilation_x < 0)
        o->from++;
    while (o->to > o->from && x + (o->to - 1) * c->dilation_x >= c->w)
        o->to--;
    o->some_columns = o->to - o->from < p->across;
}

/* Whether pixels of a tile from (oy, ox) on lie a step apart and see nothing but the image, or what they
 * see beside is left out. */
static int in_place(const plan *p, const place *o, int64_t oy, int64_t ox)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t x = ox * c->stride_x - c->left;
    const int64_t end = o->to == p->across ? c->s : o->to; /* merged taps are one segment */
    return p->starts && !p->copied && ox + o->count <= c->q && x + o->from * c->dilation_x >= 0 &&
           x + (o->count - 1) * c->stride_x + (end - 1) * c->dilation_x < c->w &&
           (p->leaves_out || rows_inside(p, oy));
}

/* `count` pixels, of which every skip_x-th is read, into a strip; 0 if one cannot be converted. */
static int copy_pixels(const plan *p, char *to, const char *from, int64_t count)
{
    if (p->c.block_float)
        return hwkit_block_float_get()->convert(&p->blocks, to, (const float *)from,
                                                p->skip_x * p->c.c, count);
    const int64_t bytes = p->cg * p->x_size;
    if (bytes == p->pixel)
        memcpy(to, from, (size_t)(count * bytes));
    else if (bytes % p->size == 0 && p->pixel % p->size == 0)
        p->table->pack(to, bytes / p->size, from, p->pixel / p->size, 1, count, bytes / p->size, 0);
    else
        for (int64_t i = 0; i < count; i++)
            memcpy(to + i * bytes, from + i * p->pixel, (size_t)bytes);
    return 1;
}

/* Columns [from, to) of the padded row of a strip that input row `y` makes; 0 as copy_pixels. */
static int fill_row(const plan *p, const char *x, char *strip, int64_t y, int64_t from, int64_t to)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t pixel = p->cg * p->x_size;
    const int outside = y < 0 || y >= c->h;
    const int64_t left = hwkit_parts(c->left, p->skip_x), end = hwkit_parts(c->left + c->w, p->skip_x);
    const int64_t lo = outside ? to : hwkit_min(hwkit_max(from, left), to);
    const int64_t hi = outside ? to : hwkit_min(hwkit_max(lo, end), to);
    int good = 1;
    memset(strip + from * pixel, 0, (size_t)((lo - from) * pixel));
    if (hi > lo)
        good = copy_pixels(p, strip + lo * pixel,
                           x + (y * c->w + lo * p->skip_x - c->left) * p->pixel, hi - lo);
    memset(strip + hi * pixel, 0, (size_t)((to - hi) * pixel));
    return good;
}

/* The input rows under output rows [y0, y1) with their padding, as far as tiles are not inside; 0 as
 * copy_pixels. */
static int fill_strip(const plan *p, const char *x, char *strip, int64_t y0, int64_t y1)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t rows = (y1 - 1 - y0) * p->step_y + (c->r - 1) * c->dilation_y + 1;
    const int some = !p->copied && (p->leaves_out || (rows_inside(p, y0) && rows_inside(p, y1 - 1)));
    const int64_t head = some ? p->head : p->strip_width, tail = hwkit_max(head, p->tail);
    int good = 1;
    for (int64_t i = 0; i < rows; i++, strip += p->strip_width * p->cg * p->x_size) {
        const int64_t y = y0 * c->stride_y - c->top + i * p->skip_y;
        good &= fill_row(p, x, strip, y, 0, head);
        good &= fill_row(p, x, strip, y, tail, p->strip_width);
    }
    return good;
}

/* merge: pointers of `some` output pixels of a tile of `count`, the first to the runs at `strip`. */
static void point_strip(const plan *p, const char *strip, const void **to, int64_t some,
                        int64_t count, int64_t step)
{
    const int64_t pixel = p->cg * p->x_size, down = p->c.dilation_y * p->strip_width * pixel;
    const int64_t across = p->across;
    for (int64_t r = 0; r < p->c.r; r++, strip += down)
        for (int64_t t = 0; t < across; t++, to += count) {
            const char *at = strip + t * p->c.dilation_x * pixel;
            for (int64_t i = 0; i < some; i++, at += step)
                to[i] = at;
        }
}

/* Pointers of `some` output pixels of a tile of `count`, from (oy, ox) on, to what their taps see. */
static void point_taps(const plan *p, const char *x, const void **to, int64_t some, int64_t count,
                       int64_t oy, int64_t ox)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t pixel = p->pixel, x0 = ox * c->stride_x - c->left;
    int64_t y = oy * c->stride_y - c->top;
    for (int64_t r = 0; r < c->r; r++, y += c->dilation_y) {
        const int outside = y < 0 || y >= c->h;
        const char *line = outside ? p->zeros : x + y * c->w * pixel;
        for (int64_t t = 0; t < c->s; t++, to += count) {
            int64_t at = x0 + t * c->dilation_x;
            for (int64_t i = 0; i < some; i++, at += c->stride_x)
                to[i] = outside || at < 0 || at >= c->w ? p->zeros : line + at * pixel;
        }
    }
}

/* Whether the pixels of `o` go on where those of the place before it end, and see the same taps; both
 * lie in one line. */
static int goes_on(const plan *p, const place *o)
{
    const place *last = o - 1;
    const int64_t step = p->c.stride_x * (p->c.merge ? p->cg : p->x_row);
    return last->starts == o->starts && last->a == o->a && last->count == o->count &&
           last->from == o->from && last->to == o->to && last->start + o->count * step == o->start;
}

/* Where tiles of output pixels [i0, i1) of an image find them. x: the image, at the group. */
static void point(const plan *p, const char *x, space *s, int64_t i0, int64_t i1)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t pixel = p->cg * p->x_size, step = p->step_x * pixel; /* of a strip */
    const int64_t first = i0 / c->q;
    int64_t oy = first, ox = i0 % c->q;
    const void **to = s->rows;
    place *o = s->places;
    for (int64_t i = i0; i < i1; i += o++->count) {
        const int count = hwkit_tile_rows((by_line(p) ? (oy + 1) * c->q : i1) - i, c->rows);
        *o = (place){.first = i - i0, .count = count, .rows = to};
        find_columns(p, o, ox);
        if (in_place(p, o, oy, ox)) {
            o->a = x;
            o->start = ((oy * c->stride_y - c->top) * c->w + ox * c->stride_x - c->left) * p->x_row;
            o->starts = p->starts;
        } else if (by_line(p)) {
            o->a = s->strip;
            o->start = ((oy - first) * c->stride_y * p->strip_width + ox * c->stride_x) * p->cg;
            o->starts = p->starts + p->segments;
        }
        if (o->starts) {
            o->rows = NULL;
            o->goes_on = o > s->places && ox > 0 && goes_on(p, o);
            ox += count;
            if (ox == c->q) {
                ox = 0;
                oy++;
            }
            continue;
        }
        for (int64_t row = 0; row < count;) {
            /* What is left of this tile and of this line of the image. */
            const int64_t some = hwkit_min(count - row, c->q - ox);
            const char *strip = s->strip + (oy - first) * p->step_y * p->strip_width * pixel;
            if (c->merge)
                point_strip(p, strip + ox * step, to + row, some, count, step);
            else
                point_taps(p, x, to + row, some, count, oy, ox);
            row += some;
            ox += some;
            if (ox == c->q) {
                ox = 0;
                oy++;
            }
        }
        to += count * p->segments;
    }
    s->tiles = o - s->places;
    for (int64_t i = s->tiles, alike = 1; i-- > 0; alike = s->places[i].goes_on ? alike + 1 : 1)
        s->places[i].alike = alike;
}

/* One part of the depth: segments [segment, segment + segments), elements [skip, skip + depth). */
typedef struct {
    int64_t segment, segments, skip, depth;
} part;

/* The segments of `d` that pixels [first, last] of an image need: rows of taps that lie above or below
 * it for all of them are left out. */
static part seen_by(const plan *p, const part *d, int64_t first, int64_t last)
{
    const hwkit_conv2d *c = &p->c;
    part seen = *d;
    if (last >= p->upper && first < p->lower)
        return seen;
    const int64_t end = d->segment + d->segments;
    const int64_t above = c->top - last / c->q * c->stride_y;
    const int64_t below = c->top + c->h - first / c->q * c->stride_y;
    const int64_t from = above > 0 ? hwkit_parts(above, c->dilation_y) * p->across : 0;
    const int64_t to = below > 0 ? hwkit_parts(below, c->dilation_y) * p->across : 0;
    seen.segment = hwkit_min(hwkit_max(from, d->segment), end);
    seen.segments = hwkit_max(hwkit_min(to, end) - seen.segment, 0);
    return seen;
}

/* Asks for what a tile read by step is the first to see: where each pixel fills lines of its own, the
 * processor does not foresee them. */
static void ask(const plan *p, const place *o)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t across = p->across;
    const int64_t bytes = ((o->count - 1) * c->stride_x + (c->s - 1) * c->dilation_x + 1) * p->pixel;
    for (int64_t i = hwkit_max(c->r - c->stride_y, 0); i < c->r; i++) {
        /* The last ones may lie beyond the image: addresses only. */
        const uintptr_t from =
            (uintptr_t)o->a + (uintptr_t)((o->start + o->starts[i * across]) * p->x_size);
        for (uintptr_t at = from; at < from + (uintptr_t)bytes; at += 64)
            __builtin_prefetch((const void *)at);
    }
}

/* The first segment from `from` on that a tile sees. */
static int64_t next_seen(const place *o, int64_t across, int64_t from, int64_t end)
{
    while (from < end && (from % across < o->from || from % across >= o->to))
        from++;
    return from;
}

/* One tile that does not see all taps of a row, run by run of those that it sees. b: of the first
 * segment of the part. */
static void some_columns(const plan *p, const part *d, const part *seen, const place *o,
                         hwkit_tile *t, const char *b, hwkit_tile_fn kernel)
{
    const int64_t across = p->across, end = seen->segment + seen->segments;
    const int add = t->accumulate;
    const hwkit_epilogue *e = t->epilogue;
    int64_t from = next_seen(o, across, seen->segment, end);
    for (int last = 0; !last;) {
        const int64_t to = from == end ? end : hwkit_min(from - from % across + o->to, end);
        const int64_t next = next_seen(o, across, to, end);
        last = next == end;
        t->epilogue = last ? e : NULL;
        t->segments = to - from;
        t->b = b + (from - d->segment) * p->depth * t->ldb * p->size;
        if (o->rows)
            t->rows = o->rows + from * o->count;
        else
            t->starts = o->starts + from;
        if (t->segments || !t->accumulate || t->epilogue)
            kernel(t);
        t->accumulate = 1;
        from = next;
    }
    t->accumulate = add;
    t->epilogue = e;
}

/* The panel after the one at b, of which so many columns are left; NULL if there is none. */
static const char *next_panel(const plan *p, const char *b, int64_t left)
{
    return left > p->width ? b + p->width * p->whole * p->size : NULL;
}

/* Of pixels that lie one after the other: a product of rows, with nothing to find. */
static void line_part(const plan *p, const space *s, const part *d, const char *weights,
                      hwkit_tile *t, int64_t columns, char *out)
{
    const int64_t column = t->column, row = t->row;
    t->depth = d->depth;
    t->segments = 1;
    t->skip = d->skip;
    for (int64_t j = 0; j < columns; j += p->width) {
        t->columns = (int)hwkit_min(p->width, columns - j);
        const hwkit_tile_fn *kernels = p->by_step[hwkit_halves(t->columns, p->vl) - 1];
        t->ldb = hwkit_round_up(t->columns, p->vl);
        t->b = weights + (j * p->whole + d->skip * t->ldb) * p->size;
        t->column = column + j;
        t->next = s->count > p->c.rows ? next_panel(p, (const char *)t->b, columns - j) : NULL;
        t->passed = 0;
        int count;
        for (int64_t i = 0; i < s->count; i += count * t->tiles, t->passed += (int)t->tiles) {
            count = hwkit_tile_rows(s->count - i, p->c.rows);
            t->tiles = hwkit_tiles_alike(s->count - i, p->c.rows);
            t->a = s->line + i * p->pixel;
            t->c = out + (i * t->ldc + j) * p->out_size;
            t->row = row + i;
            kernels[count - 1](t);
        }
    }
    t->column = column;
    t->row = row;
}

static void direct_part(const job *x, const space *s, const part *d, const char *weights,
                        hwkit_tile *t, int64_t columns, char *out)
{
    const plan *p = x->p;
    if (s->line) {
        line_part(p, s, d, weights, t, columns, out);
        return;
    }
    const int64_t deep = d->segments * d->depth, at = d->segment * p->depth + d->skip;
    const int64_t column = t->column, row = t->row;
    const place *end = s->places + s->tiles;
    t->depth = p->c.pack_a ? deep : d->depth;
    for (const place *o = s->places; p->c.pack_a && o < end; o++)
        for (int64_t g = 0; g < d->segments; g++)
            p->table->pack_rows(s->panels + (o->first * deep + g * d->depth * o->count) * p->size,
                                o->rows + (d->segment + g) * o->count, d->skip, d->depth, o->count);
    for (int64_t j = 0; j < columns; j += p->width) {
        t->columns = (int)hwkit_min(p->width, columns - j);
        const int halves = hwkit_halves(t->columns, p->vl);
        t->ldb = hwkit_round_up(t->columns, p->vl);
        const char *b = weights + (j * p->whole + at * t->ldb) * p->size;
        t->next = s->tiles > 1 ? next_panel(p, b, columns - j) : NULL;
        t->passed = 0;
        t->column = column + j;
        for (const place *o = s->places; o < end; o += t->tiles, t->passed += (int)t->tiles) {
            t->c = out + (o->first * t->ldc + j) * p->out_size;
            t->row = row + o->first;
            t->tiles = 1;
            if (p->c.pack_a) {
                t->a = s->panels + o->first * deep * p->size;
                t->b = b;
                p->table->by_panel[halves - 1][o->count - 1](t);
                continue;
            }
            const int asks = j == 0 && !p->copied && o->starts && p->c.stride_x * p->pixel >= 64;
            if (asks && o + 1 < end && o[1].starts)
                ask(p, o + 1);
            const part seen = seen_by(p, d, t->row, t->row + o->count - 1);
            const hwkit_tile_fn kernel =
                (o->rows ? p->by_row : p->by_step)[halves - 1][o->count - 1];
            t->a = o->a;
            t->skip = o->start + d->skip;
            if (o->some_columns) {
                some_columns(p, d, &seen, o, t, b, kernel);
                continue;
            }
            if (!seen.segments && t->accumulate && !t->epilogue)
                continue;
            t->segments = seen.segments;
            t->b = b + (seen.segment - d->segment) * p->depth * t->ldb * p->size;
            if (o->rows)
                t->rows = o->rows + seen.segment * o->count;
            else
                t->starts = o->starts + seen.segment;
            t->tiles = asks ? 1 : o->alike;
            kernel(t);
        }
    }
    t->column = column;
    t->row = row;
}

/* All parts of the depth, each about kc, so that a panel of weights stays in the first cache. */
static void direct_parts(const job *x, const space *s, const char *weights, hwkit_tile *t,
                         int64_t columns, char *out)
{
    const plan *p = x->p;
    const int64_t cuts = hwkit_parts(p->depth, p->c.kc);
    const int64_t some = cuts > 1 ? 1 : hwkit_min(p->c.kc / p->depth, p->segments);
    const int64_t even = hwkit_parts(p->segments, hwkit_parts(p->segments, some));
    const int64_t deep = hwkit_parts(p->depth, cuts);
    part d;
    for (d.segment = 0; d.segment < p->segments; d.segment += even) {
        d.segments = hwkit_min(even, p->segments - d.segment);
        for (d.skip = 0; d.skip < p->depth; d.skip += deep) {
            d.depth = hwkit_min(deep, p->depth - d.skip);
            t->accumulate = d.segment > 0 || d.skip > 0;
            const int last = d.segment + d.segments == p->segments && d.skip + d.depth == p->depth;
            const hwkit_epilogue *e = t->epilogue;
            t->epilogue = last ? e : NULL;
            direct_part(x, s, &d, weights, t, columns, out);
            t->epilogue = e;
        }
    }
}

void hwkit_conv2d_direct_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const plan *p = x->p;
    const hwkit_conv2d *c = &p->c;
    const int64_t across = hwkit_parts(p->kg, c->channels);
    const int64_t down = hwkit_parts(p->out_area, c->pixels);
    const int64_t n0 = chunk % across * c->channels, n1 = hwkit_min(n0 + c->channels, p->kg);
    const int64_t group = chunk / across % c->groups;
    const int64_t i0 = chunk / across / c->groups % down * c->pixels;
    const int64_t i1 = hwkit_min(i0 + c->pixels, p->out_area);
    const int64_t image = chunk / across / c->groups / down;
    const int64_t channel = group * p->kg + n0, count = i1 - i0, columns = n1 - n0;
    space s;
    if (!find_space(p, &s)) {
        x->failed = 1;
        return;
    }
    const char *from = x->x + image * p->area * p->pixel + group * p->cg * p->x_size;
    int good = 1;
    if (p->one_line)
        good = copy_pixels(p, s.strip, from + i0 * p->pixel, count);
    else if (c->merge)
        good = fill_strip(p, from, s.strip, i0 / c->q, hwkit_parts(i1, c->q));
    if (!good) {
        x->unfit = 1;
        return;
    }
    const int64_t origin = p->one_line ? i0 : 0;
    if (p->flat && p->starts)
        s.line = from + i0 * p->pixel;
    else
        point(p, from, &s, i0 - origin, i1 - origin);
    s.count = count;

    const char *weights = x->weights + group * p->group_bytes + n0 * p->whole * p->size;
    hwkit_epilogue e = x->epilogue;
    hwkit_tile t = {.ldc = x->row, .row = i0, .column = channel, .epilogue = x->any ? &e : NULL};
    t.step = c->stride_x * (c->merge ? p->cg : p->x_row);
    t.pairs = p->blocks.pairs;
    t.odd = p->odd;
    if (c->nhwc) {
        char *out = x->out + ((image * p->out_area + i0) * x->row + channel) * p->out_size;
        direct_parts(x, &s, weights, &t, columns, out);
        return;
    }
    const int64_t at = ((image * c->k + channel) * p->out_area + i0) * p->out_size;
    t.ldc = columns;
    e.out = s.block;
    if (e.residual) {
        hwkit_turn_into(p->out_size, 0)(s.residual, columns, (const char *)e.residual + at,
                                        p->out_area, columns, count);
        e.residual = s.residual;
    }
    direct_parts(x, &s, weights, &t, columns, s.block);
    hwkit_turn_into(p->out_size, c->n * c->k * p->out_area * p->out_size)(
        x->out + at, p->out_area, s.block, columns, count, columns);
}

/* ---- the plan ---------------------------------------------------------------------------------- */

int hwkit_conv2d_find_starts(plan *p)
{
    const hwkit_conv2d *c = &p->c;
    p->starts = NULL;
    if (c->algorithm != HWKIT_CONV_DIRECT || c->pack_a || c->block_float)
        return 1;
    int64_t *to = p->starts = malloc((size_t)(2 * p->segments) * sizeof *to);
    if (!to)
        return 0;
    const int64_t across = p->across;
    for (int64_t i = 0; i < p->segments; i++) {
        const int64_t y = i / across * c->dilation_y, x = i % across * c->dilation_x;
        to[i] = (y * c->w + x) * p->x_row;
        to[p->segments + i] = y * p->strip_width * p->cg;
    }
    p->head = 0;
    p->tail = p->strip_width;
    int count;
    for (int64_t ox = 0; c->merge && ox < c->q; ox += count) {
        count = hwkit_tile_rows(c->q - ox, c->rows);
        const int64_t from = ox * c->stride_x, end = from + (count - 1) * c->stride_x + c->s;
        if (from < c->left)
            p->head = end;
        if (end > c->left + c->w)
            p->tail = hwkit_min(p->tail, from);
    }
    /* Taps in a row lie together only in the copy of one of several groups. About a line for each
     * pixel, from beyond the second cache, arrives sooner for a plain copy. */
    const int64_t bytes = p->area * p->pixel + p->out_area * c->k * p->out_size;
    const int far = c->stride_x * p->pixel >= 48 && bytes > hwkit_cpu()->l2 / 2 * 3;
    p->copied = c->merge && (c->groups > 1 || far);
    return 1;
}

