/* Which table of kernels this processor runs. */
#include "isa.h"

#include "cpuinfo.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const hwkit_isa *const TABLES[] = {&hwkit_isa_avx512, &hwkit_isa_avx2, &hwkit_isa_neon,
                                          &hwkit_isa_scalar};
enum { TABLE_COUNT = sizeof TABLES / sizeof TABLES[0] };
static const hwkit_isa *chosen;
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
}

const hwkit_isa *hwkit_isa_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}
