/* Direct convolutions in block floating point.
 *
 * The padded rows of the image under a chunk of output are converted into the memory of its thread, so
 * that they are read from the second cache, and each once for all taps and panels of weights. Of what
 * can be converted no product and no sum overflows, and a unit holds what is tiny as well as float32
 * does, so the answer never differs in kind from that of float32; all else is computed plainly. */
#include "conv2d_plan.h"

#include <string.h>

int hwkit_block_float_tile(int rows, int vectors)
{
    return rows > 0 && rows <= HWKIT_MAX_ROWS && vectors > 0 && vectors <= HWKIT_MAX_VECTORS &&
           hwkit_block_float_get()->by_row[2 * vectors - 1][rows - 1];
}

int hwkit_block_float_flatten(hwkit_conv2d *c)
{
    if (c->r * c->s > 1 || c->stride_x > 1 || c->stride_y > 1 || c->top || c->left ||
        c->p != c->h || c->q != c->w)
        return 0;
    c->q = c->w = c->n * c->h * c->w;
    c->n = c->h = c->p = 1;
    return 1;
}

/* Weights that come by depth, transposed. */
static int64_t turned_bytes(const plan *p)
{
    return p->c.by_depth ? hwkit_round_up(p->width * p->tap, 64) : 0;
}

int64_t hwkit_block_float_packing_bytes(const plan *p)
{
    return turned_bytes(p) + p->width * p->whole * p->size;
}

int hwkit_block_float_pack(const plan *p, char *to, const char *w, int64_t panel)
{
    const hwkit_block_float *f = &p->blocks;
    const int64_t first = panel * p->width, taps = p->c.r * p->c.s, row = p->whole * p->size;
    const int count = (int)hwkit_min(p->width, p->kg - first);
    const int64_t turned = turned_bytes(p);
    char *scratch = hwkit_scratch(HWKIT_SCRATCH_THREAD, hwkit_block_float_packing_bytes(p));
    if (!scratch)
        return 0;
    if (p->c.by_depth)
        p->table->transpose(scratch, f->terms, w + first * p->size, p->kg, count, f->terms);
    const float *from = (const float *)(p->c.by_depth ? scratch : w + first * taps * p->tap);
    const int good = hwkit_block_float_get()->convert(f, scratch + turned, from, f->terms,
                                                      count * taps);
    p->table->pack_transposed(to + first * row, scratch + turned, p->whole, p->whole, count,
                              (int)hwkit_round_up(count, p->vl));
    return good ? 1 : -1;
}

int64_t hwkit_block_float_plain_bytes(const plan *p)
{
    return p->c.k * p->c.r * p->c.s * p->tap;
}

int hwkit_block_float_run_plain(const plan *p, const void *const all[KINDS], void *out,
                                int64_t out_row, int64_t packed)
{
    const char *w = (const char *)all[W] + (p->operands.held[W] ? packed : 0);
    float *turned = NULL;
    const void *given[KINDS];
    int count = 0, status = HWKIT_NO_MEMORY;
    hwkit_plan *plain = hwkit_conv2d_plain_plan(p);
    if (plain && p->c.by_depth) {
        turned = hwkit_alloc(hwkit_block_float_plain_bytes(p));
        if (turned)
            p->table->transpose(turned, p->c.c, w, p->c.k, p->c.k, p->c.c);
        w = (const char *)turned;
    }
    for (int i = 0; i < KINDS; i++)
        if (all[i])
            given[count++] = i == W ? w : all[i];
    if (plain && w)
        status = plain->run_apart(plain, given, out, 0, out_row);
    if (plain)
        plain->destroy(plain);
    hwkit_free(turned);
    return status;
}
