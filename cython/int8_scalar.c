/* Plain C; the compiler may use what the baseline has. */
#define HWKIT_TARGET_SCALAR
#include "int8_kernels.h"
#include "int8_rows.h"
#include "simd.h"

#define HWKIT_INT8_TILES(T) HWKIT_ROWS_4(T, 1) HWKIT_ROWS_4(T, 2)
#define HWKIT_INT8_VL 4
#define HWKIT_INT8_GROUP 1
#define HWKIT_INT8_A 2
#define HWKIT_TYPE i8
#include "int8_lowered.inc"
#include "int8.inc"

const hwkit_int8_kernels hwkit_int8_scalar = {
    .name = "scalar", .vl = HWKIT_INT8_VL, .group = HWKIT_INT8_GROUP, .a_size = HWKIT_INT8_A,
    .tiles = {HWKIT_INT8_TABLE}, .widen = NAME(widen), .flip = NAME(flip), .sum = NAME(sum),
    .depthwise = NAME(depthwise), .finish = NAME(finish),
};
