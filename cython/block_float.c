/* What the kernels of block floating point share with their twin. */
#include "block_float.h"

#include "isa.h"
#include "sizes.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 32 };

hwkit_block_float hwkit_block_float_of(int64_t terms)
{
    const int64_t blocks = hwkit_parts(terms, BLOCK);
    const int pairs = (int)hwkit_parts(hwkit_parts(terms, blocks), 2);
    return (hwkit_block_float){terms, blocks, pairs, blocks * (pairs + 1)};
}

const hwkit_block_float_kernels *hwkit_block_float_get(void)
{
    switch (hwkit_vnni()) {
    case HWKIT_AMX_REAL:
        return hwkit_block_float_real;
    case HWKIT_AMX_TWIN:
        return hwkit_block_float_twin;
    default:
        return NULL;
    }
}

/* Exact where float32 is not normal any more: a unit is rounded up to a float32, and where that is a
 * denormal number of few bits, the terms are multiples of it, or nearly so. */
int hwkit_block_float_block(int pairs, char *to, const float *from, int count)
{
    int16_t rounded[BLOCK] = {0};
    double squares = 0, most = 0;
    float stored = 0;
    for (int i = 0; i < count; i++) {
        const double size = fabs((double)from[i]);
        if (!(size <= (double)HWKIT_BLOCK_FLOAT_LIMIT))
            return 0;
        squares += size * size;
        most = size > most ? size : most;
    }
    if (most > 0) {
        const double unit = fmax(sqrt(squares) / HWKIT_BLOCK_FLOAT_NORM,
                                 most / HWKIT_BLOCK_FLOAT_MOST);
        stored = (float)unit;
        if ((double)stored < unit)
            stored = nextafterf(stored, INFINITY);
        for (int i = 0; i < count; i++)
            rounded[i] = (int16_t)lrint((double)from[i] / (double)stored);
    }
    memcpy(to, rounded, (size_t)pairs * 4);
    memcpy(to + pairs * 4, &stored, sizeof stored);
    return 1;
}
