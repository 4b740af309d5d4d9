/* Tiles in plain C, for tests on processors without them; amx.h says what they compute. Like the
 * instructions, these stop the program where tiles are used without a configuration that fits.
 *
 * One difference is left: of sums within 2^-150 of the least normal number, 2^-126, some are kept that
 * the instruction makes zero. */
#include "amx.h"

#include "bits.h"
#include "cpuinfo.h"

#include <math.h>
#include <stdlib.h>

/* The registers of this thread. */
static _Thread_local struct {
    int configured;
    hwkit_tile_config config;
    uint8_t tile[8][HWKIT_TILE_ROWS][HWKIT_TILE_BYTES];
} mine;

static void need(int good)
{
    if (!good)
        abort(); /* the instruction would raise SIGILL */
}

void hwkit_tile_configure(const hwkit_tile_config *config)
{
    need(config->palette == 1 && config->start_row == 0);
    for (int t = 0; t < 8; t++)
        need(config->rows[t] <= HWKIT_TILE_ROWS && config->colsb[t] <= HWKIT_TILE_BYTES);
    for (int t = 8; t < 16; t++)
        need(config->rows[t] == 0 && config->colsb[t] == 0);
    memset(&mine, 0, sizeof mine);
    mine.config = *config;
    mine.configured = 1;
}

void hwkit_tile_release(void)
{
    memset(&mine, 0, sizeof mine);
}

/* Whether tile t is in use. */
static int used(int t)
{
    return mine.configured && mine.config.rows[t] && mine.config.colsb[t];
}

void hwkit_tile_zero(int t)
{
    need(used(t));
    memset(mine.tile[t], 0, sizeof mine.tile[t]);
}

void hwkit_tile_load(int t, const void *base, int64_t stride)
{
    need(used(t));
    memset(mine.tile[t], 0, sizeof mine.tile[t]);
    for (int i = 0; i < mine.config.rows[t]; i++)
        memcpy(mine.tile[t][i], (const char *)base + i * stride, mine.config.colsb[t]);
}

void hwkit_tile_store(int t, void *base, int64_t stride)
{
    need(used(t));
    for (int i = 0; i < mine.config.rows[t]; i++)
        memcpy((char *)base + i * stride, mine.tile[t][i], mine.config.colsb[t]);
}

/* Whether the shapes are those of a product. */
static void need_product(int c, int a, int b)
{
    const hwkit_tile_config *f = &mine.config;
    need(used(a) && used(b) && used(c) && a != b && a != c && b != c);
    need(f->rows[c] == f->rows[a] && f->colsb[c] == f->colsb[b]);
    need(f->colsb[a] == 4 * f->rows[b] && f->colsb[a] % 4 == 0 && f->colsb[b] % 4 == 0);
}

enum { WORDS = HWKIT_TILE_BYTES / 4 };

/* The lower (0) or upper (1) bfloat16 of a word. */
static inline __attribute__((always_inline)) float half_of(uint32_t word, int upper)
{
    return hwkit_flushed(hwkit_float(upper ? word & 0xffff0000 : word << 16));
}

static inline __attribute__((always_inline)) void bf16_rows(int c, int a, int b)
{
    for (int i = 0; i < mine.config.rows[c]; i++) {
        float even[WORDS] = {0}, odd[WORDS] = {0}, sum[WORDS];
        for (int k = 0; k < mine.config.colsb[a] / 4; k++) {
            uint32_t left, right[WORDS];
            memcpy(&left, &mine.tile[a][i][4 * k], 4);
            memcpy(right, mine.tile[b][k], sizeof right);
            const float first = half_of(left, 0), second = half_of(left, 1);
            for (int j = 0; j < WORDS; j++) {
                even[j] = hwkit_flushed(fmaf(first, half_of(right[j], 0), even[j]));
                odd[j] = hwkit_flushed(fmaf(second, half_of(right[j], 1), odd[j]));
            }
        }
        memcpy(sum, mine.tile[c][i], sizeof sum);
        for (int j = 0; j < WORDS; j++)
            sum[j] = hwkit_flushed(hwkit_flushed(sum[j]) + hwkit_flushed(even[j] + odd[j]));
        memcpy(mine.tile[c][i], sum, mine.config.colsb[c]);
    }
}

#if defined(__x86_64__)
/* The same by whole vectors: a library's fmaf takes fifty times as long. */
__attribute__((target("avx2,fma"))) static void bf16_rows_fma(int c, int a, int b)
{
    bf16_rows(c, a, b);
}
#endif

void hwkit_tile_bf16(int c, int a, int b)
{
    need_product(c, a, b);
#if defined(__x86_64__)
    const uint32_t wanted = HWKIT_AVX2 | HWKIT_FMA;
    if ((hwkit_cpu()->bits & wanted) == wanted) {
        bf16_rows_fma(c, a, b);
        return;
    }
#endif
    bf16_rows(c, a, b);
}

static inline int32_t byte_of(uint8_t byte, int is_signed)
{
    return is_signed ? (int8_t)byte : byte;
}

void hwkit_tile_int8(int c, int a, int b, int a_signed, int b_signed)
{
    need_product(c, a, b);
    for (int i = 0; i < mine.config.rows[c]; i++) {
        uint32_t sum[WORDS];
        memcpy(sum, mine.tile[c][i], sizeof sum);
        for (int k = 0; k < mine.config.colsb[a] / 4; k++)
            for (int j = 0; j < mine.config.colsb[b] / 4; j++)
                for (int g = 0; g < 4; g++)
                    sum[j] += (uint32_t)(byte_of(mine.tile[a][i][4 * k + g], a_signed) *
                                         byte_of(mine.tile[b][k][4 * j + g], b_signed));
        memcpy(mine.tile[c][i], sum, mine.config.colsb[c]);
    }
}
