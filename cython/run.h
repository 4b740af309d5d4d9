/* The one contract between Cython and C: a plan is a function with its constants. */
#ifndef HWKIT_RUN_H
#define HWKIT_RUN_H

#include <stddef.h>
#include <stdint.h>

enum { HWKIT_OK = 0, HWKIT_NO_MEMORY = 1 };
enum { HWKIT_MAX_OPERANDS = 12 };

/* What prepack is given: operands of a call by position, ascending, and the bytes of each. */
typedef struct {
    int count;
    const int *positions;
    const void *const *operands;
    const int64_t *bytes;
} hwkit_constants;

/* Immutable and re-entrant: several threads may run one plan at the same time. Whoever makes a plan
 * puts this struct first into his own. */
typedef struct hwkit_plan hwkit_plan;
struct hwkit_plan {
    /* Write all of `out`, which overlaps no operand; operands are contiguous and aligned. Returns
     * HWKIT_OK, or HWKIT_NO_MEMORY with `out` in any state. */
    int (*run)(const hwkit_plan *plan, const void *const *operands, void *out);
    /* The same where rows along the last axis of the first operand and of the result begin `x_row`
     * and `out_row` elements apart: they are parts of wider arrays, of which nothing else is read or
     * written. The flags say which of them may be; without either it is not called. */
    int (*run_apart)(const hwkit_plan *plan, const void *const *operands, void *out, int64_t x_row,
                     int64_t out_row);
    int x_apart, out_apart;
    /* A new, independent plan that keeps its own copy of the constants and takes the other operands
     * in order; NULL if memory is short. The function may be NULL: see hwkit_plan_hold. */
    hwkit_plan *(*prepack)(const hwkit_plan *plan, const hwkit_constants *constants);
    void (*destroy)(hwkit_plan *plan);
    int64_t workspace; /* bytes of scratch memory that a run takes, all threads together */
    double seconds;    /* rough estimate; the GIL is released above 2 us */
};

/* What destroys a plan that is one piece of memory and holds nothing else. */
void hwkit_plan_free(hwkit_plan *plan);

/* A plan that keeps plain copies of some operands and hands them to `inner`, which must outlive it
 * and takes `total` operands. */
hwkit_plan *hwkit_plan_hold(const hwkit_plan *inner, int total, const hwkit_constants *constants);

/* The operands of a plan by kind: a plan numbers its kinds in the order in which calls give them.
 * Zeros are a valid value, of a plan that takes none. */
typedef struct {
    int kinds;
    int present[HWKIT_MAX_OPERANDS];   /* whether the plan takes this kind at all */
    void *held[HWKIT_MAX_OPERANDS];    /* what prepack has kept of it; NULL: it comes with the call */
    int64_t bytes[HWKIT_MAX_OPERANDS]; /* of what is held */
} hwkit_operands;

/* Find all operands of a call, by kind: held or given; NULL where the plan takes none. */
static inline void hwkit_bind(const hwkit_operands *o, int kinds, const void *const *given,
                              const void **all)
{
    for (int kind = 0; kind < kinds; kind++)
        all[kind] = !o->present[kind] ? NULL : o->held[kind] ? o->held[kind] : *given++;
}

/* The constant of a kind that `o` does not hold yet, or NULL. */
const void *hwkit_constant(const hwkit_operands *o, const hwkit_constants *constants, int kind);

/* Make `to` what prepack makes of `from`: copies of what that holds and of the constants, but for a
 * constant of kind `but`, which the plan keeps in a layout of its own (-1: there is no such kind).
 * 0 if memory is short; `to` is to be released either way. */
int hwkit_hold(hwkit_operands *to, const hwkit_operands *from, const hwkit_constants *constants,
               int but);

/* Hold `block` of hwkit_alloc in place of what was held of a kind; 0 if it is NULL. */
int hwkit_keep(hwkit_operands *o, int kind, void *block, int64_t bytes);

/* Free all that is held. */
void hwkit_release(hwkit_operands *o);

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

/* All that the calling thread holds of it, and its end. */
int64_t hwkit_scratch_bytes(void);
void hwkit_scratch_free(void);

/* The same alignment, for memory that a plan owns. */
void *hwkit_alloc(int64_t bytes);
void *hwkit_alloc_zeros(int64_t bytes);
void hwkit_free(void *block);

#endif
