/* Plain C for any processor; the compiler may use what the baseline has. */
#define HWKIT_TARGET_SCALAR
#include "isa.inc"

const hwkit_isa hwkit_isa_scalar = {
    .name = "scalar",
    .features = 0,
    .f32 = {.vl = 1, .gemm = &HWKIT_F32(gemm_kernels),
            .depthwise = &HWKIT_F32(depthwise_kernels),
            .elementwise = &HWKIT_F32(elementwise_kernels),
            .lrn = HWKIT_F32(lrn),
            .pool = &HWKIT_F32(pool_kernels),
            .strassen = &HWKIT_F32(strassen_kernels),
            .winograd = &HWKIT_F32(winograd_kernels),
            .probe = HWKIT_F32(probe)},
    .f64 = {.vl = 1, .gemm = &HWKIT_F64(gemm_kernels),
            .depthwise = &HWKIT_F64(depthwise_kernels),
            .elementwise = &HWKIT_F64(elementwise_kernels),
            .lrn = HWKIT_F64(lrn),
            .pool = &HWKIT_F64(pool_kernels),
            .strassen = &HWKIT_F64(strassen_kernels),
            .winograd = &HWKIT_F64(winograd_kernels),
            .probe = HWKIT_F64(probe)},
    .transpose = HWKIT_TRANSPOSE,
};
