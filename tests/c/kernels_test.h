/* What the files of the driver share. */
#ifndef KERNELS_TEST_H
#define KERNELS_TEST_H

#include <stddef.h>
#include <stdint.h>

/* An array right before or right behind a page that may not be touched, until the test ends. */
void *guarded(size_t bytes);

/* The size of such an array. */
int64_t guarded_bytes(const void *array);

/* A random whole number in [1, most]. */
int64_t upto(int64_t most);

/* One random problem; 1 if the answer is right. */
int test_half(void);
int test_half_images(void);
int test_int8(void);
int test_amx(void);

#endif
