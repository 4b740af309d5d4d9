/* Blocking loops of Strassen's products, compiled once; see gemm.c for how types are handled. */
#include "strassen.h"

#include "conv2d.h"
#include "gemm.h"
#include "isa.h"
#include "layout.h"
#include "threads.h"

#include <stdlib.h>
#include <string.h>

/* Packing all of B needs twice its memory; beyond this it is done in parts. */
enum { PACK_BYTES = 64 << 20 };

enum { A, B, ADDEND, BIAS, RESIDUAL, KINDS };

typedef struct {
    hwkit_plan base;
    hwkit_gemm g;
    hwkit_conv2d window;     /* gather: rows of A are what the taps of a pixel see */
    int gather;
    int is_turned;           /* nchw: channels come last in copies of the image and of the result */
    hwkit_turned turned;
    const hwkit_kernels *kernels;
    const hwkit_gemm_kernels *table;
    const hwkit_strassen_kernels *strassen;
    int size, width;         /* bytes of an element, columns of a panel */
    int64_t depth, rest;     /* of the halves of the depth; rest <= depth */
    int64_t padded;          /* depth in whole vectors */
    int64_t left;            /* columns of the left half, at least those of the right one */
    int64_t blocks;          /* of rows, of `mc` or one less: threads that share them end together */
    int64_t pair_bytes;      /* from one pair of panels to the next */
    int64_t packed_bytes;    /* of one B */
    int64_t step;            /* elements from row to row of the sums of A */
    int64_t gathered;        /* the same of the rows that are gathered */
    hwkit_operands operands; /* B is held packed */
} plan;

/* One product out of the batch. */
typedef struct {
    const plan *p;
    const char *a, *b;
    const char *pairs;     /* of columns [column, column + columns) of the left half */
    char *out;
    int64_t lda, ldc;
    int64_t column, columns;
    const hwkit_epilogue *epilogue;
    char *pack_to;
    int64_t pack_share;    /* pairs of a chunk when packing */
    _Atomic int failed;
} product;

/* ---- packing ----------------------------------------------------------------------------------- */

/* `count` columns of B from (k, column) on, `rows` deep, to a panel; the rest of it is 0. */
static void pack_quarter(const plan *p, char *to, const char *b, int64_t k, int64_t rows,
                         int64_t column, int64_t count, int wide)
{
    const int64_t ld = p->g.transpose_b ? p->g.k : p->g.n;
    memset(to + rows * wide * p->size, 0, (size_t)((p->depth - rows) * wide * p->size));
    if (count <= 0 || !rows)
        memset(to, 0, (size_t)(rows * wide * p->size));
    else if (p->g.transpose_b)
        p->table->pack_transposed(to, b + (column * ld + k) * p->size, ld, rows, (int)count, wide);
    else
        p->table->pack(to, wide, b + (k * ld + column) * p->size, ld, 1, rows, count, wide - count);
}

/* The pair of panels from column j of the left half on. */
static void pack_pair(const plan *p, char *to, const char *b, int64_t j)
{
    const int64_t count = hwkit_min(p->width, p->left - j);
    const int64_t across = hwkit_min(count, p->g.n - p->left - j);
    const int wide = (int)hwkit_round_up(count, p->kernels->vl);
    const int64_t panel = p->depth * wide * p->size;
    pack_quarter(p, to + HWKIT_STRASSEN_B11 * panel, b, 0, p->depth, j, count, wide);
    pack_quarter(p, to + HWKIT_STRASSEN_B21 * panel, b, p->depth, p->rest, j, count, wide);
    pack_quarter(p, to + HWKIT_STRASSEN_B12 * panel, b, 0, p->depth, p->left + j, across, wide);
    pack_quarter(p, to + HWKIT_STRASSEN_B22 * panel, b, p->depth, p->rest, p->left + j, across, wide);
    p->strassen->panels(to, p->depth, wide, (int)hwkit_max(across, 0),
                        to + HWKIT_STRASSEN_PANELS * panel, p->padded);
}

