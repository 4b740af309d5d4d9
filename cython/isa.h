/* One table of kernels per instruction set; everything above it is compiled once. */
#ifndef HWKIT_ISA_H
#define HWKIT_ISA_H

#include "depthwise.h"
#include "elementwise.h"
#include "gemm_kernels.h"
#include "lrn.h"
#include "pool2d.h"
#include "probe.h"
#include "strassen.h"
#include "transpose.h"
#include "winograd.h"

#include <stdint.h>

/* The kernels of one element type. */
typedef struct {
    int vl;                   /* elements of a vector; 0: this table is for another architecture */
    const hwkit_gemm_kernels *gemm;
    const hwkit_depthwise_kernels *depthwise;
    const hwkit_elementwise_kernels *elementwise;
    hwkit_lrn_fn lrn;
    const hwkit_pool_kernels *pool;
    const hwkit_strassen_kernels *strassen;
    const hwkit_winograd_kernels *winograd;
    hwkit_probe_fn probe;
} hwkit_kernels;

typedef struct {
    const char *name;
    uint32_t features; /* bits of cpuinfo.h that the table needs */
    hwkit_kernels f32, f64;
    const hwkit_transpose_kernels *transpose[4]; /* for elements of 1, 2, 4 and 8 bytes */
} hwkit_isa;

extern const hwkit_isa hwkit_isa_scalar, hwkit_isa_avx2, hwkit_isa_avx512, hwkit_isa_neon;

/* The best table that the processor runs and HWKIT_MAX_ISA (scalar, avx2, avx512, neon; read once)
 * allows; never NULL. */
const hwkit_isa *hwkit_isa_get(void);

/* Products of tiles and of pairs of bfloat16 stand beside the table, which does all the rest. */
typedef enum {
    HWKIT_AMX_NONE,
    HWKIT_AMX_TWIN, /* in plain C: HWKIT_EMULATE_AMX is 1 and HWKIT_MAX_ISA amx or not set */
    HWKIT_AMX_REAL, /* the processor has tiles of bfloat16 and int8, HWKIT_MAX_ISA is amx or not set,
                       and the system lets this process use them */
} hwkit_amx_kind;

/* Decided on the first call, together with the table. */
hwkit_amx_kind hwkit_amx(void);

/* The same of the dot products of AVX512-BF16, which HWKIT_MAX_ISA=avx512 leaves as well. */
hwkit_amx_kind hwkit_pairs(void);

/* The same of those of int16 of AVX512-VNNI. */
hwkit_amx_kind hwkit_vnni(void);

/* "amx", "amx-emulated", "avx512bf16-emulated", or the name of the table. */
const char *hwkit_isa_name(void);

/* A table by name, whether it runs here or not; NULL if there is none of that name. */
const hwkit_isa *hwkit_isa_named(const char *name);

#endif
