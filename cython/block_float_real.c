/* Block floating point by the dot products of int16 of AVX512-VNNI. */
#include "block_float.h"
#include "isa.h"

#if defined(__x86_64__) && !defined(HWKIT_LOWER_AVX512)
#define HWKIT_TARGET_AVX512
#include "simd.h"
#undef HWKIT_TARGET
#define HWKIT_TARGET "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"

HWKIT_TARGET_BEGIN
#include "pairs_real.inc"
typedef float pairs_stored;
typedef __m512i pairs_sum;
static inline HWKIT_INLINE pairs_sum pairs_nothing(void) { return _mm512_setzero_si512(); }
static inline HWKIT_INLINE pairs_sum pairs_dot(pairs_sum c, pairs_word a, pairs_word b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
    return c;
}
static inline HWKIT_INLINE pairs_vec pairs_scaled(pairs_vec c, pairs_sum v, pairs_vec w, pairs_vec x)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(v) * w, x, c);
}
static inline HWKIT_INLINE pairs_vec pairs_wide(const float *p, int n)
{
    return n == 16 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline HWKIT_INLINE void pairs_round(float *p, pairs_vec v, int n)
{
    if (n == 16)
        _mm512_storeu_ps(p, v);
    else
        _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

/* ---- conversion -------------------------------------------------------------------------------- */

/* As many blocks at once as a vector has lanes, for one square root and division of all. */
enum { AT_ONCE = 16 };

typedef struct {
    const float *from[AT_ONCE];
    char *to[AT_ONCE];
    uint32_t terms[AT_ONCE]; /* which terms there are, a bit each */
} group;

/* v[i] = what(of the elements of v[i]) in lane i of the result */
#define REDUCE(what)                                                                               \
    do {                                                                                           \
        HWKIT_UNROLL                                                                               \
        for (int i = 0; i < 8; i++)                                                                \
            v[i] = what(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),                                \
                        _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));                               \
        HWKIT_UNROLL                                                                               \
        for (int i = 0; i < 4; i++) {                                                              \
            const __m512d a = (__m512d)v[2 * i], b = (__m512d)v[2 * i + 1];                        \
            v[i] = what((__m512)_mm512_unpacklo_pd(a, b), (__m512)_mm512_unpackhi_pd(a, b));       \
        }                                                                                          \
        HWKIT_UNROLL                                                                               \
        for (int i = 0; i < 2; i++)                                                                \
            v[i] = what(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x88),                        \
                        _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xdd));                       \
        v[0] = what(_mm512_shuffle_f32x4(v[0], v[1], 0x88),                                        \
                    _mm512_shuffle_f32x4(v[0], v[1], 0xdd));                                       \
    } while (0)

/* Terms of a block in two halves; `full` says that all blocks have 32. */
#define HALVES(g, l)                                                                               \
    const float *from = (g)->from[l];                                                              \
    const __mmask16 m0 = (__mmask16)(g)->terms[l], m1 = (__mmask16)((g)->terms[l] >> 16);          \
    const __m512 low = full ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(m0, from);             \
    const __m512 high = full ? _mm512_loadu_ps(from + 16)                                          \
                             : _mm512_maskz_loadu_ps(m1, m1 ? from + 16 : from)

static inline HWKIT_INLINE __m512 squares_of(const group *g, const int full)
{
    __m512 v[AT_ONCE];
    HWKIT_UNROLL
    for (int l = 0; l < AT_ONCE; l++) {
        HALVES(g, l);
        v[l] = _mm512_fmadd_ps(high, high, low * low);
    }
    REDUCE(_mm512_add_ps);
    return v[0];
}

/* The largest magnitudes, of numbers only. */
static inline HWKIT_INLINE __m512 most_of(const group *g, const int full)
{
    enum { LARGER_MAGNITUDE = 11 };
    __m512 v[AT_ONCE];
    HWKIT_UNROLL
    for (int l = 0; l < AT_ONCE; l++) {
        HALVES(g, l);
        v[l] = _mm512_range_ps(low, high, LARGER_MAGNITUDE);
    }
    REDUCE(_mm512_max_ps);
    return v[0];
}