static void pack_chunk(void *ctx, int64_t chunk)
{
    const product *x = ctx;
    const plan *p = x->p;
    const int64_t from = chunk * x->pack_share, all = hwkit_parts(x->columns, p->width);
    for (int64_t i = from; i < hwkit_min(from + x->pack_share, all); i++)
        pack_pair(p, x->pack_to + i * p->pair_bytes, x->b, x->column + i * p->width);
}

static int64_t bytes_of_pairs(const plan *p, int64_t columns)
{
    return hwkit_parts(columns, p->width) * p->pair_bytes;
}

static void pack(product *x, char *to, int threads)
{
    const plan *p = x->p;
    const int64_t pairs = hwkit_parts(x->columns, p->width);
    x->pack_to = to;
    x->pack_share = hwkit_parts(pairs, 4 * (int64_t)threads);
    hwkit_parallel_work(hwkit_parts(pairs, x->pack_share), pack_chunk, x, threads,
                        2 * x->columns * p->g.k);
}

/* ---- products ---------------------------------------------------------------------------------- */

/* What one thread needs for a chunk. */
typedef struct {
    char *gathered; /* rows of A */
    char *sums;     /* S1 .. S4, each [rows of a half][step] */
    char *norms;    /* of the halves of A along the depth */
    char *products; /* [7][rows of a half][width] */
} space;

enum { GATHERED, SUMS, NORMS, PRODUCTS, SPACES };

static int64_t lay_out(const plan *p, int64_t start[SPACES])
{
    const int64_t half = hwkit_parts(p->g.mc, 2);
    const int64_t bytes[SPACES] = {
        [GATHERED] = p->gather ? p->g.mc * p->gathered * p->size : 0,
        [SUMS] = 4 * half * p->step * p->size,
        [NORMS] = 2 * p->padded * p->size,
        [PRODUCTS] = HWKIT_STRASSEN_PRODUCTS * half * p->width * p->size,
    };
    int64_t at = 0;
    for (int i = 0; i < SPACES; i++) {
        start[i] = at;
        at += hwkit_round_up(bytes[i], 64);
    }
    return at;
}

/* The first row of block `index`. */
static int64_t row_of(const plan *p, int64_t index) { return index * p->g.m / p->blocks; }

/* A block: some rows in two halves, which share the row in the middle if there is one. */
typedef struct {
    int64_t from, half, down;
    const char *a; /* row `from` */
    int64_t lda;
} block;

/* What row r of taps sees from pixel (y, x) of an image on, without padding the image. */
static char *gather_taps(const plan *p, char *to, const char *image, int64_t y, int64_t x)
{
    const hwkit_conv2d *c = &p->window;
    const int64_t pixel = c->c * p->size, all = c->s * pixel;
    if (y < 0 || y >= c->h) {
        memset(to, 0, (size_t)all);
        return to + all;
    }
    image += y * c->w * pixel;
    if (c->dilation_x == 1 && x >= 0 && x + c->s <= c->w) {
        memcpy(to, image + x * pixel, (size_t)all);
        return to + all;
    }
    for (int64_t s = 0; s < c->s; s++, x += c->dilation_x, to += pixel)
        if (x < 0 || x >= c->w)
            memset(to, 0, (size_t)pixel);
        else
            memcpy(to, image + x * pixel, (size_t)pixel);
    return to;
}

/* Rows [from, from + count) of A. */
static void gather(const product *x, char *to, int64_t from, int64_t count)
{
    const plan *p = x->p;
    const hwkit_conv2d *c = &p->window;
    for (int64_t i = from; i < from + count; i++, to += p->gathered * p->size) {
        const char *image = x->a + i / c->q / c->p * c->h * c->w * c->c * p->size;
        char *at = to;
        for (int64_t r = 0; r < c->r; r++)
            at = gather_taps(p, at, image,
                             i / c->q % c->p * c->stride_y - c->top + r * c->dilation_y,
                             i % c->q * c->stride_x - c->left);
    }
}

/* Left side of a product: row i begins at a + i * step. */
typedef struct {
    const char *a;
    int64_t step, depth;
} side;

