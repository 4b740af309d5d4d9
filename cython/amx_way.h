/* How products by tiles multiply; what plans of products and convolutions are told. */
#ifndef HWKIT_AMX_WAY_H
#define HWKIT_AMX_WAY_H

#include "half.h"

typedef struct {
    int products;    /* of terms, see amx_kernels.h: bfloat16 1, float16 3 or 4, float32 1, 3 or 6 */
    hwkit_half half; /* how operands are stored */
    int pairs;       /* by the dot products of AVX512-BF16 instead of tiles; one product only */
} hwkit_amx_way;

#endif
