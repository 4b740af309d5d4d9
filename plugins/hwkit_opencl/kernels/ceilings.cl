/* Multiply-adds that wait for nothing but each other, as many at once as hide their latency. */

KERNEL(multiply_add)(GLOBAL T *y, int steps, A factor, A term)
{
    V sum[SUMS], x = v_splat(factor), z = v_splat(term);
    int at = GROUP(0) * THREADS + LANE();
#pragma unroll
    for (int i = 0; i < SUMS; ++i)
        sum[i] = v_splat((A)(at + i));
    for (int step = 0; step < steps; ++step) {
#pragma unroll
        for (int i = 0; i < SUMS; ++i)
            sum[i] = v_fma(sum[i], x, z);
    }
#pragma unroll
    for (int i = 1; i < SUMS; ++i)
        sum[0] = v_add(sum[0], sum[i]);
    v_store(y + (i64)at * VEC, sum[0]);
}
