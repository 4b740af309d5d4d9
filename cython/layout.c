/* Transposition of images, shared by the threads; the work is done by the kernels of an ISA. */
#include "layout.h"

#include "gemm.h"
#include "isa.h"
#include "run.h"
#include "threads.h"

enum { LINE_PIXELS = 16 }; /* no two threads write to one cache line of float32 */

typedef struct {
    const hwkit_layout *l;
    const char *from;
    char *to;
    hwkit_turn_fn few; /* channels last without a gap, for so few channels; or NULL */
    int64_t share;     /* pixels of a chunk */
    int back;
} job;

static const hwkit_transpose_kernels *kernels_of(int size)
{
    return hwkit_isa_get()->transpose[size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3];
}

hwkit_turn_fn hwkit_turn_into(int size, int64_t bytes)
{
    return bytes > HWKIT_FAR_BYTES ? kernels_of(size)->far : kernels_of(size)->any;
}

static void turn_chunk(void *ctx, int64_t chunk)
{
    const job *j = ctx;
    const hwkit_layout *l = j->l;
    const int64_t blocks = hwkit_parts(l->area, j->share), image = chunk / blocks;
    const int64_t first = chunk % blocks * j->share, end = hwkit_min(first + j->share, l->area);
    const int64_t planes = image * l->c * l->area * l->size, pixels = image * l->area * l->row * l->size;
    if (j->few) {
        j->few(j->to + pixels + first * l->c * l->size, l->c, j->from + planes + first * l->size,
               l->area, l->c, end - first);
        return;
    }
    const int64_t plane = planes + first * l->size, pixel = pixels + first * l->row * l->size;
    const hwkit_turn_fn turn = hwkit_turn_into(l->size, l->n * l->area * l->c * l->size);
    if (j->back)
        turn(j->to + plane, l->area, j->from + pixel, l->row, end - first, l->c);
    else
        turn(j->to + pixel, l->row, j->from + plane, l->area, l->c, end - first);
}

static void turn_all(const hwkit_layout *l, void *to, const void *from, int back)
{
    job j = {.l = l, .from = from, .to = to, .back = back};
    if (!back && l->c <= HWKIT_TURN_FEW && l->row == l->c)
        j.few = kernels_of(l->size)->rows[l->c];
    j.share = hwkit_round_up(hwkit_parts(l->area, 2 * (int64_t)l->threads), LINE_PIXELS);
    hwkit_parallel_work(l->n * hwkit_parts(l->area, j.share), turn_chunk, &j, l->threads,
                        l->n * l->area * l->c / 3);
}

void hwkit_to_channels_last(const hwkit_layout *l, void *to, const void *from)
{
    turn_all(l, to, from, 0);
}

void hwkit_to_channels_first(const hwkit_layout *l, void *to, const void *from)
{
    turn_all(l, to, from, 1);
}

const char *hwkit_channels_last(int size, const char *x, int64_t n, int64_t c, int64_t area,
                                int64_t row, int threads)
{
    const hwkit_layout l = {size, n, c, area, row, threads};
    char *to = hwkit_scratch(HWKIT_SCRATCH_LAYOUT, n * area * row * size);
    if (to)
        hwkit_to_channels_last(&l, to, x);
    return to;
}

static int64_t bytes_of(const hwkit_layout *l)
{
    return hwkit_round_up(l->n * l->area * l->row * l->size, 64);
}

int64_t hwkit_turned_bytes(const hwkit_turned *t)
{
    return bytes_of(&t->image) + (t->has_residual ? 2 : 1) * bytes_of(&t->result);
}

char *hwkit_turn_in(const hwkit_turned *t, const void **image, const void **residual)
{
    char *to = hwkit_scratch(HWKIT_SCRATCH_LAYOUT, hwkit_turned_bytes(t));
    if (!to)
        return NULL;
    char *result = to + bytes_of(&t->image), *beside = result + bytes_of(&t->result);
    hwkit_to_channels_last(&t->image, to, *image);
    *image = to;
    if (t->has_residual) {
        hwkit_to_channels_last(&t->result, beside, *residual);
        *residual = beside;
    }
    return result;
}
