/* The one contract between Cython and C: a plan is a function with its constants. */
#ifndef HWKIT_RUN_H
#define HWKIT_RUN_H

#include <stddef.h>
#include <stdint.h>

enum { HWKIT_OK = 0, HWKIT_NO_MEMORY = 1 };
enum { HWKIT_MAX_OPERANDS = 12 };

/* Immutable and re-entrant: several threads may run one plan at the same time. Whoever makes a plan
 * puts this struct first into his own. */
typedef struct hwkit_plan hwkit_plan;
struct hwkit_plan {
    /* Write all of `out`, which overlaps no operand; operands are contiguous and aligned. Returns
     * HWKIT_OK, or HWKIT_NO_MEMORY with `out` in any state. */
    int (*run)(const hwkit_plan *plan, const void *const *operands, void *out);
    /* A new, independent plan that keeps its own copy of the operands at `positions` (ascending) and
     * takes the others in order; NULL if memory is short. The function may be NULL: see
     * hwkit_plan_hold. */
    hwkit_plan *(*prepack)(const hwkit_plan *plan, int count, const int *positions,
                           const void *const *operands);
    void (*destroy)(hwkit_plan *plan);
    int64_t workspace; /* bytes of scratch memory that a run takes, all threads together */
    double seconds;    /* rough estimate; the GIL is released above 2 us */
};

/* A plan that keeps plain copies of some operands and hands them to `inner`, which must outlive it.
 * bytes[i] is the size of operands[i]; total is how many operands inner takes. */
hwkit_plan *hwkit_plan_hold(const hwkit_plan *inner, int total, int count, const int *positions,
                            const void *const *operands, const int64_t *bytes);

/* Memory of the calling thread, one block per purpose, 64-byte aligned (2 MiB where it is that
 * large), kept until the thread ends. A second call for the same purpose may move the block and
 * lose its contents, so a plan that calls another must not share purposes with it. */
enum {
    HWKIT_SCRATCH_SHARED, /* what the caller of hwkit_parallel prepares for all threads */
    HWKIT_SCRATCH_THREAD, /* what a chunk needs */
    HWKIT_SCRATCH_LAYOUT, /* operands or results in another layout */
    HWKIT_SCRATCH_DTYPE,  /* operands or results in another dtype */
    HWKIT_SCRATCH_PURPOSES
};
void *hwkit_scratch(int purpose, int64_t bytes);

/* The same alignment, for memory that a plan owns. */
void *hwkit_alloc(int64_t bytes);
void *hwkit_alloc_zeros(int64_t bytes);
void hwkit_free(void *block);

#endif
