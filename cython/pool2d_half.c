/* Pooling of float16 and bfloat16: a piece of the image is widened into the scratch memory of the
 * thread, pooled as an image of its own by the float32 kernel, and its result rounded, so that memory
 * sees narrow elements only, and those once but for the rows that neighbouring pieces share. */
#include "pool2d.h"

#include <string.h>

/* A piece is worth its start from so many rows on, if it shares rows with the next one; and not so
 * few channels that the run of each pixel is short. */
enum { ENOUGH_ROWS = 4, LEAST_CHANNELS = 128 };

/* Channels of a whole image that are reduced together (nhwc), each with a part of its pixels. */
enum { GLOBAL_CHANNELS = 128 };

static const double MOST_BYTES = 1 << 30;

static double piece_bytes(const hwkit_pool *d, int64_t rows, int64_t channels)
{
    const double reach = (double)(rows - 1) * (double)d->sy + (double)(d->r - 1) * (double)d->dy + 1;
    const double in = reach < (double)d->h ? reach : (double)d->h;
    return 4 * (double)channels * (in * (double)d->w + (double)rows * (double)d->q);
}

/* The most, from 1 to `most`, of which a piece fits; bytes of a piece grow with the number. */
static int64_t fitting(const hwkit_pool *d, int64_t most, int64_t other, int by_rows)
{
    int64_t low = 1;
    while (low < most) {
        const int64_t middle = low + (most - low + 1) / 2;
        const double bytes = by_rows ? piece_bytes(d, middle, other) : piece_bytes(d, other, middle);
        if (bytes <= HWKIT_HALF_PIECE)
            low = middle;
        else
            most = middle - 1;
    }
    return low;
}

static void prepare_global(hwkit_pool *d)
{
    const int64_t part = d->nhwc ? HWKIT_POOL_PART_NHWC : HWKIT_POOL_PART_NCHW;
    d->piece_rows = d->h * d->w < part ? d->h * d->w : part;
    const int64_t channels = d->nhwc ? GLOBAL_CHANNELS : HWKIT_POOL_PART_NCHW / d->piece_rows;
    d->piece_channels = channels < d->block ? channels : d->block;
    /* and a double and a float for each channel */
    d->wide_bytes = (size_t)d->piece_channels * ((size_t)d->piece_rows * 4 + 12) + 64;
}

void hwkit_pool_half_prepare(hwkit_pool *d)
{
    int64_t channels = d->block;
    if (d->global) {
        prepare_global(d);
        return;
    }
    if (d->nhwc) {
        const int64_t shared = d->r > 1 && (d->r - 1) * d->dy + 1 > d->sy;
        const int64_t rows = shared && d->rows > ENOUGH_ROWS ? ENOUGH_ROWS : shared ? d->rows : 1;
        while (channels > LEAST_CHANNELS && piece_bytes(d, rows, channels) > HWKIT_HALF_PIECE)
            channels = (channels / 2 + LEAST_CHANNELS - 1) / LEAST_CHANNELS * LEAST_CHANNELS;
    } else {
        channels = fitting(d, d->block, d->rows, 0);
    }
    d->piece_channels = channels;
    d->piece_rows = fitting(d, d->rows, channels, 1);
    const double bytes = piece_bytes(d, d->piece_rows, channels);
    if (bytes > MOST_BYTES)
        d->piece_channels = 0;
    else
        d->wide_bytes = (size_t)bytes + 64;
}

/* Memory behind what the kernel itself needs, which is whole cache lines. */
static float *wide_scratch(const hwkit_pool *d, void *scratch)
{
    return (float *)((char *)scratch + (d->scratch_bytes - d->wide_bytes));
}

static void window_piece(const hwkit_pool *d, const hwkit_half_part *to, void *scratch)
{
    hwkit_half_part from = *to;
    hwkit_pool piece = hwkit_pool_piece(d, to->y0, to->y1, to->c1 - to->c0, &from.y0);
    from.y1 = from.y0 + piece.h;
    float *x = wide_scratch(d, scratch);
    piece.x = x;
    piece.out = x + piece.c * piece.h * d->w;
    hwkit_half_widen_part(&(hwkit_half_images){d->half, d->nhwc, d->c, d->h, d->w}, d->x, &from, x);
    d->fn(&piece, 0, 0, piece.p, 0, piece.c, scratch);
    hwkit_half_round_part(&(hwkit_half_images){d->half, d->nhwc, d->c, d->p, d->q}, piece.out,
                          d->out, to);
}

/* Channels [c0, c1) of a whole image, a part of the pixels at a time, as an image of one row. */
static void global_piece(const hwkit_pool *d, int64_t image, int64_t c0, int64_t c1, void *scratch)
{
    const int64_t pixels = d->h * d->w, channels = c1 - c0;
    const hwkit_half_images in = {d->half, d->nhwc, d->c, pixels, 1};
    float *x = wide_scratch(d, scratch), *out = x + d->piece_channels * 2;
    hwkit_pool_part part = {.out = out, .totals = (double *)x, .channels = channels, .first = 1};
    x = out + channels;
    part.x = x;
    for (int64_t at = 0; at < pixels; at += part.pixels, part.first = 0) {
        part.pixels = pixels - at < d->piece_rows ? pixels - at : d->piece_rows;
        part.last = at + part.pixels == pixels;
        part.stride = d->nhwc ? channels : part.pixels;
        hwkit_half_widen_part(&in, d->x, &(hwkit_half_part){image, at, at + part.pixels, c0, c1}, x);
        d->global_fn(d, &part);
    }
    hwkit_half_round_part(&(hwkit_half_images){d->half, d->nhwc, d->c, 1, 1}, out, d->out,
                          &(hwkit_half_part){image, 0, 1, c0, c1});
}

void hwkit_pool_half_task(const hwkit_pool *d, int64_t image, int64_t p0, int64_t p1, int64_t c0,
                          int64_t c1, void *scratch)
{
    for (int64_t c = c0; c < c1; c += d->piece_channels) {
        const int64_t next = c1 - c < d->piece_channels ? c1 : c + d->piece_channels;
        if (d->global)
            global_piece(d, image, c, next, scratch);
        else
            for (int64_t p = p0; p < p1; p += d->piece_rows) {
                const int64_t stop = p1 - p < d->piece_rows ? p1 : p + d->piece_rows;
                window_piece(d, &(hwkit_half_part){image, p, stop, c, next}, scratch);
            }
    }
}