static void find_sides(const plan *p, const space *s, const block *b,
                       side sides[HWKIT_STRASSEN_PRODUCTS])
{
    const char *upper = b->a, *lower = upper + b->down * b->lda * p->size;
    const int64_t half = p->depth * p->size, sum = b->half * p->step * p->size;
    sides[0] = (side){upper, b->lda, p->depth};
    sides[1] = (side){upper + half, b->lda, p->rest};
    for (int i = 0; i < 4; i++) {
        static const int of[4] = {4, 2, 3, 5}; /* S1 .. S4 */
        sides[of[i]] = (side){s->sums + i * sum, p->step, p->depth};
    }
    sides[6] = (side){lower + half, b->lda, p->rest};
}

/* Asks for rows [i, i + count) of a half of the block of A that comes next: of each row the part that
 * is this pair's share. */
static void ask(const product *x, const block *b, int64_t i, int64_t count, int lower, int64_t j)
{
    const plan *p = x->p;
    const int64_t bytes = p->g.k * p->size, pairs = hwkit_parts(p->left, p->width);
    const int64_t from = bytes * (j / p->width) / pairs, to = bytes * (j / p->width + 1) / pairs;
    const int64_t first = b->from + b->half + b->down + (lower ? b->down : 0) + i;
    for (int64_t r = first; r < hwkit_min(first + count, p->g.m); r++)
        for (int64_t byte = from; byte < to; byte += 64)
            __builtin_prefetch(x->a + r * x->lda * p->size + byte, 0, 2);
}

/* Product `number` of a block, to [rows of a half][wide]. The first four ask for a quarter each of
 * what the results go to, and of the residual; the next two for what follows this block. */
static void one_product(const product *x, const block *b, int number, const side *of,
                        const char *panel, char *to, int wide, int64_t j)
{
    const plan *p = x->p;
    const int64_t deep = hwkit_even(of->depth, p->g.kc, 1);
    const int64_t corner =
        ((b->from + number / 2 * b->down) * x->ldc + number % 2 * p->left + j) * p->size;
    hwkit_tile t = {.step = of->step, .segments = 1, .ldb = wide, .ldc = wide, .columns = wide,
                    .ldask = x->ldc};
    for (t.skip = 0; t.skip < of->depth; t.skip += deep) {
        t.b = panel + t.skip * wide * p->size;
        t.depth = hwkit_min(deep, of->depth - t.skip);
        t.accumulate = t.skip > 0;
        t.next = b->half > p->g.rows ? panel + (t.skip + t.depth) * wide * p->size : NULL;
        t.passed = 0;
        int count;
        const int asks = number >= 4 && number < 6 && !t.skip && !p->gather;
        for (int64_t i = 0; i < b->half; i += count * t.tiles, t.passed += (int)t.tiles) {
            count = hwkit_tile_rows(b->half - i, p->g.rows);
            t.tiles = asks ? 1 : hwkit_tiles_alike(b->half - i, p->g.rows);
            t.a = of->a + i * of->step * p->size;
            if (number < 4) {
                t.ask = x->out + corner + i * x->ldc * p->size;
                t.ask_too = hwkit_offset(x->epilogue->residual, corner + i * x->ldc * p->size);
            } else if (asks)
                ask(x, b, i, count, number == 5, j);
            t.c = to + i * wide * p->size;
            p->table->by_step[2 * wide / p->kernels->vl - 1][count - 1](&t);
        }
    }
}

static void seven_products(const product *x, const space *s, const block *b, const char *pair,
                           int64_t j, int64_t left, int64_t right)
{
    const plan *p = x->p;
    const int wide = (int)hwkit_round_up(left, p->kernels->vl);
    side sides[HWKIT_STRASSEN_PRODUCTS];
    find_sides(p, s, b, sides);
    for (int number = 0; number < HWKIT_STRASSEN_PRODUCTS; number++)
        one_product(x, b, number, &sides[number], pair + number * p->depth * wide * p->size,
                    s->products + number * b->half * wide * p->size, wide, j);
    const hwkit_strassen_results results = {
        .products = s->products, .rows = b->half, .ld = wide,
        .c = x->out + (b->from * x->ldc + j) * p->size, .ldc = x->ldc,
        .down = b->down, .across = p->left, .left = left, .right = right,
        .epilogue = x->epilogue, .column = j};
    p->strassen->finish(&results);
}

