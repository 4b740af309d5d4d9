/* NEON of AArch64. */
#if defined(__aarch64__)
#define HWKIT_TARGET_NEON
#include "isa.inc"

const hwkit_isa hwkit_isa_neon = {
    .name = "neon",
    .features = HWKIT_NEON,
    .f32 = {.vl = 4, .gemm = &HWKIT_F32(gemm_kernels),
            .depthwise = &HWKIT_F32(depthwise_kernels),
            .elementwise = &HWKIT_F32(elementwise_kernels),
            .lrn = HWKIT_F32(lrn),
            .pool = &HWKIT_F32(pool_kernels),
            .strassen = &HWKIT_F32(strassen_kernels),
            .winograd = &HWKIT_F32(winograd_kernels),
            .probe = HWKIT_F32(probe)},
    .f64 = {.vl = 2, .gemm = &HWKIT_F64(gemm_kernels),
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

const hwkit_isa hwkit_isa_neon = {.name = "neon"};
#endif
