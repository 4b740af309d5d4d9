/* The same products by tiles in plain C, for tests on any processor. */
#define HWKIT_AMX_EMULATED
#include "amx.h"
#include "amx_kernels.h"

#include "amx_kernels.inc"

const hwkit_amx_kernels *const hwkit_amx_twin = &table;
