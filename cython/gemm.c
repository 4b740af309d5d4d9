/* Blocking loops of matrix products. Compiled once: all that depends on the instruction set and on
 * the element type is behind the table, so the loops count elements and move by bytes. */
#include "gemm.h"

#include "amx_gemm.h"
#include "strassen.h"
#include "threads.h"

#include <stdlib.h>
#include <string.h>

/* Packing all of B needs as much memory again as B; beyond this it is done in parts. */
enum { PACK_BYTES = 16 << 20, PACK_ROWS = 8 };

/* From the outer caches; memory is slower. */
static const double NEAR_BYTES_PER_SECOND = 64e9;

enum { A, B, ADDEND, BIAS, RESIDUAL, KINDS };

typedef struct {
    hwkit_plan base;
    hwkit_gemm g;
    const hwkit_kernels *kernels;
    const hwkit_gemm_kernels *table;
    int size, width;      /* bytes of an element, columns of a panel */
    int64_t lda, ldb;
    hwkit_operands operands;
    int b_packed;         /* B is held in panels */
    int turned;           /* stream: the product is C^T = B^T A, and m, n are those of C^T */
    int turns_a, turns_b; /* not packed, tiles: is transposed before the product */
    hwkit_amx_gemm amx;   /* tiles */
    int64_t panels_bytes; /* of one B in panels */
} plan;

/* One product out of the batch. */
typedef struct {
    const plan *p;
    const char *a, *b;
    const char *panels;    /* of columns [column, column + columns), or NULL */
    char *out;
    int64_t column, columns;
    const hwkit_epilogue *epilogue; /* NULL: none */
    char *pack_to;
    int64_t pack_share;    /* panels of a chunk when packing */
    _Atomic int failed;
} product;

double hwkit_product_seconds(double multiply_adds, int vl)
{
    return multiply_adds / (1.5 * vl * 3e9);
}

int64_t hwkit_panels_bytes(int64_t columns, int64_t depth, int width, int vl, int size)
{
    int64_t full = columns / width * width;
    return (full + hwkit_round_up(columns - full, vl)) * depth * size;
}

void hwkit_pack_panels(const hwkit_kernels *kernels, int size, void *dst, const void *b, int64_t ld,
                       int transposed, int64_t columns, int64_t depth, int width, int64_t from,
                       int64_t to)
{
    const hwkit_gemm_kernels *table = kernels->gemm;
    /* A few rows of all panels before the next rows: b is read in long runs, not in columns. */
    const int64_t step = transposed ? depth : PACK_ROWS;
    for (int64_t k = 0; k < depth; k += step)
        for (int64_t panel = from; panel < to; panel++) {
            int64_t j = panel * width, some = hwkit_min(step, depth - k);
            int count = (int)hwkit_min(width, columns - j);
            int wide = (int)hwkit_round_up(count, kernels->vl);
            char *at = (char *)dst + (j * depth + k * wide) * size;
            if (transposed)
                table->pack_transposed(at, (const char *)b + j * ld * size, ld, some, count, wide);
            else
                table->pack(at, wide, (const char *)b + (k * ld + j) * size, ld, 1, some, count,
                            wide - count);
        }
}

/* ---- packed ------------------------------------------------------------------------------------ */

static void pack_chunk(void *ctx, int64_t chunk)
{
    const product *x = ctx;
    const plan *p = x->p;
    int64_t from = chunk * x->pack_share, all = hwkit_parts(x->columns, p->width);
    const char *b = x->b + x->column * (p->g.transpose_b ? p->ldb : 1) * p->size;
    hwkit_pack_panels(p->kernels, p->size, x->pack_to, b, p->ldb, p->g.transpose_b, x->columns,
                      p->g.k, p->width, from, hwkit_min(from + x->pack_share, all));
}

/* Rows [m0, m1) of A, depth [k0, k0 + depth), as panels of `rows`. Of a transposed A, a few rows of all
 * panels before the next rows, as above. */
static void pack_rows(const product *x, char *to, int64_t m0, int64_t m1, int64_t k0, int64_t depth)
{
    const plan *p = x->p;
    const int64_t size = p->size, step = p->g.transpose_a ? PACK_ROWS : depth;
    int count;
    for (int64_t k = 0; k < depth; k += step)
        for (int64_t i = m0; i < m1; i += count) {
            const int64_t some = hwkit_min(step, depth - k);
            count = hwkit_tile_rows(m1 - i, p->g.rows);
            char *at = to + ((i - m0) * depth + k * count) * size;
            if (p->g.transpose_a)
                p->table->pack(at, count, x->a + ((k0 + k) * p->lda + i) * size, p->lda, 1, some,
                               count, 0);
            else
                p->table->pack_transposed(at, x->a + (i * p->lda + k0) * size, p->lda, depth, count,
                                          count);
        }
}

