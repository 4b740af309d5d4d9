/* Depthwise convolution of images with channels first by the kernel for channels last: a piece of the
 * image is transposed into the scratch memory of the thread, convolved there as an image of its own,
 * and its result transposed back. Rows of small images are too short for vectors of columns. */
#include "depthwise.h"

#include "sizes.h"

/* Channels of a piece, whole vectors of every ISA: fewer are bound by the pointers of each pixel. A
 * piece and its result share the second cache, as far as its rows allow. */
enum { MOST_BYTES = 128 << 10, CHANNELS = 64 };

static int64_t item_size(const hwkit_depthwise *d)
{
    return d->is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
}

static double piece_bytes(const hwkit_depthwise *d, int64_t rows)
{
    const double reach = (double)(rows - 1) * (double)d->sy + (double)(d->r - 1) * (double)d->dy + 1;
    const double in = reach < (double)d->h ? reach : (double)d->h;
    /* the image, the residual, the result */
    return (double)item_size(d) * CHANNELS * (in * (double)d->w + 2 * (double)rows * (double)d->q);
}

double hwkit_depthwise_transposed_prepare(hwkit_depthwise *d)
{
    d->turned_rows = d->rows;
    while (d->turned_rows > 1 && piece_bytes(d, d->turned_rows) > MOST_BYTES)
        d->turned_rows = (d->turned_rows + 1) / 2;
    return piece_bytes(d, d->turned_rows);
}

static void piece_of(const hwkit_depthwise *d, int64_t image, int64_t p0, int64_t p1, int64_t k0,
                     int64_t k1, void *scratch)
{
    const int64_t size = item_size(d), channels = k1 - k0, pixels = (p1 - p0) * d->q;
    const int64_t area = d->h * d->w, out_area = d->p * d->q;
    const int64_t at = ((image * d->k + k0) * out_area + p0 * d->q) * size;
    int64_t y;
    hwkit_depthwise piece = hwkit_depthwise_part(d, p0, p1, k0, k1, &y);
    char *x = (char *)scratch + d->pointer_bytes, *out = x + channels * piece.h * d->w * size;
    char *residual = out + channels * pixels * size;
    const char *from = (const char *)d->x + ((image * d->c + k0) * area + y * d->w) * size;
    d->turn(x, channels, from, area, piece.h * d->w, channels);
    if (d->residual)
        d->turn(residual, channels, (const char *)d->residual + at, out_area, pixels, channels);
    piece.x = x;
    piece.out = out;
    piece.residual = d->residual ? residual : NULL;
    d->nhwc_fn(&piece, 0, 0, piece.p, 0, channels, scratch);
    d->turn((char *)d->out + at, out_area, out, channels, channels, pixels);
}

void hwkit_depthwise_transposed(const hwkit_depthwise *d, int64_t image, int64_t p0, int64_t p1,
                                int64_t k0, int64_t k1, void *scratch)
{
    for (int64_t k = k0; k < k1; k += CHANNELS)
        for (int64_t p = p0; p < p1; p += d->turned_rows)
            piece_of(d, image, p, hwkit_min(p + d->turned_rows, p1), k,
                     hwkit_min(k + CHANNELS, k1), scratch);
}
