/* float16 and bfloat16 to float32 and back. Round to nearest even; NaN stays NaN (quiet, with the
 * upper bits of its payload), subnormals are exact. Sizes count elements. */
#ifndef HWKIT_HALF_H
#define HWKIT_HALF_H

#include "run.h"

#include <stdint.h>

void hwkit_f16_to_f32(const uint16_t *src, float *dst, int64_t n);
void hwkit_f32_to_f16(const float *src, uint16_t *dst, int64_t n);
void hwkit_bf16_to_f32(const uint16_t *src, float *dst, int64_t n);
void hwkit_f32_to_bf16(const float *src, uint16_t *dst, int64_t n);

/* The same by bit arithmetic only, whatever the processor has; what the others are tested against. */
void hwkit_f16_to_f32_portable(const uint16_t *src, float *dst, int64_t n);
void hwkit_f32_to_f16_portable(const float *src, uint16_t *dst, int64_t n);

/* How an operand is stored; all arithmetic is in float32. */
typedef enum { HWKIT_HALF_NONE, HWKIT_HALF_F16, HWKIT_HALF_BF16 } hwkit_half;

/* n elements that lie together. */
void hwkit_half_widen_row(hwkit_half type, const uint16_t *narrow, float *wide, int64_t n);
void hwkit_half_round_row(hwkit_half type, const float *wide, uint16_t *narrow, int64_t n);

/* The same, split over threads. */
void hwkit_half_widen(hwkit_half type, const void *narrow, float *wide, int64_t n, int threads);
void hwkit_half_round(hwkit_half type, const float *wide, void *narrow, int64_t n, int threads);

/* Rows and channels of one image of a batch. */
typedef struct {
    int64_t image, y0, y1, c0, c1;
} hwkit_half_part;

/* A batch of images that is stored narrow, in either layout. */
typedef struct {
    hwkit_half type;
    int nhwc;
    int64_t channels, height, width;
} hwkit_half_images;

/* A part to or from an image of its own that has nothing else, in the same layout. By one thread. */
void hwkit_half_widen_part(const hwkit_half_images *images, const void *narrow,
                           const hwkit_half_part *part, float *wide);
void hwkit_half_round_part(const hwkit_half_images *images, const float *wide, void *narrow,
                           const hwkit_half_part *part);

/* A plan that widens `count` operands, runs `inner`, which must outlive it, and rounds the result;
 * sizes of the operands, then of the result. NULL if memory is short. */
hwkit_plan *hwkit_half_plan(const hwkit_plan *inner, hwkit_half type, int count,
                            const int64_t *sizes, int threads);

/* Images are widened in pieces of about so many bytes, which stay in the second cache. */
enum { HWKIT_HALF_PIECE = 256 << 10 };

#endif
