/* Products of bytes by the processor's own tiles. */
#include "amx.h"
#include "int8_kernels.h"

#if HWKIT_HAS_AMX
#define HWKIT_TARGET_AVX512
#include "simd.h"

HWKIT_TARGET_BEGIN
#include "int8_amx.inc"
HWKIT_TARGET_END

const hwkit_int8_tiles *const hwkit_int8_amx_real = tables;
#else
const hwkit_int8_tiles *const hwkit_int8_amx_real = 0;
#endif