/* One block: rows [m0, m1) by columns [n0, n1) of the packed part, over depth [k0, k0 + depth). The
 * panel of B stays in the first cache while the rows pass by. */
static void block(const product *x, const char *packed, int64_t m0, int64_t m1, int64_t n0,
                  int64_t n1, int64_t k0, int64_t depth)
{
    const plan *p = x->p;
    const int size = p->size, rows = p->g.rows;
    hwkit_tile t = {.step = packed ? depth : p->lda, .segments = 1, .depth = depth, .ldc = p->g.n};
    t.accumulate = k0 > 0;
    t.epilogue = k0 + depth == p->g.k ? x->epilogue : NULL;
    for (int64_t j = n0; j < n1; j += p->width) {
        t.columns = (int)hwkit_min(p->width, n1 - j);
        const int halves = hwkit_halves(t.columns, p->kernels->vl);
        t.ldb = hwkit_round_up(t.columns, p->kernels->vl);
        const char *b = x->panels + (j * p->g.k + k0 * t.ldb) * size;
        t.b = b;
        t.column = x->column + j;
        const int several = m1 - m0 > rows && j + p->width < n1;
        t.next = several ? b + p->width * p->g.k * size : NULL;
        t.passed = 0;
        int count;
        for (int64_t i = m0; i < m1; i += count * t.tiles, t.passed += (int)t.tiles) {
            count = hwkit_tile_rows(m1 - i, rows);
            t.tiles = hwkit_tiles_alike(m1 - i, rows);
            t.c = x->out + (i * p->g.n + t.column) * size;
            t.row = i;
            if (packed) {
                t.a = packed + (i - m0) * depth * size;
                p->table->by_panel[halves - 1][count - 1](&t);
                continue;
            }
            t.a = x->a + (i * p->lda + k0) * size;
            p->table->by_step[halves - 1][count - 1](&t);
        }
    }
}

static void product_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    const int64_t across = hwkit_parts(x->columns, g->nc);
    const int64_t m0 = chunk / across * g->mc, m1 = hwkit_min(m0 + g->mc, g->m);
    const int64_t n0 = chunk % across * g->nc, n1 = hwkit_min(n0 + g->nc, x->columns);
    const int pack = g->pack_a || g->transpose_a;
    char *packed = NULL;
    if (pack && !(packed = hwkit_scratch(HWKIT_SCRATCH_THREAD,
                                         (m1 - m0) * hwkit_min(g->kc, g->k) * p->size))) {
        x->failed = 1;
        return;
    }
    for (int64_t k0 = 0; k0 < g->k; k0 += g->kc) {
        int64_t depth = hwkit_min(g->kc, g->k - k0);
        if (pack)
            pack_rows(x, packed, m0, m1, k0, depth);
        block(x, packed, m0, m1, n0, n1, k0, depth);
    }
}

