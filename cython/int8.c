/* Blocking loops of 8-bit products, compiled once; see int8_kernels.h for what a strip and a panel
 * are, and conv2d.c for the same structure in floating point.
 *
 * With u the bytes of a strip, v those of a panel, and a, b their zero points:
 *   sum (u - a) (v - b) = sum u v - a sum v - b sum u + depth a b
 * The sums of v are made when weights are packed, those of u only where b is not 0; strips of int16
 * have their zero point subtracted, so a is 0 there. Padding holds the zero point. */
#include "int8.h"

#include "cpuinfo.h"
#include "gemm.h"
#include "isa.h"
#include "threads.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { X, W, BIAS, X_SCALE, X_ZERO, W_SCALE, W_ZERO, Y_SCALE, Y_ZERO, KINDS };
enum { TURN = 16 }; /* pixels that are transposed at a time */
/* Up to this many channels, copying whole rows of taps beats a segment for each tap. */
enum { FEW_CHANNELS = 32 };
/* At most so many bytes of rows are copied for tiles. */
enum { STRAIGHT = 256 << 10 };

typedef struct {
    hwkit_plan base;
    hwkit_int8 g;
    const hwkit_int8_kernels *table;
    const hwkit_gemm_kernels *floats;
    int b_size, width, merged;
    int64_t cg, kg, taps;            /* channels of a group; r * s */
    int64_t segments, depth, deep;   /* of the product; deep: rounded up to groups */
    int64_t whole;                   /* segments * deep */
    int64_t step_y, step_x;          /* input pixels from one of a strip to the next */
    int64_t sy, sx, dy, dx;          /* stride and dilation in a strip */
    int64_t rows, columns;           /* output pixels of a chunk */
    int64_t strip_h, strip_w, pitch; /* strip_w and pitch: pixels of a row, elements of a pixel */
    int64_t straight_bytes;          /* of rows that are copied for tiles */
    int64_t group_bytes, w_bytes;    /* packed weights of a group, of all with their sums */
    hwkit_int8 given;
    int64_t extras, extras_at; /* how many; where they lie behind packed weights */
    hwkit_operands operands;
    int w_packed; /* W is held packed */
} plan;

/* ---- tables ------------------------------------------------------------------------------------ */

static const struct {
    const hwkit_isa *isa;
    const hwkit_int8_kernels *table;
} TABLES[] = {
    {&hwkit_isa_avx512, &hwkit_int8_avx512vnni}, {&hwkit_isa_avx512, &hwkit_int8_avx512},
    {&hwkit_isa_avx2, &hwkit_int8_avxvnni},      {&hwkit_isa_avx2, &hwkit_int8_avx2},
    {&hwkit_isa_neon, &hwkit_int8_dotprod},      {&hwkit_isa_neon, &hwkit_int8_neon},
};

const hwkit_int8_kernels *hwkit_int8_table(void)
{
    const hwkit_isa *isa = hwkit_isa_get();
    const uint32_t bits = hwkit_cpu()->bits;
    for (size_t i = 0; i < sizeof TABLES / sizeof TABLES[0]; i++) {
        const hwkit_int8_kernels *table = TABLES[i].table;
        if (TABLES[i].isa == isa && table->vl && (bits & table->features) == table->features)
            return table;
    }
    return &hwkit_int8_scalar;
}

/* [whether x is signed]: products of tiles, all else as in the other table. */
static hwkit_int8_kernels tiled[2];
static pthread_once_t tiled_once = PTHREAD_ONCE_INIT;

static void make_tiled(void)
{
    const hwkit_int8_tiles *amx =
        hwkit_amx() == HWKIT_AMX_REAL ? hwkit_int8_amx_real : hwkit_int8_amx_twin;
    for (int i = 0; i < 2; i++) {
        tiled[i] = *hwkit_int8_table();
        tiled[i].name = hwkit_isa_name();
        tiled[i].bytes = NULL;
        memset(tiled[i].tiles, 0, sizeof tiled[i].tiles);
        tiled[i].vl = HWKIT_INT8_TILE;
        tiled[i].group = 4;
        tiled[i].depth = HWKIT_INT8_TILES_DEPTH;
        tiled[i].a_size = 1;
        tiled[i].a_signed = i;
        tiled[i].amx = amx + i;
        tiled[i].sum = amx[i].sum;
    }
}

static const hwkit_int8_kernels *table_for(const hwkit_int8 *g)
{
    if (!g->tiles)
        return hwkit_int8_table();
    pthread_once(&tiled_once, make_tiled);
    return &tiled[g->x_signed != 0];
}

/* ---- bytes ------------------------------------------------------------------------------------- */

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint8_t loose16 __attribute__((vector_size(16), aligned(1), may_alias));

