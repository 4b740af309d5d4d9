/* Matrix products by tiles; gemm.c plans and runs them. */
#ifndef HWKIT_AMX_GEMM_H
#define HWKIT_AMX_GEMM_H

#include "amx_blocks.h"
#include "epilogue.h"

#include <stdint.h>

typedef struct {
    hwkit_amx_maker maker;
    int64_t m, n, k, lda, ldb;
    int transpose_a, transpose_b;
    int64_t kc, mc, nc; /* blocks: whole steps of depth, whole panels of rows and columns */
    int threads;
} hwkit_amx_gemm;

/* Blocks within the sizes, in whole units. */
void hwkit_amx_gemm_even(hwkit_amx_gemm *g);

/* B packed as a whole, beforehand. */
int64_t hwkit_amx_packed_bytes(const hwkit_amx_gemm *g);
int hwkit_amx_pack(const hwkit_amx_gemm *g, void *packed, const void *b);

/* Panel number `panel` of it alone; `b` is its first column, and `turn` has room for 2 x 32 x kc float32 if
 * B is transposed. */
void hwkit_amx_pack_panel(const hwkit_amx_gemm *g, void *packed, int64_t panel, const void *b,
                          float *turn);

/* One panel of what they made, over block number `index` of the depth. */
hwkit_amx_panel hwkit_amx_panel_at(const hwkit_amx_gemm *g, char *packed, int64_t panel,
                                   int64_t index);

/* Scratch memory of a run, all threads together. */
int64_t hwkit_amx_workspace(const hwkit_amx_gemm *g, int packed);

/* `b` or `packed` is NULL. Returns HWKIT_OK or HWKIT_NO_MEMORY. */
int hwkit_amx_product(const hwkit_amx_gemm *g, const void *a, const void *b, const void *packed,
                      void *out, const hwkit_epilogue *epilogue);

#endif
