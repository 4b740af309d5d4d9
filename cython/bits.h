/* The bits of a float32, and what is easier done with them. */
#ifndef HWKIT_BITS_H
#define HWKIT_BITS_H

#include <stdint.h>
#include <string.h>

static inline __attribute__((always_inline)) uint32_t hwkit_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline __attribute__((always_inline)) float hwkit_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Zero of the same sign for a denormal number, as the units of bfloat16 take it. */
static inline __attribute__((always_inline)) float hwkit_flushed(float x)
{
    const uint32_t bits = hwkit_bits(x);
    return hwkit_float(bits & (bits & 0x7f800000 ? 0xffffffff : 0x80000000));
}

#endif