/* Four rounds of interleaving the halves of 16 rows exchange rows and columns. */
static void turn_square(uint8_t *to, int64_t to_ld, const uint8_t *from, int64_t from_ld)
{
    bytes16 v[2][TURN];
    for (int i = 0; i < TURN; i++)
        v[0][i] = *(const loose16 *)(from + i * from_ld);
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < TURN / 2; i++) {
            bytes16 a = v[round % 2][i], b = v[round % 2][i + TURN / 2];
            v[1 - round % 2][2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4,
                                                              20, 5, 21, 6, 22, 7, 23);
            v[1 - round % 2][2 * i + 1] = __builtin_shufflevector(
                a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
    for (int i = 0; i < TURN; i++)
        *(loose16 *)(to + i * to_ld) = v[0][i];
}

/* to[j * to_ld + i] = from[i * from_ld + j], i < rows, j < columns */
static void turn(uint8_t *to, int64_t to_ld, const uint8_t *from, int64_t from_ld, int64_t rows,
                 int64_t columns)
{
    int64_t i = 0;
    for (; i + TURN <= rows; i += TURN) {
        int64_t j = 0;
        for (; j + TURN <= columns; j += TURN)
            turn_square(to + j * to_ld + i, to_ld, from + i * from_ld + j, from_ld);
        for (; j < columns; j++)
            for (int64_t r = i; r < i + TURN; r++)
                to[j * to_ld + r] = from[r * from_ld + j];
    }
    for (; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            to[j * to_ld + i] = from[i * from_ld + j];
}

/* ---- weights ----------------------------------------------------------------------------------- */

/* What depths are rounded up to. */
static int depth_unit(const plan *p) { return p->table->depth ? p->table->depth : p->table->group; }

/* Bytes by which the values of x and w differ in a strip and a panel. */
static int x_flip(const plan *p)
{
    return p->table->a_size == 1 && p->g.x_signed != p->table->a_signed ? 0x80 : 0;
}
/* Whether the weights of panels are signed. Those of tiles need not be; but zero points are near 128
 * then, and what is left of them after the change is often 0. */
static int w_signed(const plan *p) { return p->g.w_signed || !p->table->amx || p->g.has_zero; }
static int w_flip(const plan *p) { return w_signed(p) != p->g.w_signed ? 0x80 : 0; }

/* A zero point as it is after such a change, in the type that it has then. */
static int32_t read_zero(const void *zeros, int64_t i, int is_signed)
{
    return !zeros      ? 0
           : is_signed ? ((const int8_t *)zeros)[i]
                       : ((const uint8_t *)zeros)[i];
}

static int64_t panels_of_group(const plan *p) { return hwkit_parts(p->kg, p->width); }

/* The elements of segment t of output channel n of a group. */
static void read_weights(const plan *p, uint8_t *to, const uint8_t *w, int64_t n, int64_t t)
{
    const hwkit_int8 *g = &p->g;
    const int64_t channels = p->cg;
    if (g->w_order == HWKIT_INT8_KRSC) {
        memcpy(to, w + n * p->taps * channels + t * p->depth, (size_t)p->depth);
        return;
    }
    if (g->w_order == HWKIT_INT8_CK) {
        for (int64_t c = 0; c < channels; c++)
            to[c] = w[c * g->k + n];
        return;
    }
    w += n * channels * p->taps;
    const int64_t first = p->merged ? t * g->s : t, count = p->merged ? g->s : 1;
    for (int64_t s = 0; s < count; s++)
        for (int64_t c = 0; c < channels; c++)
            *to++ = w[c * p->taps + first + s];
}

/* Column j of a panel of `wide` columns, from a row of bytes, one segment. */
static int32_t put_column(const plan *p, uint8_t *panel, int64_t wide, int64_t j,
                          const uint8_t *row)
{
    const int group = p->table->group;
    const uint8_t flip = (uint8_t)w_flip(p);
    const int is_signed = w_signed(p);
    uint32_t sum = 0;
    for (int64_t d = 0; d < p->depth; d++) {
        const uint8_t byte = row[d] ^ flip;
        panel[(d / group * wide + j) * group + d % group] = byte;
        sum += (uint32_t)(is_signed ? (int8_t)byte : byte);
    }
    return (int32_t)sum;
}

/* The same from [c][k], where the columns of a panel lie together. */
static void put_rows(const plan *p, uint8_t *panel, int64_t wide, int64_t n, int64_t count,
                     const uint8_t *w, int32_t *sums)
{
    const int group = p->table->group;
    const uint8_t flip = (uint8_t)w_flip(p);
    const int is_signed = w_signed(p);
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int64_t c = 0; c < p->depth; c++) {
        const uint8_t *row = w + c * p->g.k + n;
        uint8_t *to = panel + c / group * wide * group + c % group;
        for (int64_t j = 0; j < count; j++) {
            const uint8_t byte = row[j] ^ flip;
            to[j * group] = byte;
            const int value = is_signed ? (int8_t)byte : byte;
            sums[j] = (int32_t)((uint32_t)sums[j] + (uint32_t)value);
        }
    }
}

static int32_t *sums_of(const plan *p, void *packed)
{
    return (int32_t *)((char *)packed + p->g.groups * p->group_bytes);
}

/* Panel number `index`, counted over all groups; 0 if memory is short. */
static int pack_panel(const plan *p, char *packed, const uint8_t *w, int64_t index)
{
    const int64_t group = index / panels_of_group(p), n = index % panels_of_group(p) * p->width;
    const int64_t count = hwkit_min(p->width, p->kg - n);
    const int64_t wide = hwkit_round_up(count, p->table->vl), size = wide * p->whole;
    int32_t *sums = sums_of(p, packed) + group * p->kg + n;
    char *to = packed + group * p->group_bytes + n * p->whole * p->b_size;
    uint8_t *scratch = hwkit_scratch(HWKIT_SCRATCH_THREAD, size + p->depth);
    if (!scratch)
        return 0;
    uint8_t *panel = p->b_size == 1 ? (uint8_t *)to : scratch, *row = scratch + size;
    if (count < wide || p->deep > p->depth)
        memset(panel, 0, (size_t)size);
    if (p->g.w_order == HWKIT_INT8_CK) {
        put_rows(p, panel, wide, n, count, w, sums);
    } else {
        memset(sums, 0, (size_t)count * sizeof *sums);
        w += group * p->kg * p->cg * p->taps;
        for (int64_t j = 0; j < count; j++)
            for (int64_t t = 0; t < p->segments; t++) {
                read_weights(p, row, w, n + j, t);
                int32_t sum = put_column(p, panel + t * p->deep * wide, wide, j, row);
                sums[j] = (int32_t)((uint32_t)sums[j] + (uint32_t)sum);
            }
    }
    if (p->b_size == 2)
        p->table->widen((int16_t *)to, panel, size, 1, 0);
    return 1;
}

/* All weights of a depthwise convolution, their zero points subtracted. */
static void pack_depthwise(const plan *p, int16_t *to, const uint8_t *w, const void *zeros)
{
    const hwkit_int8 *g = &p->g;
    const int64_t even = hwkit_round_up(p->taps, 2);
    memset(to, 0, (size_t)p->w_bytes);
    for (int64_t c = 0; c < g->k; c++) {
        const int32_t zero = read_zero(zeros, g->per_channel ? c : 0, g->w_signed);
        for (int64_t t = 0; t < p->taps; t++) {
            /* one input channel: both orders are the same */
            const uint8_t byte = w[c * p->taps + t];
            to[hwkit_int8_depthwise_index(t, even, c)] =
                (int16_t)((g->w_signed ? (int8_t)byte : byte) - zero);
        }
    }
}

typedef struct {
    const plan *p;
    const uint8_t *w;
    char *to;
    int64_t share;
    _Atomic int failed;
} packing;

static void pack_chunk(void *ctx, int64_t chunk)
{
    packing *x = ctx;
    const int64_t all = panels_of_group(x->p) * x->p->g.groups;
    for (int64_t i = chunk * x->share; i < hwkit_min((chunk + 1) * x->share, all); i++)
        if (!pack_panel(x->p, x->to, x->w, i))
            x->failed = 1;
}

static int pack_weights(const plan *p, void *to, const void *w, const void *zeros, int threads)
{
    if (p->g.depthwise) {
        pack_depthwise(p, to, w, zeros);
        return 1;
    }
    packing x = {.p = p, .w = w, .to = to};
    const int64_t panels = panels_of_group(p) * p->g.groups;
    x.share = hwkit_parts(panels, 4 * (int64_t)threads);
    hwkit_parallel_work(hwkit_parts(panels, x.share), pack_chunk, &x, threads, p->g.k * p->whole);
    return !x.failed;
}

/* ---- extras ------------------------------------------------------------------------------------ */

/* Bytes that saturate are worth it while there is less than one extra for so many groups. */
enum { GROUPS_OF_EXTRA = 10 };

static int64_t vectors_of_group(const plan *p) { return hwkit_parts(p->kg, p->table->vl); }

/* Where one vector of columns lies in packed weights: its first group, and bytes to the next. */
static int8_t *vector_at(const plan *p, char *packed, int64_t vector, int64_t *step)
{
    const int64_t group = vector / vectors_of_group(p);
    const int64_t n = vector % vectors_of_group(p) * p->table->vl, panel = n / p->width * p->width;
    const int64_t wide = hwkit_round_up(hwkit_min(p->width, p->kg - panel), p->table->vl);
    *step = wide * p->table->group;
    return (int8_t *)packed + group * p->group_bytes + panel * p->whole +
           (n - panel) * p->table->group;
}

/* What the second of two weights must give away so that they fit; 0 if they do. */
static int excess(int first, int second)
{
    const int sum = first + second;
    if (first > 0 && second > 0 && sum > HWKIT_INT8_PAIR)
        return sum - HWKIT_INT8_PAIR;
    if (first < 0 && second < 0 && sum < -HWKIT_INT8_PAIR)
        return sum + HWKIT_INT8_PAIR;
    return 0;
}

/* Whether a group of a vector needs an extra. With `to`, which is 0, what is too much goes there. */
static int split(int8_t *weights, int bytes, int8_t *to)
{
    int any = 0;
    for (int i = 0; i < bytes; i += 2) {
        const int more = excess(weights[i], weights[i + 1]);
        any |= more;
        if (to && more) {
            weights[i + 1] = (int8_t)(weights[i + 1] - more);
            to[i + 1] = (int8_t)more;
        }
    }
    return any != 0;
}

static int64_t count_extras(const plan *p, char *packed)
{
    const int64_t vectors = p->g.groups * vectors_of_group(p), groups = p->whole / p->table->group;
    int64_t count = 0, step;
    for (int64_t v = 0; v < vectors; v++) {
        int8_t *at = vector_at(p, packed, v, &step);
        for (int64_t k = 0; k < groups; k++)
            count += split(at + k * step, p->table->vl * p->table->group, NULL);
    }
    return count;
}

/* Behind the weights: [vectors + 1] where the extras of each start, the extras, their weights. */
static void lay_out_extras(plan *p)
{
    const int64_t vectors = p->g.groups * vectors_of_group(p);
    p->extras_at = p->w_bytes;
    p->w_bytes += hwkit_round_up((vectors + 1 + p->extras) * 8, 64);
    p->w_bytes += p->extras * p->table->vl * p->table->group;
}

typedef struct {
    int64_t *from;
    hwkit_int8_extra *extras;
    int8_t *weights;
} extra_space;

static extra_space extras_of(const plan *p, char *packed)
{
    const int64_t vectors = p->g.groups * vectors_of_group(p);
    int64_t *from = (int64_t *)(void *)(packed + p->extras_at);
    return (extra_space){from, (hwkit_int8_extra *)(void *)(from + vectors + 1),
                         (int8_t *)from + hwkit_round_up((vectors + 1 + p->extras) * 8, 64)};
}

static void move_extras(const plan *p, char *packed)
{
    const int64_t vectors = p->g.groups * vectors_of_group(p), groups = p->whole / p->table->group;
    const int bytes = p->table->vl * p->table->group;
    const extra_space to = extras_of(p, packed);
    int64_t count = 0, step;
    memset(to.weights, 0, (size_t)(p->extras * bytes));
    for (int64_t v = 0; v < vectors; v++) {
        int8_t *at = vector_at(p, packed, v, &step);
        to.from[v] = count;
        for (int64_t k = 0; k < groups; k++)
            if (split(at + k * step, bytes, NULL)) {
                const int64_t depth = k * p->table->group;
                to.extras[count] = (hwkit_int8_extra){(int32_t)(depth / p->deep),
                                                      (int32_t)(depth % p->deep)};
                split(at + k * step, bytes, to.weights + count++ * bytes);
            }
    }
    to.from[vectors] = count;
}

/* ---- strips ------------------------------------------------------------------------------------ */

/* One product with everything that its chunks read. */
typedef struct {
    const plan *p;
    const uint8_t *x;
    const char *weights;
    char *out;
    int32_t x_zero;                  /* as in a strip of bytes */
    const int32_t *shift, *w_zero;   /* by output channel; NULL: all 0 */
    const float *scale;
    int32_t least, most, y_zero;
    float lo, hi;
    _Atomic int failed;
} product;

/* What one thread needs for a chunk. */
typedef struct {
    char *strip;
    int64_t line, pixel; /* bytes from a row of the strip to the next, from a pixel to the next */
    const void **rows;
    int32_t *block, *sums;
    uint8_t *turned;  /* pixels of planes on their way into the strip, or results into planes */
    uint8_t *gathered;
    char *straight; /* rows of tiles that are not evenly spaced */
} space;

/* Bytes of an element of a strip. */
static int strip_size(const plan *p) { return p->table->a_size == 1 && !p->g.depthwise ? 1 : 2; }

static int find_space(const plan *p, space *s)
{
    const int64_t pixels = p->rows * p->columns, a = strip_size(p);
    const int64_t wide = p->g.depthwise ? p->pitch : p->width;
    const int64_t even = p->g.depthwise ? hwkit_round_up(p->taps, 2) : 0;
    const int64_t bytes[] = {
        (p->strip_h * p->strip_w * p->pitch + p->deep) * a,
        (even + (p->g.depthwise ? 0 : pixels * p->segments)) * (int64_t)sizeof(void *),
        pixels * wide * (int64_t)sizeof(int32_t),
        pixels * (int64_t)sizeof(int32_t),
        hwkit_max(TURN * p->pitch, p->g.y_planes ? pixels * wide : 0),
        TURN * p->pitch,
        p->straight_bytes,
    };
    enum { COUNT = sizeof bytes / sizeof bytes[0] };
    int64_t start[COUNT], all = 0;
    for (int i = 0; i < COUNT; i++) {
        start[i] = all;
        all += hwkit_round_up(bytes[i], 64);
    }
    char *base = s ? hwkit_scratch(HWKIT_SCRATCH_THREAD, all) : NULL;
    if (!base)
        return s ? 0 : (int)hwkit_min(all, INT32_MAX);
    *s = (space){.strip = base + start[0],
                 .pixel = p->pitch * a,
                 .line = p->strip_w * p->pitch * a,
                 .rows = (const void **)(base + start[1]),
                 .block = (int32_t *)(base + start[2]),
                 .sums = (int32_t *)(base + start[3]),
                 .turned = (uint8_t *)base + start[4],
                 .gathered = (uint8_t *)base + start[5],
                 .straight = base + start[6]};
    return 1;
}

static void convert(const product *x, char *to, const void *from, int64_t n)
{
    const plan *p = x->p;
    if (strip_size(p) == 2)
        p->table->widen((int16_t *)to, from, n, p->g.x_signed, x->x_zero);
    else
        p->table->flip(to, from, n, x_flip(p));
}

/* `count` pixels of the padding. */
static void fill_zero(const product *x, char *to, int64_t count)
{
    const int size = strip_size(x->p);
    memset(to, size == 2 ? 0 : x->x_zero, (size_t)(count * x->p->pitch * size));
}

/* Pixels from `from` on, their channels as planes. */
static void fill_from_planes(const product *x, const space *s, char *to, const uint8_t *from,
                             int64_t count, int64_t channels)
{
    const plan *p = x->p;
    const int64_t area = p->g.h * p->g.w, row = p->pitch * strip_size(p);
    for (int64_t i = 0; i < count; i += TURN) {
        const int64_t some = hwkit_min(TURN, count - i);
        const uint8_t *planes = from + i * p->step_x;
        int64_t ld = area;
        if (p->step_x > 1) {
            for (int64_t c = 0; c < channels; c++)
                for (int64_t j = 0; j < some; j++)
                    s->gathered[c * TURN + j] = planes[c * area + j * p->step_x];
            planes = s->gathered;
            ld = TURN;
        }
        if (strip_size(p) == 1 && !x_flip(p)) {
            turn((uint8_t *)to + i * row, row, planes, ld, channels, some);
            continue;
        }
        turn(s->turned, channels, planes, ld, channels, some);
        if (p->pitch == channels) {
            convert(x, to + i * row, s->turned, some * channels);
            continue;
        }
        for (int64_t j = 0; j < some; j++)
            convert(x, to + (i + j) * row, s->turned + j * channels, channels);
    }
}

static void fill_from_pixels(const product *x, char *to, const uint8_t *from, int64_t count,
                             int64_t channels)
{
    const plan *p = x->p;
    const int64_t row = p->pitch * strip_size(p), step = p->step_x * p->g.c;
    if (p->pitch == channels && step == channels) {
        convert(x, to, from, count * channels);
        return;
    }
    for (int64_t j = 0; j < count; j++)
        convert(x, to + j * row, from + j * step, channels);
}

/* The input under output rows from y0 and columns from x0 on, with its padding. `channel`: the first
 * of `channels`. */
static void fill_strip(const product *x, const space *s, const uint8_t *image, int64_t channel,
                       int64_t channels, int64_t y0, int64_t x0, int64_t height, int64_t width)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    const int64_t row = p->pitch * strip_size(p);
    const int64_t at = x0 * g->stride_x - g->left, step = p->step_x;
    const int64_t lo = hwkit_min(at < 0 ? hwkit_parts(-at, step) : 0, width);
    const int64_t hi = hwkit_max(hwkit_min(g->w > at ? hwkit_parts(g->w - at, step) : 0, width), lo);
    for (int64_t i = 0; i < height; i++) {
        char *line = s->strip + i * p->strip_w * row;
        const int64_t y = y0 * g->stride_y - g->top + i * p->step_y;
        if (y < 0 || y >= g->h || lo == hi) {
            fill_zero(x, line, width);
            continue;
        }
        fill_zero(x, line, lo);
        const int64_t pixel = y * g->w + at + lo * step;
        if (g->x_planes)
            fill_from_planes(x, s, line + lo * row, image + channel * g->h * g->w + pixel, hi - lo,
                             channels);
        else
            fill_from_pixels(x, line + lo * row, image + pixel * g->c + channel, hi - lo, channels);
        fill_zero(x, line + hi * row, width - hi);
    }
}