static int packed_product(product *x)
{
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    int64_t step = g->n;
    const double nanoseconds = 1e9 * p->base.seconds / (double)g->batch;
    if (!p->b_packed) {
        int64_t most = hwkit_max(PACK_BYTES / (g->k * p->size), p->width) / p->width * p->width;
        step = hwkit_min(step, hwkit_max(most, p->width));
        x->pack_to = hwkit_scratch(HWKIT_SCRATCH_SHARED,
                                   hwkit_panels_bytes(step, g->k, p->width, p->kernels->vl, p->size));
        if (!x->pack_to)
            return HWKIT_NO_MEMORY;
        x->panels = x->pack_to;
    }
    for (x->column = 0; x->column < g->n; x->column += step) {
        x->columns = hwkit_min(step, g->n - x->column);
        if (!p->b_packed) {
            int64_t panels = hwkit_parts(x->columns, p->width);
            x->pack_share = hwkit_parts(panels, 4 * (int64_t)g->threads);
            hwkit_parallel_work(hwkit_parts(panels, x->pack_share), pack_chunk, x, g->threads,
                                x->columns * g->k / 4);
        }
        hwkit_parallel_work(hwkit_parts(g->m, g->mc) * hwkit_parts(x->columns, g->nc),
                            product_chunk, x, g->threads, nanoseconds);
    }
    return x->failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

/* ---- unpacked ---------------------------------------------------------------------------------- */

/* Kernels that read nothing of B beyond so many columns. */
static const hwkit_tile_fn *within(const plan *p, int columns)
{
    const int vl = p->kernels->vl, vectors = (columns + vl - 1) / vl, over = columns % vl;
    const hwkit_tile_fn *all = p->table->by_step[2 * vectors - 1];
    const hwkit_tile_fn *half = p->table->by_step[2 * vectors - 2];
    if (!over)
        return all;
    return 2 * over == vl && half[0] != all[0] ? half : p->table->by_step_masked[vectors - 1];
}

static void unpacked_chunk(void *ctx, int64_t chunk)
{
    const product *x = ctx;
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    const int64_t across = hwkit_parts(g->n, g->nc);
    const int64_t m0 = chunk / across * g->mc, m1 = hwkit_min(m0 + g->mc, g->m);
    const int64_t n0 = chunk % across * g->nc, n1 = hwkit_min(n0 + g->nc, g->n);
    const int64_t deep = hwkit_even(g->k, g->kc, 1);
    hwkit_tile t = {.step = g->k, .segments = 1, .ldb = g->n, .ldc = g->n};
    for (int64_t j = n0; j < n1; j += p->width) {
        t.columns = (int)hwkit_min(p->width, n1 - j);
        t.column = j;
        const hwkit_tile_fn *kernels = within(p, t.columns);
        for (t.skip = 0; t.skip < g->k; t.skip += t.depth) {
            t.depth = hwkit_min(deep, g->k - t.skip);
            t.b = x->b + (t.skip * g->n + j) * p->size;
            t.accumulate = t.skip > 0;
            t.epilogue = t.skip + t.depth == g->k ? x->epilogue : NULL;
            int count;
            for (int64_t i = m0; i < m1; i += count * t.tiles) {
                count = hwkit_tile_rows(m1 - i, g->rows);
                t.tiles = hwkit_tiles_alike(m1 - i, g->rows);
                t.a = x->a + i * g->k * p->size;
                t.c = x->out + (i * g->n + j) * p->size;
                t.row = i;
                kernels[count - 1](&t);
            }
        }
    }
}

/* ---- dot --------------------------------------------------------------------------------------- */

enum { DOT_ROWS = 4 };

/* Rows of a chunk: all, unless columns are too few to share. */
static int64_t dot_rows(const hwkit_gemm *g)
{
    const int64_t across = hwkit_parts(g->n, g->nc), chunks = 4 * (int64_t)g->threads;
    return across >= g->threads ? g->m : hwkit_even(g->m, hwkit_parts(g->m, chunks), DOT_ROWS);
}

static void dot_chunk(void *ctx, int64_t chunk)
{
    const product *x = ctx;
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    const int64_t across = hwkit_parts(g->n, g->nc), share = dot_rows(g), m0 = chunk / across * share;
    const int64_t n0 = chunk % across * g->nc, n1 = hwkit_min(n0 + g->nc, g->n);
    const int64_t m1 = hwkit_min(m0 + share, g->m);
    for (int64_t i = m0; i < m1; i += DOT_ROWS) {
        const int count = (int)hwkit_min(DOT_ROWS, m1 - i);
        char *c = x->out + (i * g->n + n0) * p->size;
        p->table->dot(x->a + i * g->k * p->size, g->k, x->b + n0 * g->k * p->size, g->k, c, g->n,
                      count, n1 - n0, g->k);
        if (x->epilogue)
            p->table->finish(c, g->n, count, n1 - n0, x->epilogue, i, n0);
    }
}

/* ---- stream ------------------------------------------------------------------------------------ */

enum { STREAM_DEEP = 8, STREAM_ROWS = 4 };
/* Depth that is summed up term by term; sums of deeper products are sums of such sums, because the
 * rounding of a sum grows with the number of its terms. */
enum { STREAM_DEPTH = 8192 };

/* Whether a chunk sums up in memory of its own. Rows of a result that threads add to side by side, time
 * and again, share lines at the borders, and those that a processor loads ahead. */
static int sums_apart(const hwkit_gemm *g, int turned)
{
    return g->k > STREAM_DEPTH || (g->m > 1 && (turned || (g->threads > 1 && g->k > STREAM_DEEP)));
}

/* Elements from row to row there. */
static int64_t sums_row(const hwkit_gemm *g, int size)
{
    return hwkit_odd_lines(hwkit_min(g->nc, g->n), size);
}

/* to = a b over the depth [k0, k1), for columns [n0, n1), of which `to` has the first */
static void stream_part(const product *x, char *to, int64_t row, int64_t k0, int64_t k1, int64_t n0,
                        int64_t n1)
{
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    for (int64_t k = k0; k < k1; k += STREAM_DEEP) /* still in the cache for all of a */
        for (int64_t i = 0; i < g->m; i += STREAM_ROWS)
            p->table->stream(x->a + (i * g->k + k) * p->size, g->k,
                             x->b + (k * g->n + n0) * p->size, g->n, to + i * row * p->size, row,
                             (int)hwkit_min(STREAM_ROWS, g->m - i), n1 - n0,
                             (int)hwkit_min(STREAM_DEEP, k1 - k), k > k0);
}

static void finish_rows(const product *x, char *c, int64_t row, const hwkit_epilogue *e, int64_t n0,
                        int64_t n1)
{
    for (int64_t i = 0; i < x->p->g.m; i++)
        x->p->table->finish(c + i * row * x->p->size, row, 1, n1 - n0, e, i, n0);
}

/* Columns [n0, n1) of C^T become rows of C. */
static void turn_back(const product *x, const char *from, int64_t row, int64_t n0, int64_t n1)
{
    const plan *p = x->p;
    const int64_t columns = p->g.m;
    char *rows = x->out + n0 * columns * p->size;
    if (columns > 1)
        p->table->transpose(rows, columns, from, row, n1 - n0, columns);
    else if (rows != from)
        memcpy(rows, from, (size_t)((n1 - n0) * p->size));
    if (x->epilogue)
        p->table->finish(rows, columns, (int)(n1 - n0), columns, x->epilogue, n0, 0);
}

static void stream_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    const int64_t n0 = chunk * g->nc, n1 = hwkit_min(n0 + g->nc, g->n), size = p->size;
    const int apart = sums_apart(g, p->turned);
    const int64_t row = apart ? sums_row(g, p->size) : g->n, bytes = g->m * row * size;
    char *out = x->out + n0 * size, *to = out;
    if (apart && !(to = hwkit_scratch(HWKIT_SCRATCH_THREAD, bytes * (g->k > STREAM_DEPTH ? 2 : 1)))) {
        x->failed = 1;
        return;
    }
    stream_part(x, to, row, 0, hwkit_min(STREAM_DEPTH, g->k), n0, n1);
    for (int64_t k = STREAM_DEPTH; k < g->k; k += STREAM_DEPTH) {
        const hwkit_epilogue add = {.alpha = 1, .beta = 1, .addend = to + bytes, .out = to};
        stream_part(x, to + bytes, row, k, hwkit_min(k + STREAM_DEPTH, g->k), n0, n1);
        finish_rows(x, to, row, &add, 0, n1 - n0);
    }
    if (p->turned) {
        turn_back(x, to, row, n0, n1);
        return;
    }
    for (int64_t i = 0; apart && i < g->m; i++)
        memcpy(out + i * g->n * size, to + i * row * size, (size_t)((n1 - n0) * size));
    if (x->epilogue)
        finish_rows(x, out, g->n, x->epilogue, n0, n1);
}

