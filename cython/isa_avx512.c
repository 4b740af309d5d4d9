/* AVX-512 as of its first servers: F, BW, DQ, VL. */
#if defined(__x86_64__)
#define HWKIT_TARGET_AVX512
#include "isa.inc"

#ifdef HWKIT_LOWER_AVX512
#define HWKIT_NEEDS (HWKIT_AVX2 | HWKIT_FMA)
#else
#define HWKIT_NEEDS (HWKIT_AVX512F | HWKIT_AVX512BW | HWKIT_AVX512DQ | HWKIT_AVX512VL)
#endif

const hwkit_isa hwkit_isa_avx512 = {
    .name = "avx512",
    .features = HWKIT_NEEDS,
    .f32 = {.vl = 16, .gemm = &HWKIT_F32(gemm_kernels),
            .depthwise = &HWKIT_F32(depthwise_kernels),
            .elementwise = &HWKIT_F32(elementwise_kernels),
            .lrn = HWKIT_F32(lrn),
            .pool = &HWKIT_F32(pool_kernels),
            .strassen = &HWKIT_F32(strassen_kernels),
            .winograd = &HWKIT_F32(winograd_kernels),
            .probe = HWKIT_F32(probe)},
    .f64 = {.vl = 8, .gemm = &HWKIT_F64(gemm_kernels),
            .depthwise = &HWKIT_F64(depthwise_kernels),
            .elementwise = &HWKIT_F64(elementwise_kernels),
            .lrn = HWKIT_F64(lrn),
            .pool = &HWKIT_F64(pool_kernels),
            .strassen = &HWKIT_F64(strassen_kernels),
            .winograd = &HWKIT_F64(winograd_kernels),
            .probe = HWKIT_F64(probe)},
    .transpose = HWKIT_TRANSPOSE,
};
#else
#include "isa.h"

const hwkit_isa hwkit_isa_avx512 = {.name = "avx512"};
#endif
