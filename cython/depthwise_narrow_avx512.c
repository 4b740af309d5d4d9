/* Depthwise windows of float16 and bfloat16 by AVX-512, see depthwise_narrow.inc. */
#include "depthwise.h"

#if defined(__x86_64__) && !defined(HWKIT_LOWER_AVX512)
#define HWKIT_TARGET_AVX512
#include "simd.h"
#undef HWKIT_TARGET
#define HWKIT_TARGET "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors cross only functions that are inlined */
#endif

HWKIT_TARGET_BEGIN

#include "simd.inc"
#include "half_512.inc"
#include "depthwise_narrow.inc"

HWKIT_TARGET_END

const hwkit_depthwise_narrow_kernels hwkit_depthwise_narrow_avx512 = {NAME(dw_f16_windows),
                                                                 NAME(dw_bf16_windows),
                                                                 NAME(dw_pairs_windows)};
#else
const hwkit_depthwise_narrow_kernels hwkit_depthwise_narrow_avx512 = {0};
#endif
