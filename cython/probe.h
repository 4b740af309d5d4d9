/* How fast this processor can multiply and add, and read: the roof of a roofline. */
#ifndef HWKIT_PROBE_H
#define HWKIT_PROBE_H

#include <stdint.h>

/* One kernel's loop of multiply-adds over random data in registers; returns the flops it did, and
 * adds to *sum what keeps a compiler from dropping them. */
typedef double (*hwkit_probe_fn)(int64_t rounds, double *sum);

/* Multiply-adds, as two flops each, of float64 or float32 per second on `threads` threads with the
 * selected kernels; takes about 60 ms, up to 0.7 s where CPUs share a core. */
double hwkit_probe_flops(int is_double, int threads);

/* The same of bfloat16 by tiles, or else by pairs; 0 where there are neither, or only emulated ones. */
double hwkit_probe_bfloat16(int threads);

/* Bytes per second that `threads` threads read beyond L2; takes up to 0.7 s. 0 if memory is out. */
double hwkit_probe_bandwidth(int threads);

#endif