/* ---- results ----------------------------------------------------------------------------------- */

/* `count` pixels from pixel `at` of an image on, `columns` channels from `channel` on. */
static void finish(const product *x, const space *s, int64_t image, int64_t at, int64_t count,
                   int64_t channel, int64_t columns, int64_t ld)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    const int64_t area = g->p * g->q, size = g->output >= HWKIT_INT8_TO_INT8 ? 1 : 4;
    hwkit_int8_finish f = {.acc = s->block, .ld = ld, .rows = count, .columns = columns,
                           .kind = g->output, .least = x->least, .most = x->most,
                           .y_zero = x->y_zero, .lo = x->lo, .hi = x->hi, .sums = s->sums};
    f.shift = x->shift ? x->shift + channel : NULL;
    f.w_zero = x->w_zero ? x->w_zero + channel : NULL;
    f.scale = x->scale ? x->scale + channel : NULL;
    if (!g->y_planes) {
        f.to = x->out + ((image * area + at) * g->k + channel) * size;
        f.to_ld = g->k;
        p->table->finish(&f);
        return;
    }
    char *to = x->out + ((image * g->k + channel) * area + at) * size;
    f.to = size == 1 ? (void *)s->turned : s->block;
    f.to_ld = size == 1 ? columns : ld;
    p->table->finish(&f);
    if (size == 1)
        turn((uint8_t *)to, area, s->turned, columns, count, columns);
    else
        for (int64_t i = 0; i < count; i += TURN)
            p->floats->transpose(to + i * size, area, s->block + i * ld, ld, columns,
                                 hwkit_min(TURN, count - i));
}

