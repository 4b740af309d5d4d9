/* Maximum and mean over windows, and over whole images. The struct is filled once per plan, but for
 * the pointers of a call. Sizes count elements. */
#ifndef HWKIT_POOL2D_H
#define HWKIT_POOL2D_H

#include "half.h"
#include "run.h"
#include "sizes.h"

#include <stddef.h>
#include <stdint.h>

typedef struct hwkit_pool hwkit_pool;

enum { HWKIT_POOL_SMALL = 64 };

/* Output rows [p0, p1) and channels [c0, c1) of one image; scratch has scratch_bytes. */
typedef void (*hwkit_pool_fn)(const hwkit_pool *d, int64_t image, int64_t p0, int64_t p1, int64_t c0,
                              int64_t c1, void *scratch);

/* Some pixels of one image and some of its channels. */
typedef struct {
    const void *x;  /* the first of them */
    void *out;      /* maxima so far; means with the last part */
    double *totals; /* sums so far, of a mean in several parts */
    int64_t pixels, channels;
    int64_t stride; /* between pixels (nhwc) or channels (nchw) */
    int first, last;
} hwkit_pool_part;

/* Parts of an image come in order; the pixels of all but the last are a multiple of this, so that
 * they do not change how sums are cut into blocks. */
enum { HWKIT_POOL_PART_NHWC = 64, HWKIT_POOL_PART_NCHW = 4096 };
typedef void (*hwkit_pool_global_fn)(const hwkit_pool *d, const hwkit_pool_part *part);

typedef struct {
    hwkit_pool_fn nhwc, nchw, nchw_small; /* small: few taps, small strides */
    hwkit_pool_global_fn global;
} hwkit_pool_kernels;

struct hwkit_pool {
    int64_t n, c, h, w, r, s, p, q, sy, sx, dy, dx, top, left;
    int nhwc, is_double, mean, global; /* global: over the whole image; only n, c, h, w count */
    hwkit_half half;                   /* how x and out are stored, unless as they are computed */
    int transpose;                     /* nchw, windows: by the kernel for nhwc, piece by piece */
    /* Elements of each window that count, rows and columns apart, at least 1; p and q of them. */
    const int64_t *count_y, *count_x;
    /* Tunables: output rows and channels of a task, most threads. */
    int64_t rows, block;
    int threads;
    /* Found by hwkit_pool_prepare. */
    hwkit_pool_fn fn;
    hwkit_pool_global_fn global_fn;
    hwkit_pool_fn nhwc_fn; /* transpose: of a piece */
    void (*turn)(void *dst, int64_t dst_ld, const void *src, int64_t src_ld, int64_t depth,
                 int64_t count);
    int64_t turned_rows;
    int in_place;       /* nchw, small: the image is read where it lies, no lines */
    const void *counts; /* nchw: count_x as floats, filled up with ones to whole vectors */
    int64_t phase;      /* nchw: length of one phase of a line; small: of a whole line */
    int64_t lines;      /* small: lines that are kept at a time */
    int narrow; /* half: fn reads and writes narrow elements */
    int64_t piece_rows, piece_channels; /* half: what is widened at a time; global: pixels */
    size_t wide_bytes;                  /* half: of such a piece and its result */
    size_t scratch_bytes;               /* of a task, what is wide included */
    /* Of one call. */
    const void *x;
    void *out;
    int64_t row; /* nhwc: elements from pixel to pixel of out */
};

/* Windows of float16 and bfloat16 with channels last that need no wide copy; and the bytes that take. NULL
 * where there are none. */
typedef struct {
    int lanes; /* of a vector; for fewer channels a wide copy is faster */
    hwkit_pool_fn windows;
    int64_t (*scratch_bytes)(const hwkit_pool *d);
} hwkit_pool_narrow_kernel;
extern const hwkit_pool_narrow_kernel hwkit_pool_narrow_avx512, hwkit_pool_narrow_avx2;

/* Returns 0, or -1 if memory is out or a task's scratch memory would be absurd (more than 1 GiB). */
int hwkit_pool_prepare(hwkit_pool *d);

/* Output rows [p0, p1) of some channels as an image of its own, which begins at row *y of the image; x
 * and out are left to the caller. */
hwkit_pool hwkit_pool_piece(const hwkit_pool *d, int64_t p0, int64_t p1, int64_t channels, int64_t *y);

/* What `transpose` runs, and the bytes of scratch memory that it needs, found by prepare. */
void hwkit_pool_transposed(const hwkit_pool *d, int64_t image, int64_t p0, int64_t p1, int64_t c0,
                           int64_t c1, void *scratch);
double hwkit_pool_transposed_prepare(hwkit_pool *d);

/* Free what prepare allocated. */
void hwkit_pool_release(hwkit_pool *d);

/* Returns 0, or -1 if memory ran out. */
int hwkit_pool_run(const hwkit_pool *d);

/* A task of a plan whose operands are stored narrow, and what prepare finds for it. */
void hwkit_pool_half_task(const hwkit_pool *d, int64_t image, int64_t p0, int64_t p1, int64_t c0,
                          int64_t c1, void *scratch);
void hwkit_pool_half_prepare(hwkit_pool *d);

/* A plan of one operand, x, over `d`, which it prepares; it keeps its own copy of the counts. NULL if
 * memory is short. */
hwkit_plan *hwkit_pool_plan(const hwkit_pool *d);

#endif
