/* Products of tiles by the processor's own. */
#include "amx.h"
#include "amx_kernels.h"

#if HWKIT_HAS_AMX
#define HWKIT_TARGET_AVX512
#include "simd.h"

HWKIT_TARGET_BEGIN
#include "amx_kernels.inc"
HWKIT_TARGET_END

const hwkit_amx_kernels *const hwkit_amx_real = &table;
#else
const hwkit_amx_kernels *const hwkit_amx_real = 0;
#endif
