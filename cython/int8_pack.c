/* Packing of weights for 8-bit products. */
#include "int8_pack.h"

#include "threads.h"

#include <string.h>

/* ---- panels ---------------------------------------------------------------------------------- */

static int64_t panels_of_group(const plan *p)
{
    return hwkit_parts(p->kg, p->width);
}

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

/* A panel of bytes, where it is not packed in place, and the elements of a segment. */
static int64_t panel_bytes(const plan *p)
{
    return p->b_size == 1 ? 0 : p->width * p->whole;
}

int64_t hwkit_int8_packing_bytes(const plan *p)
{
    return p->g.depthwise ? 0 : panel_bytes(p) + p->depth;
}

/* Panel number `index`, counted over all groups; 0 if memory is short. */
static int pack_panel(const plan *p, char *packed, const uint8_t *w, int64_t index)
{
    const int64_t group = index / panels_of_group(p), n = index % panels_of_group(p) * p->width;
    const int64_t count = hwkit_min(p->width, p->kg - n);
    const int64_t wide = hwkit_round_up(count, p->table->vl), size = wide * p->whole;
    int32_t *sums = hwkit_int8_sums(p, packed) + group * p->kg + n;
    char *to = packed + group * p->group_bytes + n * p->whole * p->b_size;
    uint8_t *scratch = hwkit_scratch(HWKIT_SCRATCH_THREAD, hwkit_int8_packing_bytes(p));
    if (!scratch)
        return 0;
    uint8_t *panel = p->b_size == 1 ? (uint8_t *)to : scratch, *row = scratch + panel_bytes(p);
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

int hwkit_int8_pack(const plan *p, void *to, const void *w, const void *zeros, int threads)
{
    if (p->g.depthwise) {
        if (by_quads(p))
            hwkit_int8_pack_quads(p, to, w, zeros);
        else
            hwkit_int8_pack_depthwise(p, to, w, zeros);
        return 1;
    }
    packing x = {.p = p, .w = w, .to = to};
    const int64_t panels = panels_of_group(p) * p->g.groups;
    x.share = hwkit_parts(panels, 4 * (int64_t)threads);
    hwkit_parallel_work(hwkit_parts(panels, x.share), pack_chunk, &x, threads, p->g.k * p->whole);
    return !x.failed;
}

/* ---- extras ---------------------------------------------------------------------------------- */

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

int64_t hwkit_int8_count_extras(const plan *p, char *packed)
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
void hwkit_int8_lay_out_extras(plan *p)
{
    const int64_t vectors = p->g.groups * vectors_of_group(p);
    p->extras_at = p->w_bytes;
    p->w_bytes += hwkit_round_up((vectors + 1 + p->extras) * 8, 64);
    p->w_bytes += p->extras * p->table->vl * p->table->group;
}

extra_space hwkit_int8_extras_of(const plan *p, char *packed)
{
    const int64_t vectors = p->g.groups * vectors_of_group(p);
    int64_t *from = (int64_t *)(void *)(packed + p->extras_at);
    return (extra_space){from, (hwkit_int8_extra *)(void *)(from + vectors + 1),
                         (int8_t *)from + hwkit_round_up((vectors + 1 + p->extras) * 8, 64)};
}

void hwkit_int8_move_extras(const plan *p, char *packed)
{
    const int64_t vectors = p->g.groups * vectors_of_group(p), groups = p->whole / p->table->group;
    const int bytes = p->table->vl * p->table->group;
    const extra_space to = hwkit_int8_extras_of(p, packed);
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
