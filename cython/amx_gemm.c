/* Blocking loops of matrix products by tiles: C in blocks of 32 x 32, B in panels of 32 columns over the
 * whole depth, A split and packed by each thread for the rows and the depth it is at. */
#include "amx_gemm.h"

#include "gemm.h"
#include "half.h"
#include "run.h"
#include "threads.h"

#include <string.h>

enum { SIDE = HWKIT_AMX_SIDE, LINE = 64 };
/* Columns of B by which 32 rows of A are multiplied in turn. */
enum { WIDE = 2 * SIDE };
/* B that is not packed beforehand is packed in parts of about so many bytes. */
enum { PART_BYTES = 16 << 20 };

typedef struct {
    const hwkit_amx_gemm *g;
    const char *a, *b;
    char *out;
    char *packed;            /* columns [column, column + columns) */
    int64_t column, columns;
    const hwkit_epilogue *epilogue;
    _Atomic int failed;
} job;

void hwkit_amx_gemm_even(hwkit_amx_gemm *g)
{
    g->kc = g->maker.half ? hwkit_round_up(g->k, SIDE) : hwkit_even(g->k, g->kc, SIDE);
    g->mc = hwkit_even(g->m, g->mc, SIDE);
    g->nc = hwkit_even(g->n, g->nc, SIDE);
}

static int64_t blocks_of(const hwkit_amx_gemm *g)
{
    return hwkit_parts(g->k, g->kc);
}

/* Packed B: the ranges, [panel][block of depth], then the panels. */
static int64_t ranges_bytes(const hwkit_amx_gemm *g, int64_t columns)
{
    return hwkit_round_up(hwkit_parts(columns, SIDE) * blocks_of(g) *
                              (int64_t)sizeof(hwkit_amx_range), LINE);
}

static int64_t packed_bytes(const hwkit_amx_gemm *g, int64_t columns)
{
    return ranges_bytes(g, columns) +
           hwkit_parts(columns, SIDE) * hwkit_amx_panel_bytes(&g->maker, g->k);
}

int64_t hwkit_amx_packed_bytes(const hwkit_amx_gemm *g)
{
    return hwkit_round_up(packed_bytes(g, g->n), LINE);
}

static hwkit_amx_range *range_at(const hwkit_amx_gemm *g, char *packed, int64_t panel, int64_t index)
{
    return (hwkit_amx_range *)packed + panel * blocks_of(g) + index;
}

static hwkit_amx_panel panel_at(const hwkit_amx_gemm *g, char *packed, int64_t columns, int64_t panel,
                                int64_t index)
{
    const int64_t k0 = index * g->kc;
    return (hwkit_amx_panel){
        .data = packed + ranges_bytes(g, columns) +
                panel * hwkit_amx_panel_bytes(&g->maker, g->k) +
                hwkit_amx_panel_bytes(&g->maker, k0),
        .range = *range_at(g, packed, panel, index),
        .depth = hwkit_min(g->kc, g->k - k0)};
}

hwkit_amx_panel hwkit_amx_panel_at(const hwkit_amx_gemm *g, char *packed, int64_t panel,
                                   int64_t index)
{
    return panel_at(g, packed, g->n, panel, index);
}

/* ---- B ----------------------------------------------------------------------------------------- */

static int64_t turn_bytes(const hwkit_amx_gemm *g)
{
    return 2 * SIDE * g->kc * (int64_t)sizeof(float);
}

/* A panel of packed columns, of which there are `columns`; b is its first one. */
static void pack_panel(const hwkit_amx_gemm *g, char *packed, int64_t columns, int64_t panel,
                       const char *b, float *turn)
{
    const int count = (int)hwkit_min(SIDE, columns - panel * SIDE);
    for (int64_t i = 0; i < blocks_of(g); i++) {
        const int64_t at = i * g->kc * (g->transpose_b ? 1 : g->ldb);
        *range_at(g, packed, panel, i) = (hwkit_amx_range){0, 0};
        hwkit_amx_panel p = panel_at(g, packed, columns, panel, i);
        hwkit_amx_fill_b(&g->maker, &p, b + at * hwkit_amx_element(&g->maker), g->ldb, g->transpose_b,
                         count, p.depth, turn);
        *range_at(g, packed, panel, i) = p.range;
    }
}

void hwkit_amx_pack_panel(const hwkit_amx_gemm *g, void *packed, int64_t panel, const void *b,
                          float *turn)
{
    pack_panel(g, packed, g->n, panel, b, turn);
}

