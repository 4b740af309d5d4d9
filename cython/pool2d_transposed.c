/* Pooling of images with channels first by the kernel for channels last, as depthwise_transposed.c. */
#include "pool2d.h"

#include "sizes.h"

/* Channels of a piece; it and its result share the second cache, as far as its rows allow. */
enum { MOST_BYTES = 128 << 10, CHANNELS = 64 };

static int64_t item_size(const hwkit_pool *d)
{
    return d->is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
}

static double piece_bytes(const hwkit_pool *d, int64_t rows)
{
    const double reach = (double)(rows - 1) * (double)d->sy + (double)(d->r - 1) * (double)d->dy + 1;
    const double in = reach < (double)d->h ? reach : (double)d->h;
    return (double)item_size(d) * CHANNELS * (in * (double)d->w + (double)rows * (double)d->q);
}

double hwkit_pool_transposed_prepare(hwkit_pool *d)
{
    d->turned_rows = d->rows;
    while (d->turned_rows > 1 && piece_bytes(d, d->turned_rows) > MOST_BYTES)
        d->turned_rows = (d->turned_rows + 1) / 2;
    return piece_bytes(d, d->turned_rows);
}

static void piece_of(const hwkit_pool *d, int64_t image, int64_t p0, int64_t p1, int64_t c0,
                     int64_t c1, void *scratch)
{
    const int64_t size = item_size(d), channels = c1 - c0, plane = image * d->c + c0;
    int64_t y;
    hwkit_pool piece = hwkit_pool_piece(d, p0, p1, channels, &y);
    char *out = (char *)scratch + channels * piece.h * d->w * size;
    d->turn(scratch, channels, (const char *)d->x + (plane * d->h + y) * d->w * size, d->h * d->w,
            piece.h * d->w, channels);
    piece.x = scratch;
    piece.out = out;
    d->nhwc_fn(&piece, 0, 0, piece.p, 0, channels, NULL);
    d->turn((char *)d->out + (plane * d->p + p0) * d->q * size, d->p * d->q, out, channels, channels,
            piece.p * d->q);
}

void hwkit_pool_transposed(const hwkit_pool *d, int64_t image, int64_t p0, int64_t p1, int64_t c0,
                           int64_t c1, void *scratch)
{
    for (int64_t c = c0; c < c1; c += CHANNELS)
        for (int64_t p = p0; p < p1; p += d->turned_rows)
            piece_of(d, image, p, hwkit_min(p + d->turned_rows, p1), c, hwkit_min(c + CHANNELS, c1),
                     scratch);
}
