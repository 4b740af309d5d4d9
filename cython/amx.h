/* Operations on tiles (AMX): eight tiles of at most 16 rows of at most 64 bytes. One kernel text, two
 * implementations: a file that defines HWKIT_AMX_EMULATED before it includes this header gets a twin
 * in plain C with the same results bit for bit, any other gets the instructions.
 *
 *   tile_configure(config)       before all others, in each thread; tiles become zero
 *   tile_release()               after all others: the system need not save tiles any more
 *   tile_zero(t)
 *   tile_load(t, base, stride)   the rows of the tile, `stride` bytes apart; the rest becomes zero
 *   tile_load_once(...)          the same, for what is not read again soon
 *   tile_store(t, base, stride)
 *   tile_bf16(c, a, b)           c += a b, where b holds pairs: b[k][n][2] with a[m][k][2]
 *   tile_ss, tile_su, tile_us, tile_uu (c, a, b)   likewise groups of four bytes into int32, which
 *                                wraps; s or u: signed or unsigned, that of a first
 *
 * Numbers of tiles are constants. Of bf16, for each element of c: the even and the odd k are summed up
 * apart, from zero, by fused multiply-adds; then c = c + (even + odd), each rounded to nearest even.
 * Denormal operands and results are zeros, whatever MXCSR says.
 *
 * Inline assembly instead of the compilers' intrinsics: those of gcc 11 to 13 do not tell the compiler
 * that loading a configuration or a tile reads memory. */
#ifndef HWKIT_AMX_H
#define HWKIT_AMX_H

#include <stdint.h>
#include <string.h>

enum { HWKIT_TILE_ROWS = 16, HWKIT_TILE_BYTES = 64 };

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16]; /* bytes of a row */
    uint8_t rows[16];
} hwkit_tile_config;

/* All eight tiles in full. */
static inline hwkit_tile_config hwkit_full_tiles(void)
{
    hwkit_tile_config config = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        config.rows[t] = HWKIT_TILE_ROWS;
        config.colsb[t] = HWKIT_TILE_BYTES;
    }
    return config;
}

/* The twin, in amx_emulated.c. */
void hwkit_tile_configure(const hwkit_tile_config *config);
void hwkit_tile_release(void);
void hwkit_tile_zero(int t);
void hwkit_tile_load(int t, const void *base, int64_t stride);
void hwkit_tile_store(int t, void *base, int64_t stride);
void hwkit_tile_bf16(int c, int a, int b);
void hwkit_tile_int8(int c, int a, int b, int a_signed, int b_signed);

#if !defined(HWKIT_AMX_EMULATED)

/* Assemblers know the instructions since about the same time. */
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define HWKIT_HAS_AMX 1

#define tile_configure(config) __asm__ volatile("ldtilecfg %0" ::"m"(*(config)) : "memory")
#define tile_release() __asm__ volatile("tilerelease" ::: "memory")
#define tile_zero(t) __asm__ volatile("tilezero %%tmm%c0" ::"i"(t))
#define HWKIT_TILE_LOAD(name, t, base, stride)                                                     \
    __asm__ volatile(name " (%1,%2,1), %%tmm%c0" ::"i"(t), "r"((const void *)(base)),              \
                     "r"((int64_t)(stride)) : "memory")
#define tile_load(t, base, stride) HWKIT_TILE_LOAD("tileloadd", t, base, stride)
#define tile_load_once(t, base, stride) HWKIT_TILE_LOAD("tileloaddt1", t, base, stride)
#define tile_store(t, base, stride)                                                                \
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(t), "r"((void *)(base)),               \
                     "r"((int64_t)(stride)) : "memory")
#define HWKIT_TILE_DOT(name, c, a, b)                                                              \
    __asm__ volatile(name " %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b))
#define tile_bf16(c, a, b) HWKIT_TILE_DOT("tdpbf16ps", c, a, b)
#define tile_ss(c, a, b) HWKIT_TILE_DOT("tdpbssd", c, a, b)
#define tile_su(c, a, b) HWKIT_TILE_DOT("tdpbsud", c, a, b)
#define tile_us(c, a, b) HWKIT_TILE_DOT("tdpbusd", c, a, b)
#define tile_uu(c, a, b) HWKIT_TILE_DOT("tdpbuud", c, a, b)
#else
#define HWKIT_HAS_AMX 0
#endif

#else

#define HWKIT_HAS_AMX 1

#define tile_configure(config) hwkit_tile_configure(config)
#define tile_release() hwkit_tile_release()
#define tile_zero(t) hwkit_tile_zero(t)
#define tile_load(t, base, stride) hwkit_tile_load(t, base, stride)
#define tile_load_once(t, base, stride) hwkit_tile_load(t, base, stride)
#define tile_store(t, base, stride) hwkit_tile_store(t, base, stride)
#define tile_bf16(c, a, b) hwkit_tile_bf16(c, a, b)
#define tile_ss(c, a, b) hwkit_tile_int8(c, a, b, 1, 1)
#define tile_su(c, a, b) hwkit_tile_int8(c, a, b, 1, 0)
#define tile_us(c, a, b) hwkit_tile_int8(c, a, b, 0, 1)
#define tile_uu(c, a, b) hwkit_tile_int8(c, a, b, 0, 0)

#endif
#endif