static void pack_chunk(void *ctx, int64_t panel)
{
    job *x = ctx;
    const hwkit_amx_gemm *g = x->g;
    float *turn = hwkit_scratch(HWKIT_SCRATCH_THREAD, turn_bytes(g));
    if (!turn) {
        x->failed = 1;
        return;
    }
    const int64_t at = (x->column + panel * SIDE) * (g->transpose_b ? g->ldb : 1);
    pack_panel(g, x->packed, x->columns, panel, x->b + at * hwkit_amx_element(&g->maker), turn);
}

static void pack(job *x)
{
    const hwkit_amx_gemm *g = x->g;
    hwkit_parallel_work(hwkit_parts(x->columns, SIDE), pack_chunk, x, g->threads,
                        x->columns * g->k / 2);
}

int hwkit_amx_pack(const hwkit_amx_gemm *g, void *packed, const void *b)
{
    job x = {.g = g, .b = b, .packed = packed, .columns = g->n};
    pack(&x);
    return x.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

/* ---- C ----------------------------------------------------------------------------------------- */

/* What a thread needs for a chunk, in float32 where nothing else is said. */
typedef struct {
    int64_t *steps;
    hwkit_amx_panel *rows; /* of A */
    float *block;          /* 32 x 32 */
    float *sums, *addend, *residual; /* of half precision: WIDE columns of C, and what is added */
    float *plain;          /* 2 x 32 x kc; also what is transposed */
    char *panels;
} space;

enum { STEPS, ROWS, BLOCK, SUMS, ADDEND, RESIDUAL, PLAIN, PANELS, SPACES };

static int64_t lay_out(const hwkit_amx_gemm *g, int64_t start[SPACES])
{
    const int64_t square = SIDE * SIDE * (int64_t)sizeof(float), two = g->maker.half ? 2 * square : 0;
    const int64_t panels = hwkit_parts(hwkit_min(g->mc, g->m), SIDE);
    const int64_t bytes[SPACES] = {
        [STEPS] = g->kc / SIDE * (int64_t)sizeof(int64_t),
        [ROWS] = panels * (int64_t)sizeof(hwkit_amx_panel),
        [BLOCK] = square, [SUMS] = two, [ADDEND] = two, [RESIDUAL] = two,
        [PLAIN] = turn_bytes(g),
        [PANELS] = panels * hwkit_amx_panel_bytes(&g->maker, g->kc),
    };
    int64_t at = 0;
    for (int i = 0; i < SPACES; i++) {
        start[i] = at;
        at += hwkit_round_up(bytes[i], LINE);
    }
    return at;
}

static int find_space(const hwkit_amx_gemm *g, space *s)
{
    int64_t start[SPACES];
    char *base = hwkit_scratch(HWKIT_SCRATCH_THREAD, lay_out(g, start));
    if (!base)
        return 0;
    *s = (space){(int64_t *)(base + start[STEPS]), (hwkit_amx_panel *)(base + start[ROWS]),
                 (float *)(base + start[BLOCK]), (float *)(base + start[SUMS]),
                 (float *)(base + start[ADDEND]), (float *)(base + start[RESIDUAL]),
                 (float *)(base + start[PLAIN]), base + start[PANELS]};
    hwkit_amx_steps(&g->maker, s->steps, g->kc / SIDE);
    return 1;
}

int64_t hwkit_amx_workspace(const hwkit_amx_gemm *g, int packed)
{
    int64_t start[SPACES];
    const int64_t all = hwkit_amx_packed_bytes(g);
    return g->threads * lay_out(g, start) + (packed ? 0 : hwkit_min(all, PART_BYTES));
}

/* A piece of an operand that is laid out like the result, in float32. */
static const float *widen(const hwkit_amx_gemm *g, float *to, const void *from, int64_t at, int rows,
                          int64_t columns)
{
    for (int i = 0; from && i < rows; i++)
        hwkit_half_widen_row(g->maker.half, (const uint16_t *)from + at + i * g->n, to + i * WIDE,
                             columns);
    return from ? to : NULL;
}

/* The sums of some rows, through the epilogue, rounded. */
static void finish_narrow(const job *x, const space *s, int64_t i, int64_t j, int rows,
                          int64_t columns)
{
    const hwkit_amx_gemm *g = x->g;
    const int64_t at = i * g->n + j;
    float bias[WIDE];
    if (x->epilogue) {
        hwkit_epilogue e = *x->epilogue;
        e.out = s->sums;
        e.addend = widen(g, s->addend, e.addend, at, rows, columns);
        e.residual = widen(g, s->residual, e.residual, at, rows, columns);
        if (e.bias) {
            hwkit_half_widen_row(g->maker.half, (const uint16_t *)e.bias + j, bias, columns);
            e.bias = bias;
        }
        g->maker.table->finish(s->sums, WIDE, rows, columns, &e, 0, 0);
    }
    hwkit_amx_round(&g->maker, s->sums, WIDE, (uint16_t *)x->out + at, g->n, rows, columns);
}

/* All rows of a chunk by columns [j, j + wide), over one block of depth. */
static void columns_of_blocks(const job *x, const space *s, int64_t m0, int64_t m1, int64_t j, int64_t wide,
                              int64_t index)
{
    const hwkit_amx_gemm *g = x->g;
    const int64_t ldc = g->maker.half ? WIDE : g->n, left = x->column + j;
    const int last = index == blocks_of(g) - 1;
    hwkit_amx_panel b[WIDE / SIDE];
    for (int64_t q = 0; q < wide; q += SIDE)
        b[q / SIDE] = panel_at(g, x->packed, x->columns, (j + q) / SIDE, index);
    for (int64_t i = m0; i < m1; i += SIDE) {
        const int rows = (int)hwkit_min(SIDE, m1 - i);
        float *c = g->maker.half ? s->sums : (float *)x->out + i * g->n + left;
        for (int64_t q = 0; q < wide; q += SIDE) {
            const hwkit_amx_block block = {
                .a = &s->rows[(i - m0) / SIDE], .b = &b[q / SIDE], .steps = s->steps,
                .term = HWKIT_AMX_PIECE, .c = c + q, .ldc = ldc, .rows = rows,
                .columns = (int)hwkit_min(SIDE, wide - q), .accumulate = index > 0, .block = s->block,
                .plain = s->plain};
            hwkit_amx_multiply(&g->maker, &block);
        }
        if (g->maker.half)
            finish_narrow(x, s, i, left, rows, wide);
        else if (last && x->epilogue)
            g->maker.table->finish(c, g->n, rows, wide, x->epilogue, i, left);
    }
}

static void pack_rows(const job *x, const space *s, int64_t m0, int64_t m1, int64_t k0)
{
    const hwkit_amx_gemm *g = x->g;
    const int64_t depth = hwkit_min(g->kc, g->k - k0);
    for (int64_t i = m0; i < m1; i += SIDE) {
        hwkit_amx_panel *p = &s->rows[(i - m0) / SIDE];
        const int64_t at = g->transpose_a ? k0 * g->lda + i : i * g->lda + k0;
        p->data = s->panels + (i - m0) / SIDE * hwkit_amx_panel_bytes(&g->maker, g->kc);
        hwkit_amx_fill_a(&g->maker, p, x->a + at * hwkit_amx_element(&g->maker), g->lda,
                         g->transpose_a, (int)hwkit_min(SIDE, m1 - i), depth, s->plain);
    }
}

static void product_chunk(void *ctx, int64_t chunk)
{
    job *x = ctx;
    const hwkit_amx_gemm *g = x->g;
    const int64_t across = hwkit_parts(x->columns, g->nc);
    const int64_t m0 = chunk / across * g->mc, m1 = hwkit_min(m0 + g->mc, g->m);
    const int64_t n0 = chunk % across * g->nc, n1 = hwkit_min(n0 + g->nc, x->columns);
    space s;
    if (!find_space(g, &s)) {
        x->failed = 1;
        return;
    }
    g->maker.tiles->begin();
    for (int64_t i = 0; i < blocks_of(g); i++) {
        pack_rows(x, &s, m0, m1, i * g->kc);
        for (int64_t j = n0; j < n1; j += WIDE)
            columns_of_blocks(x, &s, m0, m1, j, hwkit_min(WIDE, n1 - j), i);
    }
    g->maker.tiles->end();
}

int hwkit_amx_product(const hwkit_amx_gemm *g, const void *a, const void *b, const void *packed,
                      void *out, const hwkit_epilogue *epilogue)
{
    job x = {.g = g, .a = a, .b = b, .out = out, .packed = (char *)packed, .epilogue = epilogue};
    int64_t step = g->n;
    if (!packed) {
        const int64_t panel = hwkit_amx_panel_bytes(&g->maker, g->k);
        step = hwkit_min(step, hwkit_max(PART_BYTES / panel, 1) * SIDE);
        x.packed = hwkit_scratch(HWKIT_SCRATCH_SHARED, packed_bytes(g, step));
        if (!x.packed)
            return HWKIT_NO_MEMORY;
    }
    for (x.column = 0; x.column < g->n && !x.failed; x.column += step) {
        x.columns = hwkit_min(step, g->n - x.column);
        if (!packed)
            pack(&x);
        /* products of three terms take about as long as 3 of the plain ones of a 64 x 16 tile core */
        const double seconds = hwkit_product_seconds(
            (double)g->m * (double)x.columns * (double)g->k, g->maker.vl);
        hwkit_parallel_work(hwkit_parts(g->m, g->mc) * hwkit_parts(x.columns, g->nc), product_chunk,
                            &x, g->threads, 1e9 * seconds / 2);
    }
    return x.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}
