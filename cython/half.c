/* Conversions are bound by memory; F16C with 256 bits is enough for every x86 that has it.
 *
 * No products in AVX512-FP16: sums of 11 bits err by 3.8e-4 in blocks of four (4.9e-4 are allowed) and by
 * 9e-3 as one sum of 4096, they overflow, and blocks take more instructions than float32 with FMA. */
#include "half.h"

#include "bits.h"
#include "cpuinfo.h"
#include "isa.h"
#include "threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { PIECE = 1 << 14 }; /* elements per task: 96 KiB in and out, a few microseconds */

static float one_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31;
    uint32_t fraction = half & 1023;
    if (exponent == 31) /* infinity, or NaN made quiet */
        return hwkit_float(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
    if (exponent == 0) /* the product is a normal float, so flushing modes do no harm */
        return hwkit_float(sign | hwkit_bits((float)fraction * 0x1p-24f));
    return hwkit_float(sign | (exponent + 112) << 23 | fraction << 13);
}

static uint16_t one_f32_to_f16(float value)
{
    uint32_t bits = hwkit_bits(value), sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x47800000) /* 65536 and above */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) /* below 2**-14: adding 0.5 rounds at 2**-24, the unit of subnormals */
        return (uint16_t)(sign | (hwkit_bits(hwkit_float(bits) + 0.5f) - 0x3f000000));
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - (112u << 23)) >> 13);
}

static uint16_t one_f32_to_bf16(float value)
{
    uint32_t bits = hwkit_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void hwkit_f16_to_f32_portable(const uint16_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = one_f16_to_f32(src[i]);
}

void hwkit_f32_to_f16_portable(const float *src, uint16_t *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = one_f32_to_f16(src[i]);
}

#if defined(__x86_64__)

/* The bound that HWKIT_MAX_ISA sets holds for conversions too. */
static int wide(void)
{
    const uint32_t need = HWKIT_AVX2 | HWKIT_F16C;
    return (hwkit_cpu()->bits & need) == need && hwkit_isa_get() != &hwkit_isa_scalar;
}

__attribute__((target("avx2,f16c"))) static int64_t f16_to_f32_wide(const uint16_t *src, float *dst,
                                                                  int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + i))));
    return i;
}

__attribute__((target("avx2,f16c"))) static int64_t f32_to_f16_wide(const float *src, uint16_t *dst,
                                                                  int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(dst + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}

__attribute__((target("avx2"))) static int64_t bf16_to_f32_wide(const uint16_t *src, float *dst,
                                                              int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(src + i)));
        _mm256_storeu_si256((__m256i *)(dst + i), _mm256_slli_epi32(v, 16));
    }
    return i;
}

/* Eight floats to the upper halves of eight words, rounded. */
__attribute__((target("avx2"))) static __m256i round_bf16(const float *src)
{
    __m256 value = _mm256_loadu_ps(src);
    __m256i bits = _mm256_castps_si256(value);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256 nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, _mm256_castps_si256(nan)), 16);
}

__attribute__((target("avx2"))) static int64_t f32_to_bf16_wide(const float *src, uint16_t *dst,
                                                              int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i both = _mm256_packus_epi32(round_bf16(src + i), round_bf16(src + i + 8));
        _mm256_storeu_si256((__m256i *)(dst + i), _mm256_permute4x64_epi64(both, 0xd8));
    }
    return i;
}

#elif defined(__aarch64__)

static int wide(void)
{
    return 1;
}

static int64_t f16_to_f32_wide(const uint16_t *src, float *dst, int64_t n)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(dst + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(src + i))));
    return i;
}

static int64_t f32_to_f16_wide(const float *src, uint16_t *dst, int64_t n)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1_u16(dst + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(src + i))));
    return i;
}

static int64_t bf16_to_f32_wide(const uint16_t *src, float *dst, int64_t n)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(dst + i, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(src + i), 16)));
    return i;
}

static int64_t f32_to_bf16_wide(const float *src, uint16_t *dst, int64_t n)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t value = vld1q_f32(src + i);
        uint32x4_t bits = vreinterpretq_u32_f32(value);
        uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
        uint32x4_t number = vceqq_f32(value, value);
        vst1_u16(dst + i, vshrn_n_u32(vbslq_u32(number, up, quiet), 16));
    }
    return i;
}

#else

static int wide(void)
{
    return 0;
}

#define NONE(name, from, to)                                                                       \
    static int64_t name(const from *src, to *dst, int64_t n)                                       \
    {                                                                                              \
        (void)src, (void)dst, (void)n;                                                             \
        return 0;                                                                                  \
    }
NONE(f16_to_f32_wide, uint16_t, float)
NONE(f32_to_f16_wide, float, uint16_t)
NONE(bf16_to_f32_wide, uint16_t, float)
NONE(f32_to_bf16_wide, float, uint16_t)

#endif