/* ---- chunks ------------------------------------------------------------------------------------ */

/* Where the chunk lies in the output. */
typedef struct {
    int64_t image, group, y0, x0, rows, columns, n0, n1;
} place;

static int64_t chunks_down(const plan *p) { return hwkit_parts(p->g.p, p->rows); }
static int64_t chunks_across(const plan *p) { return hwkit_parts(p->g.q, p->columns); }

static place place_of(const plan *p, int64_t chunk)
{
    const hwkit_int8 *g = &p->g;
    const int64_t all = g->depthwise ? g->k : p->kg, parts = hwkit_parts(all, g->channels);
    place at;
    at.n0 = chunk % parts * g->channels;
    at.n1 = hwkit_min(at.n0 + g->channels, all);
    chunk /= parts;
    const int64_t groups = g->depthwise ? 1 : g->groups;
    at.group = chunk % groups;
    chunk /= groups;
    at.x0 = chunk % chunks_across(p) * p->columns;
    chunk /= chunks_across(p);
    at.y0 = chunk % chunks_down(p) * p->rows;
    at.image = chunk / chunks_down(p);
    at.rows = hwkit_min(p->rows, g->p - at.y0);
    at.columns = hwkit_min(p->columns, g->q - at.x0);
    return at;
}

/* Whether pixels can be read where they lie: bytes as they are, without padding. */
static int readable(const plan *p)
{
    const hwkit_int8 *g = &p->g;
    return strip_size(p) == 1 && !x_flip(p) && !g->x_planes && p->taps == 1 && !g->top &&
           !g->left && (g->p - 1) * g->stride_y < g->h && (g->q - 1) * g->stride_x < g->w &&
           p->deep == p->depth && p->step_x * g->c % 2048;
}