/* One quarter by plain sums. */
static void plain_quarter(const product *x, const block *b, const char *pair, int64_t j,
                          int64_t columns, int wide, int quarter)
{
    static const int panels[2][2] = {{HWKIT_STRASSEN_B11, HWKIT_STRASSEN_B21},
                                     {HWKIT_STRASSEN_B12, HWKIT_STRASSEN_B22}};
    const plan *p = x->p;
    const int64_t row = b->from + quarter / 2 * b->down, column = j + quarter % 2 * p->left;
    const int64_t deep = hwkit_even(p->depth, p->g.kc, 1);
    hwkit_tile t = {.step = b->lda, .segments = 1, .ldb = wide, .ldc = x->ldc, .column = column};
    t.columns = (int)columns;
    for (t.skip = 0; t.skip < p->g.k && columns > 0; t.skip += t.depth) {
        const int second = t.skip >= p->depth;
        const int64_t k = second ? t.skip - p->depth : t.skip;
        t.depth = hwkit_min(deep, (second ? p->rest : p->depth) - k);
        t.b = pair + (panels[quarter % 2][second] * p->depth + k) * wide * p->size;
        t.accumulate = t.skip > 0;
        t.epilogue = t.skip + t.depth == p->g.k ? x->epilogue : NULL;
        int count;
        for (int64_t i = row; i < row + b->half; i += count * t.tiles) {
            count = hwkit_tile_rows(row + b->half - i, p->g.rows);
            t.tiles = hwkit_tiles_alike(row + b->half - i, p->g.rows);
            t.a = b->a + (i - b->from) * b->lda * p->size;
            t.c = x->out + (i * x->ldc + column) * p->size;
            t.row = i;
            p->table->by_step[hwkit_halves(t.columns, p->kernels->vl) - 1][count - 1](&t);
        }
    }
}

static void product_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const hwkit_gemm *g = &p->g;
    const int64_t across = hwkit_parts(x->columns, g->nc);
    const int64_t n0 = chunk % across * g->nc, n1 = hwkit_min(n0 + g->nc, x->columns);
    const int64_t from = row_of(p, chunk / across), count = row_of(p, chunk / across + 1) - from;
    block b = {from, hwkit_parts(count, 2), count / 2, x->a + from * x->lda * p->size, x->lda};
    int64_t start[SPACES];
    char *base = hwkit_scratch(HWKIT_SCRATCH_THREAD, lay_out(p, start));
    if (!base) {
        x->failed = 1;
        return;
    }
    const space s = {base + start[GATHERED], base + start[SUMS], base + start[NORMS],
                     base + start[PRODUCTS]};
    if (p->gather) {
        gather(x, s.gathered, from, count);
        b.a = s.gathered;
        b.lda = p->gathered;
    }
    memset(s.norms, 0, (size_t)(2 * p->padded * p->size));
    const hwkit_strassen_rows rows = {
        .upper = b.a, .lda = b.lda, .down = b.down, .rows = b.half, .depth = p->depth,
        .rest = p->rest, .sums = s.sums, .part = b.half * p->step, .step = p->step,
        .norms = s.norms, .padded = p->padded};
    const int alike = p->strassen->sums(&rows);
    for (int64_t j = n0; j < n1; j += p->width) {
        const char *pair = x->pairs + j / p->width * p->pair_bytes;
        const int64_t at = x->column + j, left = hwkit_min(p->width, p->left - at);
        const int64_t right = hwkit_max(hwkit_min(left, g->n - p->left - at), 0);
        const int wide = (int)hwkit_round_up(left, p->kernels->vl);
        const char *norms = pair + HWKIT_STRASSEN_PANELS * p->depth * wide * p->size;
        if (alike && p->strassen->trusted(s.norms, norms, p->padded))
            seven_products(x, &s, &b, pair, at, left, right);
        else
            for (int quarter = 0; quarter < 4; quarter++)
                plain_quarter(x, &b, pair, at, quarter % 2 ? right : left, wide, quarter);
    }
}