/* ---- turned ------------------------------------------------------------------------------------ */

static int64_t turned_a_bytes(const plan *p)
{
    return p->turns_a ? hwkit_round_up(p->g.m * p->g.k * p->size, 64) : 0;
}

static int64_t turned_b_columns(const plan *p)
{
    return !p->turns_b ? 0 : p->turned ? p->g.m : p->g.n;
}

static int64_t turning_bytes(const plan *p)
{
    return turned_a_bytes(p) + turned_b_columns(p) * p->g.k * p->size;
}

/* An operand of `columns` columns and k rows, transposed. */
static const char *turn(const plan *p, char *to, const char *from, int64_t columns)
{
    p->table->transpose(to, p->g.k, from, columns, columns, p->g.k);
    return to;
}

/* Take the operands as the loops read them; 0 if memory is short. */
static int turn_operands(const plan *p, product *x)
{
    const int64_t bytes = turning_bytes(p);
    char *to = NULL;
    if (bytes && !(to = hwkit_scratch(HWKIT_SCRATCH_SHARED, bytes)))
        return 0;
    if (p->turns_a)
        x->a = turn(p, to, x->a, p->g.m);
    if (p->turns_b)
        x->b = turn(p, to + turned_a_bytes(p), x->b, turned_b_columns(p));
    if (p->turned) {
        const char *a = x->a;
        x->a = x->b;
        x->b = a;
    }
    return 1;
}