static void fill(const product *x, space *s, const place *at, int64_t channel, int64_t channels)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    if (readable(p)) {
        s->pixel = p->step_x * g->c;
        s->line = p->step_y * g->w * g->c;
        s->strip = (char *)(uintptr_t)x->x + at->image * g->h * g->w * g->c + at->y0 * s->line +
                   at->x0 * s->pixel + channel;
        return;
    }
    fill_strip(x, s, x->x + at->image * g->h * g->w * g->c, channel, channels, at->y0, at->x0,
               (at->rows - 1) * p->sy + (g->r - 1) * p->dy + 1,
               (at->columns - 1) * p->sx + (g->s - 1) * p->dx + 1);
}

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
        const extra_space e = extras_of(p, (char *)x->weights);
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

static void product_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const place at = place_of(p, chunk);
    const int64_t count = at.rows * at.columns;
    space s;
    if (!find_space(p, &s)) {
        x->failed = 1;
        return;
    }
    fill(x, &s, &at, at.group * p->cg, p->cg);
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
        finish(x, &s, at.image, at.y0 * p->g.q + at.x0, count, at.group * p->kg + n, columns, wide);
    }
    if (p->table->amx)
        p->table->amx->end();
}

static void depthwise_chunk(void *ctx, int64_t chunk)
{
    product *x = ctx;
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    const place at = place_of(p, chunk);
    const int64_t columns = at.n1 - at.n0, even = hwkit_round_up(p->taps, 2);
    const int64_t wide = hwkit_round_up(columns, HWKIT_INT8_DEPTHWISE);
    space s;
    if (!find_space(p, &s)) {
        x->failed = 1;
        return;
    }
    fill(x, &s, &at, at.n0, columns);
    const int16_t **rows = (const int16_t **)s.rows;
    const int16_t *weights = (const int16_t *)x->weights + at.n0 * even;
    const int64_t pixel = p->pitch, line = p->strip_w * pixel;
    for (int64_t y = 0; y < at.rows; y++) {
        const int16_t *corner = (const int16_t *)s.strip + y * p->sy * line;
        for (int64_t r = 0, t = 0; r < g->r; r++)
            for (int64_t c = 0; c < g->s; c++)
                rows[t++] = corner + r * p->dy * line + c * p->dx * pixel;
        if (even > p->taps)
            rows[p->taps] = corner; /* its weights are 0 */
        for (int64_t i = 0; i < at.columns; i++) {
            p->table->depthwise(rows, weights, even, wide, s.block + (y * at.columns + i) * wide);
            for (int64_t t = 0; t < even; t++)
                rows[t] += p->sx * pixel;
        }
    }
    finish(x, &s, at.image, at.y0 * g->q + at.x0, at.rows * at.columns, at.n0, columns, wide);
}

