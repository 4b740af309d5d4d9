/* Which table of kernels this processor runs. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "isa.h"

#include "amx.h"
#include "amx_kernels.h"
#include "block_float.h"
#include "cpuinfo.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const hwkit_isa *const TABLES[] = {&hwkit_isa_avx512, &hwkit_isa_avx2, &hwkit_isa_neon,
                                          &hwkit_isa_scalar};
enum { TABLE_COUNT = sizeof TABLES / sizeof TABLES[0] };
static const hwkit_isa *chosen;
static hwkit_amx_kind amx, pairs, vnni;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* An empty table is one for another architecture. */
static int runs_here(const hwkit_isa *isa)
{
    return isa->f32.vl && (hwkit_cpu()->bits & isa->features) == isa->features;
}

const hwkit_isa *hwkit_isa_named(const char *name)
{
    for (int i = 0; i < TABLE_COUNT; i++)
        if (!strcmp(TABLES[i]->name, name))
            return TABLES[i];
    return NULL;
}

/* The system saves tiles only for processes that ask; all threads and children may then use them. It
 * refuses where it is too old, or where a thread's signal stack is too small for tiles. */
static int tiles_permitted(void)
{
#if defined(__x86_64__) && defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* <asm/prctl.h> since Linux 5.16 */
    return !syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
#else
    return 0;
#endif
}

static int emulated(void)
{
    const char *emulate = getenv("HWKIT_EMULATE_AMX");
    return emulate && !strcmp(emulate, "1");
}

static hwkit_amx_kind choose_amx(const char *name)
{
    const uint32_t need = HWKIT_AMXTILE | HWKIT_AMXBF16 | HWKIT_AMXINT8 | HWKIT_AVX512BF16;
    if (name && *name && strcasecmp(name, "amx"))
        return HWKIT_AMX_NONE;
    if (emulated())
        return HWKIT_AMX_TWIN;
    if (!HWKIT_HAS_AMX || chosen != &hwkit_isa_avx512 || (hwkit_cpu()->bits & need) != need)
        return HWKIT_AMX_NONE;
    return tiles_permitted() ? HWKIT_AMX_REAL : HWKIT_AMX_NONE;
}

/* Dot products of pairs, of which `real` is NULL if the compiler does not know them. */
static hwkit_amx_kind choose_pairs(const char *name, const void *real, uint32_t feature)
{
    if (name && *name && strcasecmp(name, "amx") && strcasecmp(name, "avx512"))
        return HWKIT_AMX_NONE;
    if (emulated())
        return HWKIT_AMX_TWIN;
    return real && chosen == &hwkit_isa_avx512 && hwkit_cpu()->bits & feature ? HWKIT_AMX_REAL
                                                                              : HWKIT_AMX_NONE;
}

static void choose(void)
{
    const char *name = getenv("HWKIT_MAX_ISA");
    int first = 0;
    for (int i = 0; name && *name && i < TABLE_COUNT; i++)
        if (!strcasecmp(TABLES[i]->name, name))
            first = i; /* tables are in descending order; the next ones may be fallen back to */
    for (int i = first; i < TABLE_COUNT && !chosen; i++)
        if (runs_here(TABLES[i]))
            chosen = TABLES[i];
    amx = choose_amx(name);
    pairs = choose_pairs(name, hwkit_pairs_real, HWKIT_AVX512BF16);
    vnni = choose_pairs(name, hwkit_block_float_real, HWKIT_AVX512VNNI);
}

const hwkit_isa *hwkit_isa_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}

hwkit_amx_kind hwkit_amx(void)
{
    pthread_once(&once, choose);
    return amx;
}

hwkit_amx_kind hwkit_pairs(void)
{
    pthread_once(&once, choose);
    return pairs;
}

hwkit_amx_kind hwkit_vnni(void)
{
    pthread_once(&once, choose);
    return vnni;
}

const char *hwkit_isa_name(void)
{
    static const char *const NAMES[] = {[HWKIT_AMX_TWIN] = "amx-emulated", [HWKIT_AMX_REAL] = "amx"};
    if (hwkit_amx())
        return NAMES[amx];
    return hwkit_pairs() == HWKIT_AMX_TWIN ? "avx512bf16-emulated" : chosen->name;
}
