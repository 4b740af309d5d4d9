/* Convolutions whose rows are output channels: pixels are packed block by block. */
#include "conv2d_plan.h"

/* Output pixels [i0, i0 + count), one panel, of `channels` channels that start at `plane`, as one
 * tap sees them: row by row of the image, all channels of a piece together. Rows of the panel that
 * belong to one tap lie `ld` apart. */
static void pack_tap(const plan *p, char *to, int64_t ld, const char *plane, int64_t channels,
                     int64_t r, int64_t s, int64_t i0, int64_t count)
{
    const hwkit_conv2d *c = &p->c;
    int64_t oy = i0 / c->q, ox = i0 % c->q;
    const int64_t shift = s * c->dilation_x - c->left;
    /* the outputs whose input column ox * stride + shift lies in [0, w) */
    const int64_t first = shift < 0 ? hwkit_parts(-shift, c->stride_x) : 0;
    const int64_t end = c->w - shift > 0 ? hwkit_parts(c->w - shift, c->stride_x) : 0;
    for (int64_t run; count > 0; count -= run, to += run * p->size, ox = 0, oy++) {
        const int64_t y = oy * c->stride_y - c->top + r * c->dilation_y;
        run = hwkit_min(count, c->q - ox);
        if (y < 0 || y >= c->h) {
            p->table->pack(to, ld, plane, 0, 1, channels, 0, run);
            continue;
        }
        const int64_t lo = hwkit_min(hwkit_max(first, ox), ox + run);
        const int64_t hi = hwkit_min(hwkit_max(end, lo), ox + run);
        if (lo > ox)
            p->table->pack(to, ld, plane, 0, 1, channels, 0, lo - ox);
        if (hi > lo)
            p->table->pack(to + (lo - ox) * p->size, ld,
                           plane + (y * c->w + lo * c->stride_x + shift) * p->size, p->area,
                           c->stride_x, channels, hi - lo, ox + run - hi);
        else if (ox + run > lo)
            p->table->pack(to + (lo - ox) * p->size, ld, plane, 0, 1, channels, 0, ox + run - lo);
    }
}

/* Tiles of rows from which on the copy of a panel, which they all read, costs less than it brings. */
enum { MANY_TILES = 13 };

/* Whether a panel of so many pixels is read where it lies: it would hold pixels of a channel as they
 * are. */
static int in_place(const plan *p, int64_t count)
{
    return p->flat && count == p->width && hwkit_parts(p->kg, p->c.rows) < MANY_TILES;
}

/* Panels of output pixels [i0, i1) over depth [k0, k0 + depth), both whole channels. */
static void pack_block(const plan *p, char *to, const char *x, int64_t i0, int64_t i1, int64_t k0,
                       int64_t depth)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t taps = c->r * c->s, channels = depth / taps;
    x += k0 / taps * p->area * p->size;
    for (int64_t i = i0; i < i1; i += p->width) {
        const int64_t count = hwkit_min(p->width, i1 - i);
        const int64_t wide = hwkit_round_up(count, p->kernels->vl);
        if (p->flat && !in_place(p, count))
            p->table->pack(to, wide, x + i * p->size, p->area, 1, depth, count, wide - count);
        for (int64_t t = 0; !p->flat && t < taps; t++) {
            char *row = to + t * wide * p->size;
            pack_tap(p, row, taps * wide, x, channels, t / c->s, t % c->s, i, count);
            if (wide > count)
                p->table->pack(row + count * p->size, taps * wide, x, 0, 1, channels, 0,
                               wide - count);
        }
        to += depth * wide * p->size;
    }
}

int64_t hwkit_conv2d_packed_depth(const plan *p)
{
    const int64_t even = hwkit_parts(p->whole, hwkit_parts(p->whole, p->c.kc));
    return hwkit_round_up(even, p->c.r * p->c.s);
}

void hwkit_conv2d_packed_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const plan *p = x->p;
    const hwkit_conv2d *c = &p->c;
    const int rows = c->rows;
    const int64_t down = hwkit_parts(p->kg, c->channels);
    const int64_t across = hwkit_parts(p->out_area, c->pixels);
    const int64_t m0 = chunk % down * c->channels, m1 = hwkit_min(m0 + c->channels, p->kg);
    const int64_t group = chunk / down % c->groups;
    const int64_t i0 = chunk / down / c->groups % across * c->pixels;
    const int64_t i1 = hwkit_min(i0 + c->pixels, p->out_area);
    const int64_t image = chunk / down / c->groups / across;
    const int64_t deep = hwkit_conv2d_packed_depth(p);
    char *panels = hwkit_scratch(HWKIT_SCRATCH_THREAD,
                                 deep * hwkit_round_up(i1 - i0, p->kernels->vl) * p->size);
    if (!panels) {
        x->failed = 1;
        return;
    }
    const char *from = x->x + (image * c->c + group * p->cg) * p->area * p->size;
    const char *weights = x->weights + group * p->group_bytes;
    char *out = x->out + (image * c->k + group * p->kg) * p->out_area * p->size;
    hwkit_tile t = {.step = p->whole, .segments = 1, .ldc = p->out_area};
    for (int64_t k0 = 0; k0 < p->whole; k0 += deep) {
        t.depth = hwkit_min(deep, p->whole - k0);
        t.accumulate = k0 > 0;
        t.epilogue = k0 + t.depth == p->whole && x->any ? &x->epilogue : NULL;
        pack_block(p, panels, from, i0, i1, k0, t.depth);
        for (int64_t i = i0; i < i1; i += p->width) {
            t.columns = (int)hwkit_min(p->width, i1 - i);
            const int halves = hwkit_halves(t.columns, p->kernels->vl);
            t.ldb = hwkit_round_up(t.columns, p->kernels->vl);
            t.b = panels + (i - i0) * t.depth * p->size;
            if (in_place(p, t.columns)) {
                t.b = from + (k0 * p->area + i) * p->size;
                t.ldb = p->area;
            }
            t.column = i;
            for (int64_t m = m0; m < m1; m += rows * t.tiles) {
                const int count = (int)hwkit_min(rows, m1 - m);
                t.tiles = hwkit_max((m1 - m) / rows, 1);
                t.a = weights + (m * p->whole + k0 * count) * p->size;
                t.c = out + (m * p->out_area + i) * p->size;
                t.row = group * p->kg + m;
                p->table->by_panel[halves - 1][count - 1](&t);
            }
        }
    }
}
