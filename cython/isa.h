/* One table of kernels per instruction set; everything above it is compiled once. */
#ifndef HWKIT_ISA_H
#define HWKIT_ISA_H

#include "depthwise.h"
#include "gemm_kernels.h"
#include "pool2d.h"
#include "probe.h"
#include "winograd.h"

#include <stdint.h>

/* The kernels of one element type. */
typedef struct {
    int vl;                   /* elements of a vector; 0: this table is for another architecture */
    const hwkit_gemm_kernels *gemm;
    const hwkit_depthwise_kernels *depthwise;
    const hwkit_pool_kernels *pool;
    const hwkit_winograd_kernels *winograd;
    hwkit_probe_fn probe;
} hwkit_kernels;

typedef struct {
    const char *name;
    uint32_t features; /* bits of cpuinfo.h that the table needs */
    hwkit_kernels f32, f64;
} hwkit_isa;

extern const hwkit_isa hwkit_isa_scalar, hwkit_isa_avx2, hwkit_isa_avx512, hwkit_isa_neon;

/* The best table that the processor runs and HWKIT_MAX_ISA (scalar, avx2, avx512, neon; read once)
 * allows; never NULL. */
const hwkit_isa *hwkit_isa_get(void);

/* A table by name, whether it runs here or not; NULL if there is none of that name. */
const hwkit_isa *hwkit_isa_named(const char *name);

#endif