/* With `vectors` by the functions above; asking each time would cost as much as a short run. */
static void widen(hwkit_half type, int vectors, const uint16_t *src, float *dst, int64_t n)
{
    if (type == HWKIT_HALF_F16) {
        const int64_t i = vectors ? f16_to_f32_wide(src, dst, n) : 0;
        hwkit_f16_to_f32_portable(src + i, dst + i, n - i);
    } else
        for (int64_t i = vectors ? bf16_to_f32_wide(src, dst, n) : 0; i < n; i++)
            dst[i] = hwkit_float((uint32_t)src[i] << 16);
}

static void round_off(hwkit_half type, int vectors, const float *src, uint16_t *dst, int64_t n)
{
    if (type == HWKIT_HALF_F16) {
        const int64_t i = vectors ? f32_to_f16_wide(src, dst, n) : 0;
        hwkit_f32_to_f16_portable(src + i, dst + i, n - i);
    } else
        for (int64_t i = vectors ? f32_to_bf16_wide(src, dst, n) : 0; i < n; i++)
            dst[i] = one_f32_to_bf16(src[i]);
}

void hwkit_f16_to_f32(const uint16_t *src, float *dst, int64_t n)
{
    widen(HWKIT_HALF_F16, wide(), src, dst, n);
}

void hwkit_f32_to_f16(const float *src, uint16_t *dst, int64_t n)
{
    round_off(HWKIT_HALF_F16, wide(), src, dst, n);
}

void hwkit_bf16_to_f32(const uint16_t *src, float *dst, int64_t n)
{
    widen(HWKIT_HALF_BF16, wide(), src, dst, n);
}

void hwkit_f32_to_bf16(const float *src, uint16_t *dst, int64_t n)
{
    round_off(HWKIT_HALF_BF16, wide(), src, dst, n);
}

void hwkit_half_widen_row(hwkit_half type, const uint16_t *src, float *dst, int64_t n)
{
    widen(type, wide(), src, dst, n);
}

void hwkit_half_round_row(hwkit_half type, const float *src, uint16_t *dst, int64_t n)
{
    round_off(type, wide(), src, dst, n);
}

typedef struct {
    hwkit_half type;
    const void *src;
    void *dst;
    int64_t n;
} task;

static void widen_piece(void *ctx, int64_t chunk)
{
    const task *t = ctx;
    const int64_t first = chunk * PIECE, n = t->n - first < PIECE ? t->n - first : PIECE;
    widen(t->type, wide(), (const uint16_t *)t->src + first, (float *)t->dst + first, n);
}

static void round_piece(void *ctx, int64_t chunk)
{
    const task *t = ctx;
    const int64_t first = chunk * PIECE, n = t->n - first < PIECE ? t->n - first : PIECE;
    round_off(t->type, wide(), (const float *)t->src + first, (uint16_t *)t->dst + first, n);
}

/* 8 bytes or so per element at 5 to 10 GB/s of one core. */
void hwkit_half_widen(hwkit_half type, const void *narrow, float *to, int64_t n, int threads)
{
    task t = {type, narrow, to, n};
    hwkit_parallel_work(n / PIECE + (n % PIECE != 0), widen_piece, &t, threads, n);
}

void hwkit_half_round(hwkit_half type, const float *from, void *narrow, int64_t n, int threads)
{
    task t = {type, from, narrow, n};
    hwkit_parallel_work(n / PIECE + (n % PIECE != 0), round_piece, &t, threads, n);
}

/* ---- parts of images ------------------------------------------------------------------------- */

/* A part as runs of neighbours in narrow memory. */
typedef struct {
    int64_t first, stride, count, length;
} runs;

static runs runs_of(const hwkit_half_images *g, const hwkit_half_part *t)
{
    const int64_t rows = t->y1 - t->y0, channels = t->c1 - t->c0;
    runs r;
    if (g->nhwc)
        r = (runs){((t->image * g->height + t->y0) * g->width) * g->channels + t->c0, g->channels,
                   rows * g->width, channels};
    else
        r = (runs){((t->image * g->channels + t->c0) * g->height + t->y0) * g->width,
                   g->height * g->width, channels, rows * g->width};
    if (r.stride == r.length)
        r = (runs){r.first, r.stride * r.count, 1, r.length * r.count};
    return r;
}

void hwkit_half_widen_part(const hwkit_half_images *images, const void *narrow,
                           const hwkit_half_part *part, float *to)
{
    const runs r = runs_of(images, part);
    const uint16_t *from = (const uint16_t *)narrow + r.first;
    const int vectors = wide();
    for (int64_t i = 0; i < r.count; i++)
        widen(images->type, vectors, from + i * r.stride, to + i * r.length, r.length);
}

void hwkit_half_round_part(const hwkit_half_images *images, const float *from, void *narrow,
                           const hwkit_half_part *part)
{
    const runs r = runs_of(images, part);
    uint16_t *to = (uint16_t *)narrow + r.first;
    const int vectors = wide();
    for (int64_t i = 0; i < r.count; i++)
        round_off(images->type, vectors, from + i * r.length, to + i * r.stride, r.length);
}
