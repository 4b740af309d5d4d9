/* Weights of 8-bit products in panels, and the sums and extras that lie behind them. */
#ifndef HWKIT_INT8_PACK_H
#define HWKIT_INT8_PACK_H

#include "int8_plan.h"

/* All weights of a product into p->w_bytes at `to`; 0 if memory is short. */
int hwkit_int8_pack(const plan *p, void *to, const void *w, const void *zeros, int threads);

/* Bytes that a thread needs for that. */
int64_t hwkit_int8_packing_bytes(const plan *p);

/* All weights of a depthwise convolution, their zero points subtracted. */
void hwkit_int8_pack_depthwise(const plan *p, int16_t *to, const uint8_t *w, const void *zeros);

/* The same for quads, and how many bytes that are at most. */
void hwkit_int8_pack_quads(const plan *p, void *to, const uint8_t *w, const void *zeros);
int64_t hwkit_int8_quads_bytes(const plan *p);

/* The sum of the weights of each output channel; weights of depthwise in int16 have none. */
static inline int32_t *hwkit_int8_sums(const plan *p, void *packed)
{
    const int64_t at = p->g.depthwise ? HWKIT_INT8_QUAD : p->g.groups * p->group_bytes;
    return (int32_t *)(void *)((char *)packed + at);
}

/* How many extras packed weights need; see int8_kernels.h. */
int64_t hwkit_int8_count_extras(const plan *p, char *packed);

/* Make room for p->extras: p->w_bytes grows. */
void hwkit_int8_lay_out_extras(plan *p);

/* Move what is too much in packed weights to their extras. */
void hwkit_int8_move_extras(const plan *p, char *packed);

/* Where extras lie: those of vector v are [from[v], from[v + 1]). */
typedef struct {
    int64_t *from;
    hwkit_int8_extra *extras;
    int8_t *weights;
} extra_space;

extra_space hwkit_int8_extras_of(const plan *p, char *packed);

#endif