/* ---- runs -------------------------------------------------------------------------------------- */

/* Columns of the left half that are packed at once. */
static int64_t part_columns(const plan *p)
{
    const int64_t pairs = hwkit_max(PACK_BYTES / p->pair_bytes, 1);
    return hwkit_min(p->left, pairs * p->width);
}

static int run_one(const plan *p, const void *const *operands, char *out, int64_t index,
                   int64_t lda, int64_t ldc)
{
    const hwkit_gemm *g = &p->g;
    const int64_t at = index * g->m * g->n * p->size;
    const int held = p->operands.held[B] != NULL;
    hwkit_epilogue e = {.act = g->act, .alpha = g->alpha, .beta = g->beta, .out = out + at};
    product x = {.p = p, .out = out + at, .epilogue = &e, .lda = lda, .ldc = ldc};
    x.a = hwkit_offset(operands[A], g->a_shared ? 0 : index * g->m * g->k * p->size);
    const int64_t b_bytes = held ? p->packed_bytes : g->k * g->n * p->size;
    x.b = hwkit_offset(operands[B], g->b_shared ? 0 : index * b_bytes);
    e.addend = hwkit_offset(operands[ADDEND], at);
    e.bias = operands[BIAS];
    e.residual = hwkit_offset(operands[RESIDUAL], at);
    const int64_t step = held ? p->left : part_columns(p);
    char *packed = NULL;
    if (!held && !(packed = hwkit_scratch(HWKIT_SCRATCH_SHARED, bytes_of_pairs(p, step))))
        return HWKIT_NO_MEMORY;
    x.pairs = held ? x.b : packed;
    for (x.column = 0; x.column < p->left; x.column += step) {
        x.columns = hwkit_min(step, p->left - x.column);
        if (!held)
            pack(&x, packed, g->threads);
        hwkit_parallel_work(p->blocks * hwkit_parts(x.columns, g->nc), product_chunk,
                            &x, g->threads, 1e9 * p->base.seconds / (double)g->batch);
    }
    return x.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static int run_apart(const hwkit_plan *base, const void *const *operands, void *out, int64_t x_row,
                     int64_t out_row)
{
    const plan *p = (const plan *)base;
    const void *all[KINDS];
    hwkit_bind(&p->operands, KINDS, operands, all);
    for (int64_t i = 0; i < p->g.batch; i++)
        if (run_one(p, all, out, i, x_row, out_row) != HWKIT_OK)
            return HWKIT_NO_MEMORY;
    return HWKIT_OK;
}

static int run_turned(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    const hwkit_turned *t = &p->turned;
    const void *all[KINDS];
    hwkit_bind(&p->operands, KINDS, operands, all);
    char *products = hwkit_turn_in(t, &all[A], &all[RESIDUAL]);
    if (!products || run_one(p, all, products, 0, t->image.row, t->result.row) != HWKIT_OK)
        return HWKIT_NO_MEMORY;
    hwkit_to_channels_first(&t->result, out, products);
    return HWKIT_OK;
}

static int run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const hwkit_gemm *g = &((const plan *)base)->g;
    return run_apart(base, operands, out, g->k, g->n);
}

static void destroy(hwkit_plan *base)
{
    plan *p = (plan *)base;
    hwkit_release(&p->operands);
    free(p);
}

static int pack_b(plan *p, const char *b)
{
    const int64_t count = p->g.b_shared ? 1 : p->g.batch;
    char *packed = hwkit_alloc(count * p->packed_bytes);
    for (int64_t i = 0; packed && i < count; i++) {
        product x = {.p = p, .b = b + i * p->g.k * p->g.n * p->size, .columns = p->left};
        pack(&x, packed + i * p->packed_bytes, p->g.threads);
    }
    return hwkit_keep(&p->operands, B, packed, count * p->packed_bytes);
}

static hwkit_plan *prepack(const hwkit_plan *base, const hwkit_constants *constants)
{
    const plan *old = (const plan *)base;
    const void *b = hwkit_constant(&old->operands, constants, B);
    plan *p = malloc(sizeof *p);
    if (!p)
        return NULL;
    *p = *old;
    if (hwkit_hold(&p->operands, &old->operands, constants, b ? B : -1) && (!b || pack_b(p, b)))
        return &p->base;
    destroy(&p->base);
    return NULL;
}

