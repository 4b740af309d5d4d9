/* What the processor is: feature bits, caches, cores. Features come from CPUID and the auxiliary
 * vector only; hypervisors report family and model numbers of other chips. */
#ifndef HWKIT_CPUINFO_H
#define HWKIT_CPUINFO_H

#include <stdint.h>

typedef enum {
    HWKIT_SSE2 = 1 << 0,
    HWKIT_AVX = 1 << 1,
    HWKIT_AVX2 = 1 << 2,
    HWKIT_FMA = 1 << 3,
    HWKIT_F16C = 1 << 4,
    HWKIT_AVX512F = 1 << 5,
    HWKIT_AVX512BW = 1 << 6,
    HWKIT_AVX512DQ = 1 << 7,
    HWKIT_AVX512VL = 1 << 8,
    HWKIT_AVX512VNNI = 1 << 9,
    HWKIT_AVX512BF16 = 1 << 10,
    HWKIT_AVX512FP16 = 1 << 11,
    HWKIT_AVXVNNI = 1 << 12,
    HWKIT_AMXTILE = 1 << 13,
    HWKIT_AMXINT8 = 1 << 14,
    HWKIT_AMXBF16 = 1 << 15,
    HWKIT_NEON = 1 << 16,
    HWKIT_FP16 = 1 << 17,
    HWKIT_DOTPROD = 1 << 18,
    HWKIT_SVE = 1 << 19,
    HWKIT_BF16 = 1 << 20,
    HWKIT_I8MM = 1 << 21,
} hwkit_feature;

typedef struct {
    char model[64];      /* name for people, "" if not known */
    char features[320];  /* names of the feature bits, one blank between */
    uint32_t bits;       /* hwkit_feature */
    int64_t l1d, l2, l3; /* bytes of the caches that one core reaches; l3 is 0 if there is none */
    int cores;           /* physical cores among the CPUs of this process */
} hwkit_cpuinfo;

/* The same object on every call, filled by the first. Features whose registers the operating
 * system does not save are left out. */
const hwkit_cpuinfo *hwkit_cpu(void);

#endif
