/* Transposition of images, shared by the threads; the work is done by the kernels of an ISA. */
#include "layout.h"

#include "gemm.h"
#include "run.h"
#include "threads.h"

typedef struct {
    const hwkit_gemm_kernels *table;
    const char *x;
    char *to;
    int64_t c, area, share; /* share: pixels of a chunk */
    int size;
} job;

static void turn_chunk(void *ctx, int64_t chunk)
{
    const job *j = ctx;
    const int64_t blocks = hwkit_parts(j->area, j->share);
    const int64_t image = chunk / blocks, from = chunk % blocks * j->share;
    const int64_t to = hwkit_min(from + j->share, j->area);
    for (int64_t i = from; i < to; i += HWKIT_TURN_PIXELS)
        j->table->transpose(j->to + (image * j->area + i) * j->c * j->size, j->c,
                            j->x + (image * j->c * j->area + i) * j->size, j->area,
                            hwkit_min(HWKIT_TURN_PIXELS, to - i), j->c);
}

const char *hwkit_channels_last(const hwkit_gemm_kernels *table, int size, const char *x, int64_t n,
                                int64_t c, int64_t area, int threads)
{
    job j = {.table = table, .x = x, .c = c, .area = area, .size = size};
    j.to = hwkit_scratch(HWKIT_SCRATCH_LAYOUT, n * area * c * size);
    if (!j.to)
        return NULL;
    j.share = hwkit_round_up(hwkit_parts(area, 2 * (int64_t)threads), HWKIT_TURN_PIXELS);
    hwkit_parallel_work(n * hwkit_parts(area, j.share), turn_chunk, &j, threads, n * area * c / 3);
    return j.to;
}