static void set_sizes(plan *p)
{
    hwkit_gemm *g = &p->g;
    const hwkit_isa *isa = hwkit_isa_get();
    p->kernels = g->is_double ? &isa->f64 : &isa->f32;
    p->table = p->kernels->gemm;
    p->strassen = p->kernels->strassen;
    p->size = g->is_double ? 8 : 4;
    p->width = g->vectors * p->kernels->vl;
    p->depth = hwkit_parts(g->k, 2);
    p->rest = g->k - p->depth;
    p->padded = hwkit_round_up(p->depth, p->kernels->vl);
    p->left = hwkit_min(hwkit_round_up(hwkit_parts(g->n, 2), p->kernels->vl), g->n);
    p->pair_bytes = hwkit_round_up((HWKIT_STRASSEN_PANELS * p->depth * p->width + 2 * p->padded) *
                                       p->size, 64);
    p->packed_bytes = bytes_of_pairs(p, p->left);
    p->step = hwkit_odd_lines(p->padded, p->size);
    p->gathered = hwkit_odd_lines(g->k, p->size);
    p->blocks = hwkit_blocks(g->m, g->mc, g->threads);
    g->mc = hwkit_parts(g->m, p->blocks);
    g->nc = hwkit_even(p->left, hwkit_parts(g->nc, 2), p->width);
}

static int64_t workspace(const plan *p)
{
    int64_t start[SPACES];
    return bytes_of_pairs(p, part_columns(p)) + p->g.threads * lay_out(p, start) +
           (p->is_turned ? hwkit_turned_bytes(&p->turned) : 0);
}

hwkit_plan *hwkit_strassen_plan(const hwkit_gemm *g)
{
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->g = *g;
    set_sizes(p);
    p->operands = (hwkit_operands){
        .kinds = KINDS, .present = {1, 1, g->has_addend, g->has_bias, g->has_residual}};
    p->base.run = run;
    p->base.run_apart = run_apart;
    p->base.x_apart = g->batch == 1;
    /* An addend and a residual are laid out like the result. */
    p->base.out_apart = g->batch == 1 && !g->has_addend && !g->has_residual;
    p->base.prepack = prepack;
    p->base.destroy = destroy;
    p->base.seconds = 0.9 * hwkit_product_seconds((double)g->batch * (double)g->m * (double)g->n *
                                                      (double)g->k, p->kernels->vl);
    p->base.workspace = workspace(p);
    return &p->base;
}

hwkit_plan *hwkit_strassen_conv2d_plan(const hwkit_conv2d *c)
{
    const hwkit_gemm g = {
        .batch = 1, .m = c->n * c->p * c->q, .n = c->k, .k = c->r * c->s * c->c, .transpose_b = 1,
        .is_double = c->is_double, .alpha = 1, .has_bias = c->has_bias,
        .has_residual = c->has_residual, .act = c->act, .rows = c->rows, .vectors = c->vectors,
        .kc = c->kc, .mc = c->pixels, .nc = c->channels, .threads = c->threads};
    hwkit_plan *base = hwkit_strassen_plan(&g);
    if (!base)
        return NULL;
    plan *p = (plan *)base;
    p->window = *c;
    p->gather = c->r * c->s > 1 || c->stride_y > 1 || c->stride_x > 1 || c->p != c->h || c->q != c->w;
    p->base.x_apart = !p->gather;
    if (!c->nhwc) {
        const int64_t row = p->gather ? c->c : hwkit_odd_lines(c->c, p->size);
        p->is_turned = 1;
        p->turned = (hwkit_turned){
            .image = {p->size, c->n, c->c, c->h * c->w, row, c->threads},
            .result = {p->size, c->n, c->k, c->p * c->q,
                       hwkit_odd_lines(c->k, p->size), c->threads},
            .has_residual = c->has_residual};
        p->base.run = run_turned;
        p->base.x_apart = p->base.out_apart = 0;
    }
    p->base.workspace = workspace(p);
    return base;
}
