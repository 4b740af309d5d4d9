/* Depthwise convolution of float16 and bfloat16: a piece of the image is widened into the scratch
 * memory of the thread, convolved as an image of its own by the float32 kernel, and its result
 * rounded. */
#include "depthwise.h"

/* A piece is worth its start from so many rows on, and has not so few channels (nhwc) that the run of
 * each pixel is short. Channels are whole vectors of every instruction set. */
enum { ENOUGH_ROWS = 4, LEAST_CHANNELS = 128 };

static const double MOST_BYTES = 1 << 30;

static double piece_bytes(const hwkit_depthwise *d, int64_t rows, int64_t channels)
{
    const double reach = (double)(rows - 1) * (double)d->sy + (double)(d->r - 1) * (double)d->dy + 1;
    const double in = reach < (double)d->h ? reach : (double)d->h, times = (double)(d->k / d->c);
    /* the image, the residual, the result */
    return 4 * (double)channels * (in * (double)d->w / times + 2 * (double)rows * (double)d->q);
}

static int fits(const hwkit_depthwise *d, int64_t rows, int64_t channels)
{
    return piece_bytes(d, rows, channels) <= HWKIT_HALF_PIECE;
}

void hwkit_depthwise_half_prepare(hwkit_depthwise *d)
{
    const int64_t times = d->k / d->c;
    int64_t channels = d->block, rows = d->rows;
    if (!hwkit_depthwise_by_vectors(d)) {
        while (channels > times && !fits(d, rows, channels))
            channels = (channels / times + 1) / 2 * times;
    } else if (times == 1) {
        const int64_t enough = rows < ENOUGH_ROWS ? rows : ENOUGH_ROWS;
        while (channels > LEAST_CHANNELS && !fits(d, enough, channels))
            channels = (channels / 2 + LEAST_CHANNELS - 1) / LEAST_CHANNELS * LEAST_CHANNELS;
    }
    while (rows > 1 && !fits(d, rows, channels))
        rows = (rows + 1) / 2;
    const double bytes = piece_bytes(d, rows, channels);
    d->piece_rows = rows;
    d->piece_channels = bytes > MOST_BYTES ? 0 : channels;
    d->wide_bytes = bytes > MOST_BYTES ? 0 : (size_t)bytes + 64;
}

static void piece_of(const hwkit_depthwise *d, const hwkit_half_part *to, void *scratch)
{
    const int64_t times = d->k / d->c;
    hwkit_half_part from = *to;
    hwkit_depthwise piece = hwkit_depthwise_part(d, to->y0, to->y1, to->c0, to->c1, &from.y0);
    from.y1 = from.y0 + piece.h;
    from.c0 = to->c0 / times;
    from.c1 = to->c1 / times;
    float *x = (float *)((char *)scratch + (d->scratch_bytes - d->wide_bytes));
    float *out = x + piece.c * piece.h * d->w, *residual = out + piece.k * piece.p * d->q;
    const hwkit_half_images in = {d->half, d->nhwc, d->c, d->h, d->w};
    const hwkit_half_images result = {d->half, d->nhwc, d->k, d->p, d->q};
    hwkit_half_widen_part(&in, d->x, &from, x);
    if (d->residual)
        hwkit_half_widen_part(&result, d->residual, to, residual);
    piece.x = x;
    piece.residual = d->residual ? residual : NULL;
    piece.out = out;
    d->fn(&piece, 0, 0, piece.p, 0, piece.k, scratch);
    hwkit_half_round_part(&result, out, d->out, to);
}

void hwkit_depthwise_half_task(const hwkit_depthwise *d, int64_t image, int64_t p0, int64_t p1,
                               int64_t k0, int64_t k1, void *scratch)
{
    for (int64_t k = k0; k < k1; k += d->piece_channels) {
        const int64_t next = k1 - k < d->piece_channels ? k1 : k + d->piece_channels;
        for (int64_t p = p0; p < p1; p += d->piece_rows) {
            const int64_t stop = p1 - p < d->piece_rows ? p1 : p + d->piece_rows;
            piece_of(d, &(hwkit_half_part){image, p, stop, k, next}, scratch);
        }
    }
}