/* ---- runs -------------------------------------------------------------------------------------- */

/* min(max(value, lo), hi) */
static float bound(float value, float lo, float hi)
{
    value = value > lo ? value : lo;
    return value < hi ? value : hi;
}

static void set_bounds(product *x, const void *const *all)
{
    const hwkit_int8 *g = &x->p->g;
    const int clamp = g->act.kind == HWKIT_CLAMP;
    const float lo = clamp ? (float)g->act.lo : -__builtin_inff();
    const float hi = clamp ? (float)g->act.hi : __builtin_inff();
    x->least = INT32_MIN;
    x->most = INT32_MAX;
    if (clamp && g->output == HWKIT_INT8_TO_INT32) { /* relu or relu6 */
        x->least = (int32_t)lo;
        x->most = hi < 0x1p31f ? (int32_t)hi : INT32_MAX;
    }
    x->lo = lo;
    x->hi = hi;
    if (g->output < HWKIT_INT8_TO_INT8)
        return;
    const int is_signed = g->output == HWKIT_INT8_TO_INT8;
    x->y_zero = read_zero(all[Y_ZERO], 0, is_signed);
    const float scale = *(const float *)all[Y_SCALE];
    const float from = (float)((is_signed ? -128 : 0) - x->y_zero), to = from + 255;
    x->lo = bound(clamp ? lo / scale : from, from, to);
    x->hi = bound(clamp ? hi / scale : to, from, to);
}

/* What belongs to each output channel; 0 if memory is short. */
static int set_channels(product *x, const void *const *all, const void *packed)
{
    const plan *p = x->p;
    const hwkit_int8 *g = &p->g;
    int32_t *vectors = hwkit_scratch(HWKIT_SCRATCH_LAYOUT, 3 * g->k * (int64_t)sizeof *vectors);
    if (!vectors)
        return 0;
    int32_t *shift = vectors, *w_zero = vectors + g->k;
    float *scale = (float *)(vectors + 2 * g->k);
    const int32_t *bias = all[BIAS];
    const uint32_t depth = (uint32_t)(p->cg * p->taps);
    int any = bias != NULL, zeros = 0;
    const int bytes = strip_size(p) == 1;
    for (int64_t n = 0; !g->depthwise && n < g->k; n++) {
        w_zero[n] = read_zero(all[W_ZERO], g->per_channel ? n : 0, g->w_signed) -
                    (w_flip(p) ? 128 : 0);
        zeros |= w_zero[n];
    }
    const uint32_t zero = bytes ? (uint32_t)x->x_zero : 0;
    any |= zero != 0;
    const int32_t *sums = g->depthwise ? NULL : sums_of(p, (void *)packed);
    for (int64_t n = 0; any && n < g->k; n++) {
        uint32_t value = bias ? (uint32_t)bias[n] : 0;
        if (zero)
            value += zero * (depth * (uint32_t)w_zero[n] - (uint32_t)sums[n]);
        shift[n] = (int32_t)value;
    }
    if (g->has_scale) {
        const float *x_scale = all[X_SCALE], *w_scale = all[W_SCALE], *y_scale = all[Y_SCALE];
        for (int64_t n = 0; n < g->k; n++) {
            const float product = *x_scale * w_scale[g->per_channel ? n : 0];
            scale[n] = y_scale ? product / *y_scale : product;
        }
    }
    x->shift = any ? shift : NULL;
    x->w_zero = zeros ? w_zero : NULL;
    x->scale = g->has_scale ? scale : NULL;
    return 1;
}

