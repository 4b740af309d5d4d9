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

/* Rows [m0, m1) of A, depth [k0, k0 + depth), as panels of `rows`. */
static void pack_rows(const product *x, char *to, int64_t m0, int64_t m1, int64_t k0, int64_t depth)
{
    const plan *p = x->p;
    int count;
    for (int64_t i = m0; i < m1; i += count) {
        count = hwkit_tile_rows(m1 - i, p->g.rows);
        if (p->g.transpose_a)
            p->table->pack(to, count, x->a + (k0 * p->lda + i) * p->size, p->lda, 1, depth, count,
                           0);
        else
            p->table->pack_transposed(to, x->a + (i * p->lda + k0) * p->size, p->lda, depth, count,
                                      count);
        to += count * depth * p->size;
    }
}

/* One block: rows [m0, m1) by columns [n0, n1) of the packed part, over depth [k0, k0 + depth). The
 * panel of B stays in the first cache while the rows pass by. */
static void block(const product *x, const char *packed, int64_t m0, int64_t m1, int64_t n0,
                  int64_t n1, int64_t k0, int64_t depth)
{
    const plan *p = x->p;
    const int size = p->size, rows = p->g.rows;
    hwkit_tile t = {.step = p->lda, .segments = 1, .depth = depth, .ldc = p->g.n};
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
        for (int64_t i = m0; i < m1; i += count, t.passed++) {
            count = hwkit_tile_rows(m1 - i, rows);
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
            for (int64_t i = m0; i < m1; i += count) {
                count = hwkit_tile_rows(m1 - i, g->rows);
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

/* Depth that is summed up term by term; sums of deeper products are sums of such sums, because the
 * rounding of a sum grows with the number of its terms. */
enum { STREAM_DEPTH = 8192 };

/* to = a b over the depth [k0, k1), for columns [n0, n1); `to` is laid out like the result */
static void stream_part(const product *x, char *to, int64_t k0, int64_t k1, int64_t n0, int64_t n1)
{
    enum { DEEP = 8, ROWS = 4 };
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    for (int64_t k = k0; k < k1; k += DEEP) /* a few rows of b, still in the cache for all of a */
        for (int64_t i = 0; i < g->m; i += ROWS)
            p->table->stream(x->a + (i * g->k + k) * p->size, g->k,
                             x->b + (k * g->n + n0) * p->size, g->n,
                             to + (i * g->n + n0) * p->size, g->n,
                             (int)hwkit_min(ROWS, g->m - i), n1 - n0,
                             (int)hwkit_min(DEEP, k1 - k), k > k0);
}

static void finish_rows(const product *x, const hwkit_epilogue *e, int64_t n0, int64_t n1)
{
    const hwkit_gemm *g = &x->p->g;
    for (int64_t i = 0; i < g->m; i++)
        x->p->table->finish(x->out + (i * g->n + n0) * x->p->size, g->n, 1, n1 - n0, e, i, n0);
}

static void stream_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    const int64_t n0 = chunk * g->nc, n1 = hwkit_min(n0 + g->nc, g->n);
    stream_part(x, x->out, 0, hwkit_min(STREAM_DEPTH, g->k), n0, n1);
    if (g->k > STREAM_DEPTH) {
        char *part = hwkit_scratch(HWKIT_SCRATCH_THREAD, g->m * g->n * p->size);
        if (!part) {
            x->failed = 1;
            return;
        }
        const hwkit_epilogue add = {.alpha = 1, .beta = 1, .addend = part, .out = x->out};
        for (int64_t k = STREAM_DEPTH; k < g->k; k += STREAM_DEPTH) {
            stream_part(x, part, k, hwkit_min(k + STREAM_DEPTH, g->k), n0, n1);
            finish_rows(x, &add, n0, n1);
        }
    }
    if (x->epilogue)
        finish_rows(x, x->epilogue, n0, n1);
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
        finish_rows(x, x->epilogue, n0, n1);
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
    hwkit_epilogue e = {.act = g->act, .alpha = g->alpha, .beta = g->beta};
    product x = {.p = p, .out = out + at};
    x.a = hwkit_offset(operands[A], g->a_shared ? 0 : index * g->m * g->k * p->size);
    if (p->b_packed)
        x.panels = hwkit_offset(operands[B], g->b_shared ? 0 : index * p->panels_bytes);
    else
        x.b = hwkit_offset(operands[B], g->b_shared ? 0 : index * g->k * g->n * p->size);
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
    if (g->algorithm == HWKIT_GEMM_UNPACKED)
        hwkit_parallel_work(hwkit_parts(g->m, g->mc) * hwkit_parts(g->n, g->nc), unpacked_chunk, &x,
                            g->threads, nanoseconds);
    else {
        const int dot = g->algorithm == HWKIT_GEMM_DOT || g->transpose_b;
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
    if (g->algorithm == HWKIT_GEMM_STREAM && g->k > STREAM_DEPTH)
        p->base.workspace = g->threads * g->m * g->n * p->size;
    return &p->base;
}
