/* sysfs first (it knows what the hypervisor shows), then CPUID, then modest defaults. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cpuinfo.h"

#include "threads.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static hwkit_cpuinfo info;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct {
    uint32_t bit;
    const char *name;
} NAMES[] = {
    {HWKIT_SSE2, "sse2"},
    {HWKIT_AVX, "avx"},
    {HWKIT_AVX2, "avx2"},
    {HWKIT_FMA, "fma"},
    {HWKIT_F16C, "f16c"},
    {HWKIT_AVX512F, "avx512f"},
    {HWKIT_AVX512BW, "avx512bw"},
    {HWKIT_AVX512DQ, "avx512dq"},
    {HWKIT_AVX512VL, "avx512vl"},
    {HWKIT_AVX512VNNI, "avx512vnni"},
    {HWKIT_AVX512BF16, "avx512bf16"},
    {HWKIT_AVX512FP16, "avx512fp16"},
    {HWKIT_AVXVNNI, "avxvnni"},
    {HWKIT_AMXTILE, "amxtile"},
    {HWKIT_AMXINT8, "amxint8"},
    {HWKIT_AMXBF16, "amxbf16"},
    {HWKIT_NEON, "neon"},
    {HWKIT_FP16, "fp16"},
    {HWKIT_DOTPROD, "dotprod"},
    {HWKIT_SVE, "sve"},
    {HWKIT_BF16, "bf16"},
    {HWKIT_I8MM, "i8mm"},
};

static int read_text(const char *path, char *text, int size)
{
    FILE *file = fopen(path, "r");
    text[0] = 0;
    if (!file)
        return 0;
    char *got = fgets(text, size, file);
    fclose(file);
    text[strcspn(text, "\n")] = 0;
    return got != NULL;
}

static void keep_cache(int level, int is_data, int64_t bytes)
{
    int64_t *place = level == 1 && is_data ? &info.l1d
                     : level == 2          ? &info.l2
                     : level == 3          ? &info.l3
                                           : NULL;
    if (place && *place == 0)
        *place = bytes;
}

#if defined(__x86_64__)

/* Which register files the operating system saves (XCR0). */
static uint64_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static uint32_t read_features(void)
{
    uint32_t a, b, c, d, bits = HWKIT_SSE2;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1))
        return bits;
    uint64_t saved = saved_registers();
    if ((saved & 0x6) != 0x6) /* the upper halves of ymm */
        return bits;
    bits |= (c >> 28 & 1 ? HWKIT_AVX : 0) | (c >> 12 & 1 ? HWKIT_FMA : 0);
    bits |= c >> 29 & 1 ? HWKIT_F16C : 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return bits;
    bits |= b >> 5 & 1 ? HWKIT_AVX2 : 0;
    uint32_t b7 = b, c7 = c, d7 = d, a71 = 0;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        a71 = a;
    bits |= a71 >> 4 & 1 ? HWKIT_AVXVNNI : 0;
    if ((saved & 0xe6) == 0xe6) { /* mask registers and zmm */
        bits |= (b7 >> 16 & 1 ? HWKIT_AVX512F : 0) | (b7 >> 30 & 1 ? HWKIT_AVX512BW : 0);
        bits |= (b7 >> 17 & 1 ? HWKIT_AVX512DQ : 0) | (b7 >> 31 & 1 ? HWKIT_AVX512VL : 0);
        bits |= (c7 >> 11 & 1 ? HWKIT_AVX512VNNI : 0) | (a71 >> 5 & 1 ? HWKIT_AVX512BF16 : 0);
        bits |= d7 >> 23 & 1 ? HWKIT_AVX512FP16 : 0;
    }
    if ((saved & 0x60000) == 0x60000) { /* tiles */
        bits |= (d7 >> 24 & 1 ? HWKIT_AMXTILE : 0) | (d7 >> 25 & 1 ? HWKIT_AMXINT8 : 0);
        bits |= d7 >> 22 & 1 ? HWKIT_AMXBF16 : 0;
    }
    return bits;
}

static void read_model(void)
{
    uint32_t words[12];
    for (uint32_t i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                         &words[4 * i + 3]))
            return;
    char text[49];
    memcpy(text, words, 48);
    text[48] = 0;
    const char *start = text;
    while (*start == ' ')
        start++;
    snprintf(info.model, sizeof info.model, "%s", start);
    for (size_t n = strlen(info.model); n && info.model[n - 1] == ' '; n--)
        info.model[n - 1] = 0;
}