/* Choose what is transposed. Of a transposed A, the larger side of the result should be what vectors
 * run along: streams take the transposed result where that is its rows. */
static void plan_turns(plan *p)
{
    hwkit_gemm *g = &p->g;
    const int dot = g->algorithm == HWKIT_GEMM_DOT, stream = g->algorithm == HWKIT_GEMM_STREAM;
    p->turned = stream && g->transpose_a && (g->transpose_b || g->m >= g->n);
    p->turns_a = (dot || stream || g->algorithm == HWKIT_GEMM_UNPACKED) && g->transpose_a && !p->turned;
    p->turns_b = (dot || (p->turned && g->n > 1)) && !g->transpose_b;
    if (p->turned) {
        const int64_t rows = g->m;
        g->m = g->n;
        g->n = rows;
    }
}

/* ---- narrow ------------------------------------------------------------------------------------ */

static void narrow_chunk(void *ctx, int64_t chunk)
{
    enum { ROWS = 4 };
    const product *x = ctx;
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    const int width = hwkit_narrow_width(g->storage, p->kernels->vl);
    const int64_t n0 = chunk * g->nc, n1 = hwkit_min(n0 + g->nc, g->n);
    const int64_t bytes = hwkit_narrow_bytes(g->storage, p->kernels->vl, g->k);
    for (int64_t j = n0; j < n1; j += width) /* a panel stays in the second cache for all rows */
        for (int64_t i = 0; i < g->m; i += ROWS)
            p->table->narrow[g->storage](x->a + i * g->k * p->size, g->k,
                                         x->panels + j / width * bytes,
                                         x->out + (i * g->n + j) * p->size, g->n,
                                         (int)hwkit_min(ROWS, g->m - i),
                                         (int)hwkit_min(width, n1 - j), g->k);
    if (x->epilogue)
        finish_rows(x, x->out + n0 * p->size, g->n, x->epilogue, n0, n1);
}

/* b as panels of one storage, or none where there is no memory or, as `fits` says, no room for a value. */
static char *narrow_panels(plan *p, const char *b, int *fits)
{
    hwkit_gemm *g = &p->g;
    const int64_t count = g->b_shared ? 1 : g->batch;
    hwkit_narrow_source source = {.ld = p->ldb, .transposed = g->transpose_b, .columns = g->n,
                                  .depth = g->k, .vl = p->kernels->vl};
    const int width = hwkit_narrow_width(g->storage, source.vl);
    p->panels_bytes = hwkit_round_up(hwkit_parts(g->n, width) *
                                         hwkit_narrow_bytes(g->storage, source.vl, g->k), 64);
    char *panels = hwkit_alloc(count * p->panels_bytes);
    *fits = 1;
    for (int64_t i = 0; panels && *fits && i < count; i++) {
        source.b = b + i * g->k * g->n * p->size;
        *fits = hwkit_narrow_pack(g->storage, panels + i * p->panels_bytes, &source, g->threads);
    }
    if (*fits)
        return panels;
    hwkit_free(panels);
    return NULL;
}

static void *narrow_whole(plan *p, const char *b)
{
    hwkit_gemm *g = &p->g;
    int fits;
    char *panels = narrow_panels(p, b, &fits);
    if (!fits) {
        g->storage = hwkit_narrow_instead(g->storage);
        panels = narrow_panels(p, b, &fits);
    }
    g->nc = hwkit_round_up(g->nc, hwkit_narrow_width(g->storage, p->kernels->vl));
    return panels;
}

/* ---- runs -------------------------------------------------------------------------------------- */

typedef struct {
    const plan *p;
    const void *operands[KINDS];
    char *out;
    _Atomic int failed;
} batch;