static int run_one(const plan *p, const void *const *all, char *out)
{
    const hwkit_int8 *g = &p->g;
    product x = {.p = p, .x = all[X], .weights = all[W], .out = out};
    x.x_zero = read_zero(all[X_ZERO], 0, g->x_signed);
    if (strip_size(p) == 1) /* in the other sign a byte stands for 128 more, or less */
        x.x_zero += x_flip(p) ? (p->table->a_signed ? -128 : 128) : 0;
    if (!p->w_packed) {
        char *to = hwkit_scratch(HWKIT_SCRATCH_SHARED, p->w_bytes);
        if (!to || !pack_weights(p, to, all[W], all[W_ZERO], g->threads))
            return HWKIT_NO_MEMORY;
        x.weights = to;
    }
    if (!set_channels(&x, all, x.weights))
        return HWKIT_NO_MEMORY;
    set_bounds(&x, all);
    const int64_t channels = g->depthwise ? g->k : p->kg, groups = g->depthwise ? 1 : g->groups;
    const int64_t chunks = g->n * groups * chunks_down(p) * chunks_across(p) *
                           hwkit_parts(channels, g->channels);
    hwkit_parallel_work(chunks, g->depthwise ? depthwise_chunk : product_chunk, &x, g->threads,
                        (int64_t)(p->base.seconds * 1e9) / g->batch);
    return x.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

typedef struct {
    const plan *p;
    const void *all[KINDS];
    char *out;
    _Atomic int failed;
} batch;

static int64_t x_bytes(const hwkit_int8 *g) { return g->n * g->c * g->h * g->w; }
static int64_t w_elements(const plan *p) { return p->g.k * p->cg * p->taps; }

static void batch_chunk(void *ctx, int64_t index)
{
    batch *b = ctx;
    const plan *p = b->p;
    const hwkit_int8 *g = &p->g;
    const void *all[KINDS];
    memcpy(all, b->all, sizeof all);
    const int64_t size = g->output >= HWKIT_INT8_TO_INT8 ? 1 : 4;
    all[X] = (const char *)all[X] + (g->x_shared ? 0 : index * x_bytes(g));
    all[W] = (const char *)all[W] +
             (g->w_shared ? 0 : index * (p->w_packed ? p->w_bytes : w_elements(p)));
    if (run_one(p, all, b->out + index * g->n * g->k * g->p * g->q * size) != HWKIT_OK)
        b->failed = 1;
}

static int run(const hwkit_plan *base, const void *const *operands, void *out)
{
    const plan *p = (const plan *)base;
    batch b = {.p = p, .out = out};
    hwkit_bind(&p->operands, operands, b.all);
    if (p->g.batch >= 2 * (int64_t)p->g.threads && p->g.threads > 1)
        /* whole products for each thread: what they run in parallel inside runs inline */
        hwkit_parallel_work(p->g.batch, batch_chunk, &b, p->g.threads,
                            (int64_t)(base->seconds * 1e9));
    else
        for (int64_t i = 0; i < p->g.batch; i++)
            batch_chunk(&b, i);
    return b.failed ? HWKIT_NO_MEMORY : HWKIT_OK;
}

static void destroy(hwkit_plan *base)
{
    plan *p = (plan *)base;
    hwkit_release(&p->operands);
    free(p);
}

static int64_t weights_count(const plan *p) { return p->g.w_shared ? 1 : p->g.batch; }

static void set_sizes(plan *p);

/* All weights that are held, packed; NULL if memory is short. */
static char *packed_copy(const plan *p)
{
    const char *w = p->operands.held[W];
    const int64_t count = weights_count(p);
    char *packed = hwkit_alloc(count * p->w_bytes);
    int done = packed != NULL;
    for (int64_t i = 0; done && i < count; i++)
        done = pack_weights(p, packed + i * p->w_bytes, w + i * w_elements(p),
                            p->operands.held[W_ZERO], 1);
    if (done)
        return packed;
    hwkit_free(packed);
    return NULL;
}

/* The same for the table of bytes, if the weights have few extras; p is changed then only. */
static char *packed_bytes(plan *p)
{
    plan other = *p;
    if (!p->table->bytes || p->g.depthwise || p->g.batch > 1)
        return NULL;
    other.table = p->table->bytes;
    other.g = p->given;
    other.g.narrow = 1;
    set_sizes(&other);
    const int64_t plain = other.w_bytes;
    char *packed = packed_copy(&other);
    if (!packed)
        return NULL;
    other.extras = count_extras(&other, packed);
    const int64_t all = other.g.groups * vectors_of_group(&other) * other.whole / other.table->group;
    if (other.extras * GROUPS_OF_EXTRA > all) {
        hwkit_free(packed);
        return NULL;
    }
    if (other.extras) {
        lay_out_extras(&other);
        char *more = hwkit_alloc(other.w_bytes);
        if (more)
            memcpy(more, packed, (size_t)plain);
        hwkit_free(packed);
        if (!(packed = more))
            return NULL;
        move_extras(&other, packed);
    }
    *p = other;
    return packed;
}

/* Replace plain weights that are held by packed ones; 0 if memory is short. */
static int pack_held(plan *p)
{
    char *packed = packed_bytes(p);
    if (!packed)
        packed = packed_copy(p);
    p->w_packed = 1;
    return hwkit_keep(&p->operands, W, packed, weights_count(p) * p->w_bytes);
}

static hwkit_plan *prepack(const hwkit_plan *base, const hwkit_constants *constants)
{
    const plan *old = (const plan *)base;
    plan *p = malloc(sizeof *p);
    if (!p)
        return NULL;
    *p = *old;
    int good = hwkit_hold(&p->operands, &old->operands, constants, -1);
    void *const *held = p->operands.held;
    /* The zero points of depthwise weights are subtracted when they are packed. */
    const int known = !p->g.depthwise || !p->g.has_zero || held[W_ZERO];
    if (good && held[W] && !p->w_packed && known)
        good = pack_held(p);
    if (good)
        return &p->base;
    destroy(&p->base);
    return NULL;
}

/* ---- plans ------------------------------------------------------------------------------------- */

static hwkit_operands operands_of(const hwkit_int8 *g)
{
    const int requantised = g->output >= HWKIT_INT8_TO_INT8;
    return (hwkit_operands){.kinds = KINDS,
                            .present = {[X] = 1,
                                        [W] = 1,
                                        [BIAS] = g->has_bias,
                                        [X_SCALE] = g->has_scale,
                                        [X_ZERO] = g->has_zero,
                                        [W_SCALE] = g->has_scale,
                                        [W_ZERO] = g->has_zero,
                                        [Y_SCALE] = requantised,
                                        [Y_ZERO] = requantised}};
}

/* One row of pixels where rows of the image need not be told apart, images where weights are one. */
static void simplify(hwkit_int8 *g)
{
    if (g->batch > 1 && g->w_shared && !g->x_shared) {
        g->n *= g->batch;
        g->batch = 1;
    }
    const int plain = g->r == 1 && g->s == 1 && g->stride_y == 1 && g->stride_x == 1 &&
                      g->p == g->h && g->q == g->w && !g->top && !g->left;
    if (plain) {
        g->w = g->q = g->h * g->w;
        g->h = g->p = 1;
        if (!g->x_planes && !g->y_planes) {
            g->w = g->q = g->n * g->w;
            g->n = 1;
        }
    }
}

static void set_chunk(plan *p)
{
    hwkit_int8 *g = &p->g;
    g->pixels = hwkit_min(g->pixels, g->p * g->q);
    if (g->pixels >= g->q) {
        p->rows = g->pixels / g->q;
        p->columns = g->q;
    } else {
        p->rows = 1;
        p->columns = hwkit_parts(g->q, hwkit_parts(g->q, g->pixels));
        p->columns = hwkit_min(hwkit_round_up(p->columns, g->rows), g->q);
    }
    p->strip_h = (p->rows - 1) * p->sy + (g->r - 1) * p->dy + 1;
    p->strip_w = (p->columns - 1) * p->sx + (g->s - 1) * p->dx + 1;
}

static void set_sizes(plan *p)
{
    hwkit_int8 *g = &p->g;
    p->cg = g->c / g->groups;
    p->kg = g->k / g->groups;
    p->taps = g->r * g->s;
    p->step_y = g->r == 1 ? g->stride_y : 1;
    p->step_x = g->s == 1 ? g->stride_x : 1;
    p->sy = g->r == 1 ? 1 : g->stride_y;
    p->sx = g->s == 1 ? 1 : g->stride_x;
    p->dy = g->r == 1 ? 1 : g->dilation_y;
    p->dx = g->s == 1 ? 1 : g->dilation_x;
    p->b_size = g->narrow ? 1 : 2;
    p->width = g->vectors * p->table->vl;
    set_chunk(p);
    if (g->depthwise) {
        g->channels = hwkit_round_up(hwkit_min(g->channels, g->k), HWKIT_INT8_DEPTHWISE);
        p->pitch = g->channels;
        p->segments = p->taps;
        p->depth = p->deep = 1;
        p->w_bytes = hwkit_round_up(g->k, HWKIT_INT8_DEPTHWISE) * hwkit_round_up(p->taps, 2) * 2;
        return;
    }
    p->merged = g->s > 1 && p->dx == 1 && p->cg <= FEW_CHANNELS;
    p->segments = p->merged ? g->r : p->taps;
    p->depth = p->merged ? g->s * p->cg : p->cg;
    p->deep = hwkit_round_up(p->depth, depth_unit(p));
    p->pitch = p->merged ? p->cg : p->deep;
    /* Rows of x a multiple of 2 KiB apart would fight for the same sets of the first cache. */
    if (p->taps == 1 && p->pitch * strip_size(p) % 2048 == 0)
        p->pitch += 64 / strip_size(p);
    p->whole = p->segments * p->deep;
    g->kc = hwkit_max(hwkit_min(g->kc, p->whole), 1);
    g->channels = hwkit_round_up(hwkit_min(g->channels, p->kg), p->width);
    if (p->table->amx && p->rows > 1 && g->channels > p->width)
        p->straight_bytes = hwkit_min(p->rows * p->columns / HWKIT_INT8_TILE * HWKIT_INT8_TILE *
                                          p->whole, STRAIGHT);
    p->group_bytes = hwkit_round_up(
        hwkit_panels_bytes(p->kg, p->whole, p->width, p->table->vl, p->b_size), 64);
    p->w_bytes = g->groups * p->group_bytes + hwkit_round_up(g->k * 4, 64);
}

hwkit_plan *hwkit_int8_plan(const hwkit_int8 *given)
{
    plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->g = *given;
    p->table = table_for(given);
    p->floats = hwkit_isa_get()->f32.gemm;
    simplify(&p->g);
    p->given = p->g;
    set_sizes(p);
    p->operands = operands_of(&p->g);
    p->base.run = run;
    p->base.prepack = prepack;
    p->base.destroy = destroy;
    p->base.workspace = p->w_bytes + p->g.threads * (int64_t)find_space(p, NULL);
    const hwkit_int8 *g = &p->g;
    const double work = (double)g->batch * (double)g->n * (double)g->k * (double)(g->p * g->q) *
                        (double)(p->cg * p->taps);
    p->base.seconds = hwkit_product_seconds(work, (p->table->amx ? 16 : 2) * p->table->vl);
    return &p->base;
}