/* Leaf 4 of one vendor, leaf 0x8000001d of the other; the layout is the same. */
static void caches_by_cpuid(uint32_t leaf)
{
    uint32_t a, b, c, d;
    for (uint32_t i = 0; i < 16; i++) {
        if (!__get_cpuid_count(leaf, i, &a, &b, &c, &d) || (a & 31) == 0)
            return;
        int64_t ways = (b >> 22) + 1, parts = (b >> 12 & 1023) + 1, line = (b & 4095) + 1;
        if ((a & 31) != 2)
            keep_cache((int)(a >> 5 & 7), 1, ways * parts * line * ((int64_t)c + 1));
    }
}

#else

static uint32_t read_features(void)
{
    uint32_t bits = 0;
#if defined(__aarch64__)
    bits |= HWKIT_NEON;
#if defined(__linux__)
    unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
    bits |= (one >> 10 & 1 ? HWKIT_FP16 : 0) | (one >> 20 & 1 ? HWKIT_DOTPROD : 0);
    bits |= (one >> 22 & 1 ? HWKIT_SVE : 0) | (two >> 14 & 1 ? HWKIT_BF16 : 0);
    bits |= two >> 13 & 1 ? HWKIT_I8MM : 0;
#endif
#endif
    return bits;
}

static void read_model(void)
{
    read_text("/sys/firmware/devicetree/base/model", info.model, (int)sizeof info.model);
}

#endif

static void caches_by_sysfs(void)
{
    char path[160], type[32], text[32];
    for (int i = 0; i < 8; i++) {
        const char *root = "/sys/devices/system/cpu/cpu0/cache/index";
        snprintf(path, sizeof path, "%s%d/type", root, i);
        if (!read_text(path, type, sizeof type))
            return;
        snprintf(path, sizeof path, "%s%d/level", root, i);
        if (!strcmp(type, "Instruction") || !read_text(path, text, sizeof text))
            continue;
        int level = atoi(text);
        snprintf(path, sizeof path, "%s%d/size", root, i);
        if (!read_text(path, text, sizeof text))
            continue;
        char *unit = text;
        int64_t bytes = strtoll(text, &unit, 10);
        bytes *= *unit == 'K' ? 1024 : *unit == 'M' ? 1024 * 1024 : 1;
        if (bytes > 0)
            keep_cache(level, 1, bytes);
    }
}

/* Cores are told apart by package and core number; two CPUs of one core count once. */
static int count_cores(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 0;
    int64_t seen[CPU_SETSIZE];
    int cores = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[128], core[32], package[32];
        if (!CPU_ISSET(cpu, &set))
            continue;
        const char *root = "/sys/devices/system/cpu/cpu";
        snprintf(path, sizeof path, "%s%d/topology/core_id", root, cpu);
        if (!read_text(path, core, sizeof core))
            return 0;
        snprintf(path, sizeof path, "%s%d/topology/physical_package_id", root, cpu);
        read_text(path, package, sizeof package);
        int64_t key = ((int64_t)atoi(package) << 32) + atoi(core);
        int known = 0;
        for (int i = 0; i < cores; i++)
            known |= seen[i] == key;
        if (!known)
            seen[cores++] = key;
    }
    return cores;
#else
    return 0;
#endif
}

static void name_features(void)
{
    size_t used = 0;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        if (info.bits & NAMES[i].bit && used < sizeof info.features)
            used += (size_t)snprintf(info.features + used, sizeof info.features - used, "%s%s",
                                     used ? " " : "", NAMES[i].name);
}

static void fill(void)
{
    info.bits = read_features();
    name_features();
    read_model();
    caches_by_sysfs();
#if defined(__x86_64__)
    caches_by_cpuid(4);
    caches_by_cpuid(0x8000001d);
#endif
    info.l1d = info.l1d ? info.l1d : 32 << 10;
    info.l2 = info.l2 ? info.l2 : 512 << 10;
    info.cores = count_cores();
    if (info.cores < 1 || info.cores > hwkit_cpus_available())
        info.cores = hwkit_cpus_available();
}

const hwkit_cpuinfo *hwkit_cpu(void)
{
    pthread_once(&once, fill);
    return &info;
}
