/* One vector type under one set of names for every instruction set. The only file with #if for
 * them, with simd.inc. An isa_*.c defines HWKIT_TARGET_..., then isa.inc includes simd.inc once for
 * each element type, with HWKIT_DOUBLE or without.
 *
 *   real, vec, VL        element, vector, elements of a vector
 *   NAME(x)              x_f32_avx2 and the like: nothing leaks from one instruction set to another
 *   v_set(x)             all elements x
 *   v_halves(a, b)       the first half of the elements a, the others b
 *   v_load(p), v_store(p, v)            p need not be aligned
 *   v_stream(p, v)       v_store past the caches, p aligned; v_stream_end() before others read it
 *   v_load_n(p, n), v_store_n(p, v, n)  the first n of VL elements, 0 < n <= VL; others load as 0
 *   v_lanes, v_lanes_between(from, to)  the lanes from, ..., to - 1 for 0 <= from, to <= VL
 *   v_load_lanes(p, at, lanes)          of p + at; the other lanes are 0, and not read
 *   v_load_over(v, p, at, lanes)        the same, but the other lanes are those of v
 *   v_store_lanes(p, at, v, lanes)      to p + at, these lanes only
 *   v_fma(a, b, c)       a * b + c, one rounding where the processor has it
 *   v_half, v_half_set, v_half_load, v_half_fma   the same of half a vector
 *   v_half_wide(h)       a vector that begins with h; its other elements are anything
 *   v_fma_half(a, b, c)  v_fma of the first half; the other elements are anything
 *   v_max(a, b)          the larger one; either of them if one is NaN
 *   v_max_nan, v_min_nan numpy's maximum and minimum: NaN if either is NaN
 *   v_clamp(v, lo, hi)   NaN stays NaN; lo and hi are numbers
 *   v_below(a, b, x, y)  a < b ? x : y
 *   v_sqrt(v)            square roots, rounded once
 *   v_sum(v)             of all elements
 *   v_sum_four(sums, v)  sums[i] = v_sum(v[i]), i < 4, in another order
 *   v_scale(n)           2^i, where i are the low bits of the mantissa of n, see v_exp
 * Beside these, + - * / work on vec.
 *   V_MASKS              whether v_load_n and v_store_n take hardly longer than v_load and v_store
 *   HWKIT_HALF_VECTORS   defined where v_fma_half takes half the time of v_fma; elsewhere halves are whole */

#ifndef HWKIT_SIMD_H
#define HWKIT_SIMD_H

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define HWKIT_INLINE __attribute__((always_inline, unused))
#define HWKIT_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define HWKIT_UNROLL _Pragma("unroll")
#define HWKIT_NO_UNROLL _Pragma("nounroll")
#else
#define HWKIT_UNROLL _Pragma("GCC unroll 64")
#define HWKIT_NO_UNROLL _Pragma("GCC unroll 1")
#endif
#define HWKIT_PASTE_(a, b, c) a##_##b##_##c
#define HWKIT_PASTE(a, b, c) HWKIT_PASTE_(a, b, c)
#define NAME(x) HWKIT_PASTE(x, HWKIT_TYPE, HWKIT_ISA)

/* Functions between HWKIT_TARGET_BEGIN and HWKIT_TARGET_END may use the instruction set; the build
 * itself has no machine flags. gcc and clang spell it differently, and each fails on the other's. */
#if defined(HWKIT_TARGET_AVX2)
#define HWKIT_ISA avx2
#define HWKIT_BYTES 32
#define HWKIT_TARGET "avx2,fma"
#define HWKIT_HERE __x86_64__
#elif defined(HWKIT_TARGET_AVX512)
#define HWKIT_ISA avx512
#define HWKIT_BYTES 64
/* HWKIT_LOWER_AVX512 is for tests only: the 512-bit algorithm, lowered by the compiler onto AVX2. */
#ifdef HWKIT_LOWER_AVX512
#define HWKIT_TARGET "avx2,fma"
#else
#define HWKIT_TARGET "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"
#endif
#elif defined(HWKIT_TARGET_NEON)
#define HWKIT_ISA neon
#define HWKIT_BYTES 16
#else
#define HWKIT_ISA scalar
#define HWKIT_BYTES 0
#endif

#define V_MASKS (HWKIT_BYTES == 64)

#ifndef HWKIT_TARGET
#define HWKIT_TARGET_BEGIN
#define HWKIT_TARGET_END
#elif defined(__clang__)
#define HWKIT_CLANG_PUSH(t)                                                                        \
    HWKIT_PRAGMA(clang attribute push(__attribute__((target(t))), apply_to = function))
#define HWKIT_TARGET_BEGIN HWKIT_CLANG_PUSH(HWKIT_TARGET)
#define HWKIT_TARGET_END _Pragma("clang attribute pop")
#else
#define HWKIT_GCC_PUSH(t) _Pragma("GCC push_options") HWKIT_PRAGMA(GCC target(t))
#define HWKIT_TARGET_BEGIN HWKIT_GCC_PUSH(HWKIT_TARGET)
#define HWKIT_TARGET_END _Pragma("GCC pop_options")
#endif

#define real NAME(real)
#define vec NAME(vec)
#define v_int NAME(v_int)
#define v_loose NAME(v_loose)
#define v_set NAME(v_set)
#define v_halves NAME(v_halves)
#define v_load NAME(v_load)
#define v_store NAME(v_store)
#define v_stream NAME(v_stream)
#define v_stream_end NAME(v_stream_end)
#define v_load_n NAME(v_load_n)
#define v_store_n NAME(v_store_n)
#define v_lanes NAME(v_lanes)
#define v_lanes_between NAME(v_lanes_between)
#define v_load_lanes NAME(v_load_lanes)
#define v_load_over NAME(v_load_over)
#define v_store_lanes NAME(v_store_lanes)
#define v_fma NAME(v_fma)
#define v_half NAME(v_half)
#define v_half_set NAME(v_half_set)
#define v_half_load NAME(v_half_load)
#define v_half_fma NAME(v_half_fma)
#define v_fma_half NAME(v_fma_half)
#define v_half_wide NAME(v_half_wide)
#define v_max NAME(v_max)
#define v_max_nan NAME(v_max_nan)
#define v_min_nan NAME(v_min_nan)
#define v_clamp NAME(v_clamp)
#define v_below NAME(v_below)
#define v_sqrt NAME(v_sqrt)
#define v_sum NAME(v_sum)
#define v_sum_four NAME(v_sum_four)
#define v_scale NAME(v_scale)

#endif
