/* The same products by tiles in plain C, for tests on any processor. */
#define HWKIT_AMX_EMULATED
#include "amx.h"
#define HWKIT_TARGET_SCALAR
#include "int8_kernels.h"
#include "simd.h"

#include "int8_amx.inc"

const hwkit_int8_tiles *const hwkit_int8_amx_twin = tables;
