/* Convolution with 3 x 3 taps and stride 1 or 2, or 5 x 5 and stride 1, by the minimal filtering of
 * Winograd.
 *
 * m x m outputs at a time: y = At [(G g Gt) . (Bt d B)] A, where d is (m + 2) x (m + 2) pixels and g
 * 3 x 3 taps (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016, section 4).
 * Summed over channels, the product in the middle is a matrix product for each of the (m + 2)^2
 * positions: tiles are its rows, output channels its columns. F(2) interpolates at 0, 1, -1 and
 * infinity. F(4) does at 0, +-5/8, +-3/2 and infinity: the error of a sum depends on the points
 * alone (Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep
 * neural networks", 2020), and of all symmetric ones with few bits these have less than half of that
 * of the usual 0, +-1, +-2. F(6) does at 0, +-1/2, +-1, +-2 and infinity, which no other three pairs
 * of at most 4 bits undercut by more than a twentieth; its error is 3 to 5 times that of F(4).
 *
 * With 5 x 5 taps, d is (m + 4) x (m + 4) pixels. F(2) interpolates where F(4) does with 3 x 3, which
 * are the best points for it too, so that Bt is the same; its error is 1.1 times as large.
 *
 * Three taps that move by two are two taps over every other pixel, from the first on, and one tap over
 * those between, both of which move by one (Huang et al., "DWM: a decomposable Winograd method for
 * convolution acceleration", 2020). Of d, (2 m + 1) x (2 m + 1) pixels, each line is transformed in
 * these two parts, for F(m, 2), at the same m + 1 points; at infinity there are no products of the one
 * tap. So each position sums the products of up to four parts of d and g, one behind the other along
 * the depth: (2 m + 1)^2 in all, where plain sums take 9 m^2, and what follows is as above, but for
 * m + 1 positions a line. F(2) interpolates at +-1 and infinity, F(4) at +-3/8, +-5/4 and infinity: of
 * all four with few bits those of the least error, 0.6 of that of F(4) with stride 1.
 *
 * With dilation d, pixels that lie d apart each way are images of their own, d^2 of them.
 *
 * All constants but those of G are exact in float32. */
#ifndef HWKIT_WINOGRAD_H
#define HWKIT_WINOGRAD_H

#include "amx_way.h"
#include "epilogue.h"
#include "run.h"

#include <stdint.h>

/* Kinds of m, taps and stride, and the most pixels that a tile sees. */
enum { HWKIT_WINOGRAD_KINDS = 6, HWKIT_WINOGRAD_MOST = 81 };

/* The transformations of one kind. Sizes and steps count elements. With Bt and G, of as many
 * lines as d, a line of d and of g becomes its parts: first that of every other pixel, if there are
 * two. */
typedef struct {
    int m, taps, stride;
    /* v[at[i] + c] = (Bt d B)[i], c < channels; pixels: pointers to the channels of d */
    void (*input)(const void *const *pixels, void *v, const int64_t *at, int64_t channels);
    /* u[at[i] + c * width + j] = (G g Gt)[i], c < channels, j < width, a multiple of VL; tap t is
     * w[t * tap + c * channel + j] */
    void (*weights)(const void *w, int64_t tap, int64_t channel, void *u, const int64_t *at,
                    int64_t channels, int width);
    /* pixels[i][c] = the epilogue of (At m A)[i], c < channels, but for pixels that are NULL; bias
     * is that of the first channel. Returns whether all are finite before the epilogue. */
    int (*output)(const void *m, int64_t step, void *const *pixels, int64_t channels,
                  const hwkit_epilogue *epilogue, const void *bias);
} hwkit_winograd_transform;

typedef struct {
    hwkit_winograd_transform of[HWKIT_WINOGRAD_KINDS];
} hwkit_winograd_kernels;

/* Operands of a run: x, w, then as far as there are: bias, residual. */
typedef struct {
    int64_t n, c, h, w, k, p, q; /* all at least 1; p x q is the output */
    int64_t top, left, groups;
    int nhwc, is_double, has_bias, has_residual;
    hwkit_activation act;
    int m, taps, stride; /* of a kind that there is */
    int64_t dilation;    /* of both axes; 1 but with stride 1 */
    hwkit_amx_way way;   /* no products: by multiply-adds; else products of float32 by tiles (AMX) */
    /* tunables */
    int rows, vectors; /* by multiply-adds: of the product's tile */
    int64_t kc;        /* and most channels that are summed in one go: less is more accurate */
    int64_t tiles;     /* of a block */
    int stages;        /* threads share a block, stage by stage; else each has blocks of its own */
    int threads;
} hwkit_winograd;

/* Whether there is such a kind. */
int hwkit_winograd_has(int m, int taps, int stride);

/* NULL if memory is short. The product's tile must be one that the table has, or the way one of float32. */
hwkit_plan *hwkit_winograd_plan(const hwkit_winograd *c);

#endif
