/* Depthwise convolution: every output channel k reads the one input channel k / (k total / c). Or, by
 * the same loops, grouped convolution of as few channels as `mix`, as many out as in.
 * The struct is filled once per plan, but for the pointers of a call. Sizes count elements. */
#ifndef HWKIT_DEPTHWISE_H
#define HWKIT_DEPTHWISE_H

#include "epilogue.h"
#include "half.h"
#include "run.h"

#include <stddef.h>
#include <stdint.h>

typedef struct hwkit_depthwise hwkit_depthwise;

/* Output rows [p0, p1) and channels [k0, k1) of one image; scratch has scratch_bytes. */
typedef void (*hwkit_depthwise_fn)(const hwkit_depthwise *d, int64_t image, int64_t p0, int64_t p1,
                                   int64_t k0, int64_t k1, void *scratch);

typedef struct {
    hwkit_depthwise_fn nhwc, nchw;
} hwkit_depthwise_kernels;

/* nhwc of elements that are stored narrow, without a wide copy; NULL where there are none. */
typedef struct {
    hwkit_depthwise_fn f16, bf16;
    hwkit_depthwise_fn bf16_pairs; /* mix == 1, by 2 * vl channels, see vl */
} hwkit_depthwise_narrow_kernels;
extern const hwkit_depthwise_narrow_kernels hwkit_depthwise_narrow_avx512, hwkit_depthwise_narrow_avx2;

struct hwkit_depthwise {
    int64_t n, c, h, w, k, r, s, p, q, sy, sx, dy, dx, top, left;
    int mix; /* channels of a group: 1, or with k == c, nhwc or transpose, 2, 4 or 8 of a vector */
    int nhwc, is_double;
    hwkit_half half; /* how x, residual and out are stored, unless as they are computed */
    int transpose;   /* nchw, k == c: by the kernel for nhwc, piece by piece */
    hwkit_activation act;
    /* Tunables: output pixels (nhwc) or rows (nchw) that are computed together, output rows and
     * channels of a task, most threads. */
    int wide;
    int64_t rows, block;
    int threads;
    /* Found by hwkit_depthwise_prepare. */
    hwkit_depthwise_fn fn;
    hwkit_depthwise_fn nhwc_fn; /* transpose: of a piece */
    void (*turn)(void *dst, int64_t dst_ld, const void *src, int64_t src_ld, int64_t depth,
                 int64_t count);
    int64_t turned_rows;
    int64_t vl;           /* channels that are packed together: of a vector, or of two: */
    int pairs;            /* the even channels first, then the odd ones */
    double lo, hi;        /* bounds of the result, infinite but for HWKIT_CLAMP */
    int in_place;         /* nchw: the image is read where it lies, no strip */
    int64_t phase;        /* nchw: length of one phase of a strip row */
    size_t pointer_bytes; /* nhwc: pointers come first in the scratch */
    int narrow;                         /* half: fn reads and writes narrow elements */
    int64_t piece_rows, piece_channels; /* half: else what is computed at a time */
    size_t wide_bytes;                  /* half: of such a piece of all three */
    size_t scratch_bytes;               /* of a task, what is wide included */
    /* Of one call; weights packed by hwkit_depthwise_pack, and bias, are as they are computed. */
    const void *x, *packed, *bias, *residual;
    void *out;
    const void *zeros; /* k zeros */
    int64_t pixel;     /* nhwc: elements from pixel to pixel of x, or of k / c copies of each */
};

/* Returns 0, or -1 if a task's scratch memory would be absurd (more than 1 GiB). */
int hwkit_depthwise_prepare(hwkit_depthwise *d);

/* Weights as the caller has them to the kernel's order, hwkit_depthwise_packed_bytes of them: for nhwc
 * [k in vectors][tap][channel of the group][vector], zeros behind the last channel; as they are for nchw. */
int64_t hwkit_depthwise_packed_bytes(const hwkit_depthwise *d);
void hwkit_depthwise_pack(const hwkit_depthwise *d, const void *w, void *packed);

/* Whether weights are packed in vectors of channels, so that tasks and pieces begin with one. */
int hwkit_depthwise_by_vectors(const hwkit_depthwise *d);

/* Output rows [p0, p1) and channels [k0, k1), whole vectors where it is by vectors, as an image of its
 * own that begins at row *y of the image; its operands but weights and bias are left to the caller. */
hwkit_depthwise hwkit_depthwise_part(const hwkit_depthwise *d, int64_t p0, int64_t p1, int64_t k0,
                                     int64_t k1, int64_t *y);

/* What `transpose` runs, and its scratch memory, found by prepare after what nhwc needs. */
void hwkit_depthwise_transposed(const hwkit_depthwise *d, int64_t image, int64_t p0, int64_t p1,
                                int64_t k0, int64_t k1, void *scratch);
double hwkit_depthwise_transposed_prepare(hwkit_depthwise *d);

/* A task of a plan whose operands are stored narrow, and what prepare finds for it. */
void hwkit_depthwise_half_task(const hwkit_depthwise *d, int64_t image, int64_t p0, int64_t p1,
                               int64_t k0, int64_t k1, void *scratch);
void hwkit_depthwise_half_prepare(hwkit_depthwise *d);

/* Returns 0, or -1 if memory ran out. */
int hwkit_depthwise_run(const hwkit_depthwise *d);

/* A plan over prepared `d`; operands are x, w, then bias and residual where it has them. NULL if
 * memory is short. */
hwkit_plan *hwkit_depthwise_plan(const hwkit_depthwise *d, int has_bias, int has_residual);

#endif
