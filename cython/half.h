/* float16 and bfloat16 to float32 and back. Round to nearest even; NaN stays NaN (quiet, with the
 * upper bits of its payload), subnormals are exact. Sizes count elements. */
#ifndef HWKIT_HALF_H
#define HWKIT_HALF_H

#include <stdint.h>

void hwkit_f16_to_f32(const uint16_t *src, float *dst, int64_t n);
void hwkit_f32_to_f16(const float *src, uint16_t *dst, int64_t n);
void hwkit_bf16_to_f32(const uint16_t *src, float *dst, int64_t n);
void hwkit_f32_to_bf16(const float *src, uint16_t *dst, int64_t n);

/* The same by bit arithmetic only, whatever the processor has; what the others are tested against. */
void hwkit_f16_to_f32_portable(const uint16_t *src, float *dst, int64_t n);
void hwkit_f32_to_f16_portable(const float *src, uint16_t *dst, int64_t n);

/* Any of the four above, split over threads. */
enum { HWKIT_F16_TO_F32, HWKIT_F32_TO_F16, HWKIT_BF16_TO_F32, HWKIT_F32_TO_BF16 };
void hwkit_half_convert(int which, const void *src, void *dst, int64_t n, int threads);

#endif
