/* Convolutions of few output channels, channels last, as dot products: the vectors run along what a
 * window sees of a row of the image, where columns of the result would fill but few of their lanes.
 * Nothing is packed. Windows that meet the padding are copied with their zeros. */
#include "conv2d.h"
#include "gemm.h"
#include "isa.h"
#include "threads.h"

#include <stdlib.h>
#include <string.h>

enum { X, W, BIAS, RESIDUAL, KINDS };

typedef struct {
    hwkit_plan base;
    hwkit_conv2d c;
    const hwkit_gemm_kernels *table;
    int64_t cg, kg;          /* channels of a group */
    int64_t size;            /* bytes of an element */
    int64_t segments, depth; /* of a window: runs of elements that lie together */
    int64_t whole;           /* elements of a window */
    int64_t lines;           /* of the result, of a chunk */
    int64_t left, right;     /* columns of the result before, and from, which windows meet the padding */
    hwkit_operands operands;
    int64_t starts[];        /* elements from a window to its segments */
} plan;

typedef struct {
    const plan *p;
    const char *x, *w;
    char *out;
    int64_t row; /* elements from pixel to pixel of the result */
    hwkit_epilogue epilogue;
    int any;     /* whether there is an epilogue at all */
    _Atomic int failed;
} job;

/* The window of one pixel of the result with its zeros. x: the image, at the group. */
static void copy_window(const plan *p, char *to, const char *x, int64_t oy, int64_t ox)
{
    const hwkit_conv2d *c = &p->c;
    const int64_t run = p->cg * p->size, pixel = c->c * p->size;
    for (int64_t r = 0; r < c->r; r++) {
        const int64_t y = oy * c->stride_y - c->top + r * c->dilation_y;
        for (int64_t s = 0; s < c->s; s++, to += run) {
            const int64_t column = ox * c->stride_x - c->left + s * c->dilation_x;
            if (y < 0 || y >= c->h || column < 0 || column >= c->w)
                memset(to, 0, (size_t)run);
            else
                memcpy(to, x + (y * c->w + column) * pixel, (size_t)run);
        }
    }
}

/* Pixels [from, to) of a line of the result whose windows meet the padding. */
static void put_copied(const job *j, char *window, const char *x, const char *w, char *line,
                       int64_t oy, int64_t from, int64_t to)
{
    const plan *p = j->p;
    const int64_t start = 0;
    for (int64_t ox = from; ox < to; ox++) {
        copy_window(p, window, x, oy, ox);
        p->table->dot_runs(window, 0, &start, 1, p->whole, w, p->whole, line + ox * j->row * p->size,
                           j->row, 1, p->kg);
    }
}

static void chunk(void *ctx, int64_t number)
{
    job *j = ctx;
    const plan *p = j->p;
    const hwkit_conv2d *c = &p->c;
    const int64_t down = hwkit_parts(c->p, p->lines), group = number % c->groups;
    const int64_t image = number / c->groups / down;
    const int64_t y0 = number / c->groups % down * p->lines, y1 = hwkit_min(y0 + p->lines, c->p);
    char *window = hwkit_scratch(HWKIT_SCRATCH_THREAD, p->whole * p->size);
    if (!window) {
        j->failed = 1;
        return;
    }
    const char *x = j->x + (image * c->h * c->w * c->c + group * p->cg) * p->size;
    const char *w = j->w + group * p->kg * p->whole * p->size;
    for (int64_t oy = y0; oy < y1; oy++) {
        const int64_t y = oy * c->stride_y - c->top, line = (image * c->p + oy) * c->q;
        const int inside = y >= 0 && y + (c->r - 1) * c->dilation_y < c->h;
        const int64_t left = inside ? p->left : c->q, right = inside ? p->right : c->q;
        char *out = j->out + (line * j->row + group * p->kg) * p->size;
        put_copied(j, window, x, w, out, oy, 0, left);
        if (right > left)
            p->table->dot_runs(x + (y * c->w + left * c->stride_x - c->left) * c->c * p->size,
                               c->stride_x * c->c, p->starts, p->segments, p->depth, w, p->whole,
                               out + left * j->row * p->size, j->row, right - left, p->kg);
        put_copied(j, window, x, w, out, oy, right, c->q);
        for (int64_t ox = 0; j->any && ox < c->q; ox += 64) /* rows are counted in an int */
            p->table->finish(out + ox * j->row * p->size, j->row, (int)hwkit_min(64, c->q - ox),
                             p->kg, &j->epilogue, line + ox, group * p->kg);
    }
}

static int run_apart(const hwkit_plan *base, const void *const *operands, void *out, int64_t x_row,
                     int64_t out_row)
{
    (void)x_row;
    const plan *p = (const plan *)base;
    const hwkit_conv2d *c = &p->c;
    const void *all[KINDS];
    hwkit_bind(&p->operands, KINDS, operands, all);
    job j = {.p = p, .x = all[X], .w = all[W], .out = out, .row = out_row};
    j.epilogue = (hwkit_epilogue){.act = c->act, .alpha = 1, .out = out, .bias = all[BIAS],
                                  .residual = all[RESIDUAL]};
    j.any = all[BIAS] || all[RESIDUAL] || c->act.kind != HWKIT_IDENTITY;
    hwkit_parallel_work(c->n * c->groups * hwkit_parts(c->p, p->lines), chunk, &j, c->threads,
                        1e9 * base->seconds);
    return j.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static int run(const hwkit_plan *base, const void *const *operands, void *out)
{
    return run_apart(base, operands, out, 0, ((const plan *)base)->c.k);
}

hwkit_plan *hwkit_dot_conv2d_plan(const hwkit_conv2d *c)
{
    plan *p = calloc(1, sizeof *p + (size_t)(c->r * c->s) * sizeof *p->starts);
    if (!p)
        return NULL;
    const hwkit_isa *isa = hwkit_isa_get();
    const hwkit_kernels *kernels = c->is_double ? &isa->f64 : &isa->f32;
    const int together = c->groups == 1 && c->dilation_x == 1;
    p->c = *c;
    p->table = kernels->gemm;
    p->size = c->is_double ? 8 : 4;
    p->cg = c->c / c->groups;
    p->kg = c->k / c->groups;
    p->whole = p->cg * c->r * c->s;
    p->segments = together ? c->r : c->r * c->s;
    p->depth = p->whole / p->segments;
    const int64_t across = p->segments / c->r;
    for (int64_t i = 0; i < p->segments; i++)
        p->starts[i] =
            (i / across * c->dilation_y * c->w + i % across * c->dilation_x) * c->c;
    p->lines = hwkit_even(c->p, hwkit_parts(c->pixels, c->q), 1);
    const int64_t seen = c->w + c->left - (c->s - 1) * c->dilation_x; /* starts of windows before it */
    p->left = hwkit_min(hwkit_parts(c->left, c->stride_x), c->q);
    p->right = seen > 0 ? hwkit_min(hwkit_parts(seen, c->stride_x), c->q) : 0;
    p->right = hwkit_max(p->right, p->left);
    p->operands =
        (hwkit_operands){.kinds = KINDS, .present = {1, 1, c->has_bias, c->has_residual}};
    p->base.run = run;
    p->base.run_apart = run_apart;
    p->base.out_apart = !c->has_residual; /* which is laid out like the result */
    p->base.destroy = hwkit_plan_free;
    p->base.workspace = c->threads * p->whole * p->size;
    p->base.seconds = hwkit_product_seconds(
        (double)c->n * (double)(c->k * c->p * c->q) * (double)p->whole, kernels->vl);
    return &p->base;
}
