/* NEON: multiply-add of int16 into int32, and the dot product of four bytes where there is one. */
#include "int8_kernels.h"

#if defined(__aarch64__)
#define HWKIT_TARGET_NEON
#include "cpuinfo.h"
#include "int8_rows.h"
#include "simd.h"

/* 24 accumulators, four vectors of weights, one of x, of 32 registers */
#define HWKIT_INT8_TILES(T) HWKIT_ROWS_6(T, 1) HWKIT_ROWS_6(T, 2)
#define HWKIT_INT8_VL 8

typedef struct {
    int32x4_t low, high;
} two;
static inline HWKIT_INLINE two two_zero(void) { return (two){vdupq_n_s32(0), vdupq_n_s32(0)}; }
static inline HWKIT_INLINE two two_load(const int32_t *p)
{
    return (two){vld1q_s32(p), vld1q_s32(p + 4)};
}
static inline HWKIT_INLINE void two_store(int32_t *p, two v)
{
    vst1q_s32(p, v.low);
    vst1q_s32(p + 4, v.high);
}

#define HWKIT_TYPE i8
#define HWKIT_INT8_GROUP 1
#define HWKIT_INT8_A 2
typedef two NAME(acc);
typedef int16x8_t NAME(avec), NAME(bvec);
#define HWKIT_INT8_SHARED                                                                          \
    static inline HWKIT_INLINE two NAME(acc_zero)(void) { return two_zero(); }                     \
    static inline HWKIT_INLINE two NAME(acc_load)(const int32_t *p) { return two_load(p); }        \
    static inline HWKIT_INLINE void NAME(acc_store)(int32_t *p, two v) { two_store(p, v); }
HWKIT_INT8_SHARED
static inline HWKIT_INLINE int16x8_t NAME(a_set)(const char *p)
{
    return vld1q_dup_s16((const int16_t *)p);
}
static inline HWKIT_INLINE int16x8_t NAME(b_wide)(const char *p)
{
    return vld1q_s16((const int16_t *)p);
}
static inline HWKIT_INLINE int16x8_t NAME(b_narrow)(const char *p)
{
    return vmovl_s8(vld1_s8((const int8_t *)p));
}
static inline HWKIT_INLINE two NAME(dot)(two acc, int16x8_t a, int16x8_t b)
{
    return (two){vmlal_s16(acc.low, vget_low_s16(a), vget_low_s16(b)),
                 vmlal_high_s16(acc.high, a, b)};
}
#include "int8.inc"

const hwkit_int8_kernels hwkit_int8_neon = {
    .name = "neon", .vl = HWKIT_INT8_VL, .group = HWKIT_INT8_GROUP, .a_size = HWKIT_INT8_A,
    .tiles = {HWKIT_INT8_TABLE}, .widen = NAME(widen), .flip = NAME(flip), .sum = NAME(sum),
    .depthwise = NAME(depthwise), .finish = NAME(finish),
};

#undef HWKIT_TYPE
#undef HWKIT_INT8_GROUP
#undef HWKIT_INT8_A
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define HWKIT_TYPE dot
#define HWKIT_INT8_GROUP 4
#define HWKIT_INT8_A 1
#define HWKIT_INT8_A_SIGNED 1
typedef two NAME(acc);
typedef int8x16_t NAME(avec);
typedef int8x16x2_t NAME(bvec);
HWKIT_INT8_SHARED
static inline HWKIT_INLINE int8x16_t NAME(a_set)(const char *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
static inline HWKIT_INLINE int8x16x2_t NAME(b_narrow)(const char *p)
{
    const int8_t *at = (const int8_t *)p;
    return (int8x16x2_t){{vld1q_s8(at), vld1q_s8(at + 16)}};
}
static inline HWKIT_INLINE two NAME(dot)(two acc, int8x16_t a, int8x16x2_t b)
{
    return (two){vdotq_s32(acc.low, b.val[0], a), vdotq_s32(acc.high, b.val[1], a)};
}
#include "int8.inc"

const hwkit_int8_kernels hwkit_int8_dotprod = {
    .name = "dotprod", .features = HWKIT_DOTPROD, .vl = HWKIT_INT8_VL, .group = HWKIT_INT8_GROUP,
    .a_size = HWKIT_INT8_A, .a_signed = HWKIT_INT8_A_SIGNED, .tiles = {HWKIT_INT8_TABLE},
    .widen = NAME(widen), .flip = NAME(flip), .sum = NAME(sum), .depthwise = NAME(depthwise),
    .finish = NAME(finish),
};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
const hwkit_int8_kernels hwkit_int8_neon = {.name = "neon"};
const hwkit_int8_kernels hwkit_int8_dotprod = {.name = "dotprod"};
#endif