static int run_one(const plan *p, const void *const *operands, char *out, int64_t index)
{
    const hwkit_gemm *g = &p->g;
    const int64_t at = index * g->m * g->n * p->size;
    const int64_t a = (p->turned ? g->n : g->m) * g->k, b = (p->turned ? g->m : g->n) * g->k;
    hwkit_epilogue e = {.act = g->act, .alpha = g->alpha, .beta = g->beta};
    product x = {.p = p, .out = out + at};
    x.a = hwkit_offset(operands[A], g->a_shared ? 0 : index * a * p->size);
    if (p->b_packed)
        x.panels = hwkit_offset(operands[B], g->b_shared ? 0 : index * p->panels_bytes);
    else
        x.b = hwkit_offset(operands[B], g->b_shared ? 0 : index * b * p->size);
    e.out = x.out;
    e.addend = hwkit_offset(operands[ADDEND], at);
    e.bias = operands[BIAS];
    e.residual = hwkit_offset(operands[RESIDUAL], at);
    const int any = e.alpha != 1 || e.addend || e.bias || e.residual || e.act.kind != HWKIT_IDENTITY;
    x.epilogue = any ? &e : NULL;
    const double nanoseconds = 1e9 * p->base.seconds / (double)g->batch;
    if (g->algorithm == HWKIT_GEMM_PACKED)
        return packed_product(&x);
    if (g->algorithm == HWKIT_GEMM_TILES)
        return hwkit_amx_product(&p->amx, x.a, x.b, x.panels, x.out, x.epilogue);
    if (!turn_operands(p, &x))
        return HWKIT_NO_MEMORY;
    if (g->algorithm == HWKIT_GEMM_UNPACKED)
        hwkit_parallel_work(hwkit_parts(g->m, g->mc) * hwkit_parts(g->n, g->nc), unpacked_chunk, &x,
                            g->threads, nanoseconds);
    else {
        const int dot = g->algorithm == HWKIT_GEMM_DOT || (g->transpose_b && !p->turned);
        const int64_t down = dot && !x.panels ? hwkit_parts(g->m, dot_rows(g)) : 1;
        hwkit_parallel_work(hwkit_parts(g->n, g->nc) * down,
                            x.panels ? narrow_chunk : dot ? dot_chunk : stream_chunk, &x,
                            g->threads, nanoseconds);
    }
    return x.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static void batch_chunk(void *ctx, int64_t chunk)
{
    batch *b = ctx;
    if (run_one(b->p, b->operands, b->out, chunk) != HWKIT_OK)
        b->failed = 1;
}

static int run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    const hwkit_gemm *g = &p->g;
    batch b = {.p = p, .out = out};
    hwkit_bind(&p->operands, KINDS, operands, b.operands);
    if (g->batch >= 2 * (int64_t)g->threads && g->threads > 1) {
        /* whole products for each thread: what they run in parallel inside runs inline */
        hwkit_parallel_work(g->batch, batch_chunk, &b, g->threads, 1e9 * base->seconds);
        return b.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
    }
    for (int64_t i = 0; i < g->batch; i++)
        if (run_one(p, b.operands, out, i) != HWKIT_OK)
            return HWKIT_NO_MEMORY;
    return HWKIT_OK;
}

static void destroy(hwkit_plan *base)
{
    plan *p = (plan *)base;
    hwkit_release(&p->operands);
    free(p);
}

static void *pack_whole(const plan *p, const char *b)
{
    const hwkit_gemm *g = &p->g;
    const int64_t count = g->b_shared ? 1 : g->batch;
    char *panels = hwkit_alloc(count * p->panels_bytes);
    int failed = 0;
    for (int64_t i = 0; panels && i < count; i++) {
        const char *from = b + i * g->k * g->n * p->size;
        char *to = panels + i * p->panels_bytes;
        if (g->algorithm == HWKIT_GEMM_TILES)
            failed |= hwkit_amx_pack(&p->amx, to, from) != HWKIT_OK;
        else
            hwkit_pack_panels(p->kernels, p->size, to, from, p->ldb, g->transpose_b, g->n, g->k,
                              p->width, 0, hwkit_parts(g->n, p->width));
    }
    if (!failed)
        return panels;
    hwkit_free(panels);
    return NULL;
}

/* Keep B in panels, as far as the algorithm has some; 0 if memory is short. */
static int pack_b(plan *p, const void *b)
{
    hwkit_gemm *g = &p->g;
    void *panels = g->algorithm == HWKIT_GEMM_NARROW ? narrow_whole(p, b) : pack_whole(p, b);
    p->b_packed = 1;
    if (g->algorithm == HWKIT_GEMM_TILES)
        p->base.workspace = hwkit_amx_workspace(&p->amx, 1);
    return hwkit_keep(&p->operands, B, panels, (g->b_shared ? 1 : g->batch) * p->panels_bytes);
}

