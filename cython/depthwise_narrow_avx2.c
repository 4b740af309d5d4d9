/* Depthwise windows of float16 and bfloat16 by AVX2 and F16C, see depthwise_narrow.inc. */
#include "depthwise.h"

#if defined(__x86_64__)
#define HWKIT_TARGET_AVX2
#include "simd.h"
#undef HWKIT_TARGET
#define HWKIT_TARGET "avx2,fma,f16c"

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors cross only functions that are inlined */
#endif

HWKIT_TARGET_BEGIN

#include "simd.inc"
#include "half_256.inc"
#include "depthwise_narrow.inc"

HWKIT_TARGET_END

const hwkit_depthwise_narrow_kernels hwkit_depthwise_narrow_avx2 = {NAME(dw_f16_windows),
                                                                 NAME(dw_bf16_windows), NULL};
#else
const hwkit_depthwise_narrow_kernels hwkit_depthwise_narrow_avx2 = {0};
#endif
