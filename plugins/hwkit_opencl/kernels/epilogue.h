/* The fused epilogue: plus bias, plus residual, then the activation. NaN goes through all of them.

   Activations by number: 0 none, 1 relu, 2 relu6, 3 leaky_relu (low is the slope), 4 sigmoid,
   5 hard_swish, 6 silu, 7 clip (low, high). */

FUNCTION A clamped(A x, A low, A high)
{
    A y = x < low ? low : x;
    return y > high ? high : y;
}

/* The exponent is never positive, so exp does not overflow on the way to 0. */
FUNCTION A sigmoid(A x)
{
    A decay = exp(x < (A)0 ? x : -x);
    return (x < (A)0 ? decay : (A)1) / ((A)1 + decay);
}

FUNCTION A activate1(A x, int activation, A low, A high)
{
    switch (activation) {
    case 3:
        return x < (A)0 ? x * low : x;
    case 4:
        return sigmoid(x);
    case 5:
        return x * clamped(x + (A)3, (A)0, (A)6) / (A)6;
    case 6:
        return x * sigmoid(x);
    default:
        return clamped(x, low, high);
    }
}

/* relu is clip with the bounds 0 and infinity; relu6 likewise. */
FUNCTION V activate(V x, int activation, A low, A high)
{
    A lanes[VEC];
    if (activation == 0)
        return x;
    v_unpack(lanes, x);
    COMPACT
    for (int i = 0; i < VEC; ++i)
        lanes[i] = activate1(lanes[i], activation, low, high);
    return v_pack(lanes);
}

/* The end of one element: flags 2 and 4 say whether there are bias and residual. */
FUNCTION void finish1(GLOBAL T *y, A x, const GLOBAL T *bias, const GLOBAL T *residual, int flags,
                      int activation, A low, A high)
{
    if (flags & 2)
        x += load1(bias);
    if (flags & 4)
        x += load1(residual);
    store1(y, activation ? activate1(x, activation, low, high) : x);
}

/* The end of count lanes, step apart in y and in the residual. The bias of each lane is its own where
   bias_step is 1; where it is 0 all have one. */
FUNCTION void finish(GLOBAL T *y, i64 step, int count, V x, const GLOBAL T *bias, i64 bias_step,
                     const GLOBAL T *residual, int flags, int activation, A low, A high)
{
    if (flags & 2)
        x = v_add(x, bias_step ? v_gather(bias, 1, 0, count, (A)0) : v_splat(load1(bias)));
    if (flags & 4)
        x = v_add(x, v_gather(residual, step, 0, count, (A)0));
    v_scatter(y, step, count, activate(x, activation, low, high));
}