static hwkit_plan *prepack(const hwkit_plan *base, const hwkit_constants *constants)
{
    const plan *old = (const plan *)base;
    const int algorithm = old->g.algorithm;
    const int panels = algorithm == HWKIT_GEMM_PACKED || algorithm == HWKIT_GEMM_TILES ||
                       algorithm == HWKIT_GEMM_NARROW;
    const void *b = panels ? hwkit_constant(&old->operands, constants, B) : NULL;
    plan *p = malloc(sizeof *p);
    if (!p)
        return NULL;
    *p = *old;
    if (hwkit_hold(&p->operands, &old->operands, constants, b ? B : -1) && (!b || pack_b(p, b)))
        return &p->base;
    destroy(&p->base);
    return NULL;
}

static void plan_tiles(plan *p)
{
    const hwkit_gemm *g = &p->g;
    p->size = g->way.half ? 2 : 4;
    p->amx = (hwkit_amx_gemm){
        .maker = hwkit_amx_maker_of(&g->way), .m = g->m, .n = g->n, .k = g->k,
        .lda = p->lda, .ldb = p->ldb, .transpose_a = g->transpose_a, .transpose_b = g->transpose_b,
        .kc = g->kc, .mc = g->mc, .nc = g->nc, .threads = g->threads};
    hwkit_amx_gemm_even(&p->amx);
    p->panels_bytes = hwkit_amx_packed_bytes(&p->amx);
    p->base.workspace = hwkit_amx_workspace(&p->amx, 0);
}

hwkit_plan *hwkit_gemm_plan(const hwkit_gemm *given)
{
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    hwkit_gemm *g = &p->g;
    *g = *given;
    if (g->batch > 1 && g->b_shared && !g->a_shared && !g->transpose_a) {
        g->m *= g->batch; /* one tall product */
        g->batch = 1;
    }
    if (g->algorithm == HWKIT_GEMM_STRASSEN) {
        hwkit_plan *found = hwkit_strassen_plan(g);
        free(p);
        return found;
    }
    const hwkit_isa *isa = hwkit_isa_get();
    p->kernels = g->is_double ? &isa->f64 : &isa->f32;
    p->table = p->kernels->gemm;
    p->size = g->is_double ? 8 : 4;
    p->width = g->vectors * p->kernels->vl;
    plan_turns(p);
    p->lda = g->transpose_a ? g->m : g->k;
    p->ldb = g->transpose_b ? g->k : g->n;
    p->panels_bytes = hwkit_round_up(
        hwkit_panels_bytes(g->n, g->k, p->width, p->kernels->vl, p->size), 64);
    if (g->algorithm == HWKIT_GEMM_TILES)
        plan_tiles(p);
    g->kc = hwkit_even(g->k, g->kc, 1);
    g->mc = hwkit_even(g->m, g->mc, g->rows);
    g->nc = hwkit_even(g->n, g->nc, p->width);
    p->operands = (hwkit_operands){
        .kinds = KINDS, .present = {1, 1, g->has_addend, g->has_bias, g->has_residual}};
    p->base.run = run;
    p->base.prepack = prepack;
    p->base.destroy = destroy;
    /* Of few rows, the time is that of reading B. */
    const double terms = (double)g->batch * (double)g->n * (double)g->k;
    const double reading = terms * p->size / NEAR_BYTES_PER_SECOND;
    p->base.seconds = hwkit_product_seconds((double)g->m * terms, p->kernels->vl);
    p->base.seconds = reading > p->base.seconds ? reading : p->base.seconds;
    if (g->algorithm == HWKIT_GEMM_PACKED) {
        p->base.workspace = hwkit_min(p->panels_bytes, PACK_BYTES);
        if (g->pack_a || g->transpose_a)
            p->base.workspace += g->threads * g->mc * g->kc * p->size;
    }
    p->base.workspace += turning_bytes(p);
    if (g->algorithm == HWKIT_GEMM_STREAM && sums_apart(g, p->turned))
        p->base.workspace += g->threads * g->m * sums_row(g, p->size) * p->size *
                             (g->k > STREAM_DEPTH ? 2 : 1);
    return &p->base;
}
