/* Each element on its own: activate(x op other), with x as [b][n][c][l] and other as [b][c]. The struct
 * is filled once per plan, but for the pointers of a call. Sizes count elements. */
#ifndef HWKIT_ELEMENTWISE_H
#define HWKIT_ELEMENTWISE_H

#include "epilogue.h"
#include "run.h"

#include <stdint.h>

/* After the activations of an epilogue, those that only stand alone. Parameters are in `lo` and `hi`. */
enum {
    HWKIT_TANH = HWKIT_SILU + 1,
    HWKIT_EXP,
    HWKIT_ELU,          /* lo: factor of the exponential */
    HWKIT_HARD_SIGMOID, /* clamp(lo * x + hi, 0, 1) */
    HWKIT_ERF,
    HWKIT_GELU,
    HWKIT_GELU_TANH, /* the approximation by tanh */
    HWKIT_MISH,
    HWKIT_ACTIVATIONS
};

typedef enum {
    HWKIT_NO_OTHER,
    HWKIT_ADD,
    HWKIT_SUBTRACT,
    HWKIT_MULTIPLY,
    HWKIT_DIVIDE,
    HWKIT_MAXIMUM, /* numpy's: NaN if either is NaN */
    HWKIT_MINIMUM,
    HWKIT_PRELU, /* other is the slope of what is below 0 */
    HWKIT_OPERATORS
} hwkit_operator;

/* n elements; out may be x. */
typedef void (*hwkit_map_fn)(const void *x, void *out, int64_t n, const hwkit_activation *act);

/* `rows` of `length` elements, which lie together. `other` is one row for all of them; or with
 * `one_each` one element for each row. */
typedef void (*hwkit_join_fn)(const void *x, const void *other, void *out, int64_t rows,
                              int64_t length, int one_each);

typedef struct {
    hwkit_map_fn map[HWKIT_ACTIVATIONS];
    hwkit_join_fn join[HWKIT_OPERATORS]; /* the first is not used */
} hwkit_elementwise_kernels;

typedef struct {
    int64_t b, n, c, l;
    int is_double;
    hwkit_operator operator;
    hwkit_activation act;
    /* Tunables: elements of a task, most threads. */
    int64_t block;
    int threads;
} hwkit_elementwise;

/* A plan of the operands x and, with an operator, other. NULL if memory is short. */
hwkit_plan *hwkit_elementwise_plan(const hwkit_elementwise *d);

#endif