/* The blocks of a group, of which `count` are to be looked at again where squares do not do. */
static inline HWKIT_INLINE int convert_group(const group *g, int count, const int pairs,
                                             const int full)
{
    const __m512i in_order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    float times[AT_ONCE], units[AT_ONCE];
    const __m512 squares = squares_of(g, full), most = most_of(g, full);
    const __m512 unit =
        _mm512_max_ps(_mm512_sqrt_ps(squares) * _mm512_set1_ps(1.0f / HWKIT_BLOCK_FLOAT_NORM),
                      most * _mm512_set1_ps(1.0f / HWKIT_BLOCK_FLOAT_MOST));
    _mm512_storeu_ps(times, _mm512_set1_ps(1) / unit);
    _mm512_storeu_ps(units, unit);
    for (int l = 0; l < AT_ONCE; l++) {
        HALVES(g, l);
        const __m512 scale = _mm512_set1_ps(times[l]);
        const __m512i rounded = _mm512_permutexvar_epi64(
            in_order, _mm512_packs_epi32(_mm512_cvtps_epi32(low * scale),
                                         _mm512_cvtps_epi32(high * scale)));
        if (full)
            _mm512_storeu_si512(g->to[l], rounded);
        else
            _mm512_mask_storeu_epi32(g->to[l], (__mmask16)((1u << pairs) - 1), rounded);
        memcpy(g->to[l] + pairs * 4, units + l, sizeof *units);
    }
    /* squares that keep clear of denormal numbers, and are as those of float32 can be */
    uint32_t apart = 0xffff & ~(_mm512_cmp_ps_mask(squares, _mm512_set1_ps(0x1p-110f), _CMP_GE_OQ) &
                                _mm512_cmp_ps_mask(squares, _mm512_set1_ps(0x1p100f), _CMP_LE_OQ));
    int good = 1;
    for (apart &= (1u << count) - 1; apart; apart &= apart - 1) {
        const int l = __builtin_ctz(apart);
        HALVES(g, l);
        const __m512i bits = _mm512_or_si512((__m512i)low, (__m512i)high);
        if (!_mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x7fffffff)))
            memset(g->to[l], 0, (size_t)(pairs + 1) * 4);
        else
            good &= hwkit_block_float_block(pairs, g->to[l], from,
                                            __builtin_popcount(g->terms[l]));
    }
    return good;
}

static int convert(const hwkit_block_float *f, void *to, const float *from, int64_t step,
                   int64_t count)
{
    const int pairs = f->pairs, terms = 2 * pairs, full = f->terms == f->blocks * 32;
    const int rest = (int)(f->terms - (f->blocks - 1) * terms);
    const uint32_t all = (uint32_t)((UINT64_C(1) << terms) - 1);
    const uint32_t last = (uint32_t)((UINT64_C(1) << rest) - 1);
    char *at = to;
    group g;
    int some = 0, good = 1;
    for (int64_t i = 0; i < count; i++, from += step) {
        for (int64_t b = 0; b < f->blocks; b++, at += (pairs + 1) * 4) {
            g.from[some] = from + b * terms;
            g.to[some] = at;
            g.terms[some++] = b + 1 < f->blocks ? all : last;
            if (some < AT_ONCE && (i + 1 < count || b + 1 < f->blocks))
                continue;
            /* What is missing in the last group is its first block again. */
            for (int l = some; l < AT_ONCE; l++) {
                g.from[l] = g.from[0];
                g.to[l] = g.to[0];
                g.terms[l] = g.terms[0];
            }
            good &= full ? convert_group(&g, some, 16, 1)
                         : convert_group(&g, some, pairs, 0);
            some = 0;
        }
    }
    return good;
}

#define PAIRS_TILE_FUNCTION inline HWKIT_INLINE
#include "block_float.inc"
HWKIT_TARGET_END

const hwkit_block_float_kernels *const hwkit_block_float_real = &table;
#else
const hwkit_block_float_kernels *const hwkit_block_float_real = 0;
#endif
