/* What happens to an accumulator on its way to memory:
 * activate(alpha * acc + beta * addend + bias + residual). */
#ifndef HWKIT_EPILOGUE_H
#define HWKIT_EPILOGUE_H

#include <stdint.h>

typedef enum {
    HWKIT_IDENTITY,
    HWKIT_CLAMP, /* relu, relu6 and clip: NaN stays NaN */
    HWKIT_LEAKY_RELU,
    HWKIT_SIGMOID,
    HWKIT_HARD_SWISH,
    HWKIT_SILU,
} hwkit_activation_kind;

typedef struct {
    int kind;      /* hwkit_activation_kind */
    double lo, hi; /* bounds of HWKIT_CLAMP; lo is the slope of HWKIT_LEAKY_RELU */
} hwkit_activation;

typedef struct {
    hwkit_activation act;
    double alpha, beta;
    const void *out;      /* start of the result; addend and residual are laid out like it */
    const void *addend;   /* NULL: none */
    const void *residual; /* NULL: none */
    const void *bias;     /* NULL: none */
    int bias_per_row;     /* otherwise one value for each column */
} hwkit_epilogue;

#endif
