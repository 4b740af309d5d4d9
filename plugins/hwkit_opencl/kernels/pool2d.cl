/* Pooling. MAXIMUM 1: the greatest, NaN first; 0: the mean.

   ACROSS 1: the vector lies across channels, side by side (nhwc); 0: across the pixels of a row. */

KERNEL(pool2d)(const GLOBAL T *x, GLOBAL T *y, int channels, int h, int width, int p, int q, int r,
               int s, int top, int left, int stride_y, int stride_x, int dilation_y,
               int dilation_x, int first_row, int last_row, int first_column, int last_column,
               i64 x_n, i64 x_c, i64 x_h, i64 x_w, i64 y_n, i64 y_c, i64 y_p, i64 y_q)
{
    int unit = GROUP(0) * THREADS + LANE(), image = GROUP(2);
    V result = v_splat(MAXIMUM ? -INF : (A)0);
    A counts[VEC];
    int rows = 0;
#if ACROSS
    int strips = (channels + VEC - 1) / VEC;
    int channel = unit % strips * VEC, column = unit / strips, row = GROUP(1);
    int lanes = channels - channel;
    i64 step = y_c;
    if (column >= q)
        return;
#else
    int strips = (q + VEC - 1) / VEC;
    int column = unit % strips * VEC, row = unit / strips, channel = GROUP(1);
    int lanes = q - column;
    i64 step = y_q;
    if (row >= p)
        return;
#endif
    x += image * x_n + channel * x_c;
    for (int u = 0; u < r; ++u) {
        int a = row * stride_y - top + u * dilation_y;
        V partial = v_splat((A)0);
        rows += a >= first_row && a < last_row;
        if (a < 0 || a >= h)
            continue;
        for (int v = 0; v < s; ++v) {
            int b = column * stride_x - left + v * dilation_x;
#if ACROSS
            if (b < 0 || b >= width)
                continue;
            V value = v_gather(x + a * x_h + b * x_w, x_c, 0, lanes, (A)0);
#else
            int low_lane = b >= 0 ? 0 : (-b + stride_x - 1) / stride_x;
            int high_lane = b >= width ? 0 : (width - b + stride_x - 1) / stride_x;
            V value = v_gather(x + a * x_h + b * x_w, stride_x * x_w, low_lane, high_lane,
                               MAXIMUM ? -INF : (A)0);
#endif
#if MAXIMUM
            result = v_max(result, value);
#else
            partial = v_add(partial, value);
#endif
        }
#if !MAXIMUM
        /* Rows first: short sums round less than one long one. */
        result = v_add(result, partial);
#endif
    }
#if !MAXIMUM
    {
        A sums[VEC];
        v_unpack(sums, result);
        for (int i = 0; i < VEC; ++i) {
            int count = 0, across = ACROSS ? 0 : i;
            for (int v = 0; v < s; ++v) {
                int b = (column + across) * stride_x - left + v * dilation_x;
                count += b >= first_column && b < last_column;
            }
            counts[i] = rows * count > 0 ? (A)(rows * count) : (A)1;
            sums[i] = sums[i] / counts[i];
        }
        result = v_pack(sums);
    }
#endif
    v_scatter(y + image * y_n + channel * y_c + row * y_p + column * y_q, step, lanes, result);
}

/* One value of a whole image of elements side by side: a work-item an image and channel. */
KERNEL(reduce_image)(const GLOBAL T *x, GLOBAL T *y, int images, int size)
{
    int image = GROUP(0) * THREADS + LANE(), at = 0;
    V several[4];
    A lanes[VEC], result = MAXIMUM ? -INF : (A)0;
    if (image >= images)
        return;
    x += (i64)image * size;
    for (int i = 0; i < 4; ++i)
        several[i] = v_splat(result);
    for (; at + 4 * VEC <= size; at += 4 * VEC) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            V value = v_load(x + at + i * VEC);
            several[i] = MAXIMUM ? v_max(several[i], value) : v_add(several[i], value);
        }
    }
    for (int i = 0; i < 4; ++i) {
        v_unpack(lanes, several[i]);
        for (int j = 0; j < VEC; ++j)
            if (!MAXIMUM)
                result += lanes[j];
            else if (lanes[j] > result || lanes[j] != lanes[j])
                result = lanes[j];
    }
    for (; at < size; ++at) {
        A value = load1(x + at);
        if (!MAXIMUM)
            result += value;
        else if (value > result || value != value)
            result = value;
    }
    store1(y + image, MAXIMUM ? result : result / (A)size);
}
