/* y = activation(alpha a b + beta c + bias + residual) by the matrix units, for narrow types.

   A block makes BM x BN of y, a warp of it WM x WN, in steps of 16 x 8 x 16 (mma.sync). STAGES blocks
   of a and b lie in shared memory, copied ahead by cp.async. Rows end with 8 elements of padding, so
   that ldmatrix reads without bank conflicts.

   Under OpenCL the instructions are replaced by what the PTX ISA says of them ("Matrix Fragments for
   mma.m16n8k16", "ldmatrix"): which lane holds which element. So a test without a GPU sees addresses,
   edges, stages and fragments, but neither speed nor the rounding of the matrix units. */

#define LDA (BK + 8)
#define LDB (BN + 8)
#define TILES_M (WM / 16)
#define TILES_N (WN / 8)

/* Where the row begins that a lane names to ldmatrix: 16 x 16 of a, 16 x 8 of b. */
#define A_ROW(lane) ((lane) % 16 * LDA + (lane) / 16 * 8)
#define B_ROW(lane) ((lane) % 16 * LDB)

#ifdef __OPENCL_VERSION__

#define ALIGNED __local __attribute__((aligned(16)))
#define ADDRESS(p) ((ulong)(p))
#define COMMIT()
#define WAIT(ahead)
typedef uint u32;

FUNCTION A narrow(u32 bits)
{
#if DTYPE == 17
    return as_float(bits << 16);
#else
    ushort half_bits = (ushort)bits;
    return vload_half(0, (const half *)&half_bits);
#endif
}

#define COPY16(to, from, inside)                                                                   \
    for (int e = 0; e < 8; ++e)                                                                    \
        (to)[e] = (inside) ? (from)[e] : (T)0

/* The loops' names must not be those of a caller's arguments. */
#define LOAD_A(fragment, p)                                                                        \
    for (int part = 0; part < 4; ++part) {                                                         \
        int at = A_ROW(part * 8 + lane % 32 / 4) + lane % 4 * 2;                                   \
        (fragment)[part] = (u32)(p)[at] | (u32)(p)[at + 1] << 16;                                  \
    }

#define LOAD_B(fragment, p)                                                                        \
    for (int part = 0; part < 2; ++part) {                                                         \
        int row = part * 8 + lane % 4 * 2, at = lane % 32 / 4;                                     \
        (fragment)[part] = (u32)(p)[B_ROW(row) + at] | (u32)(p)[B_ROW(row + 1) + at] << 16;        \
    }

/* Each lane shows its fragments to the others of its warp. */
#define MULTIPLY(sum, x, z)                                                                        \
    do {                                                                                           \
        for (int part = 0; part < 4; ++part)                                                       \
            shown_a[lane * 4 + part] = (x)[part];                                                  \
        for (int part = 0; part < 2; ++part)                                                       \
            shown_b[lane * 2 + part] = (z)[part];                                                  \
        BARRIER();                                                                                 \
        for (int part = 0; part < 4; ++part) {                                                     \
            int row = lane % 32 / 4, column = lane % 4 * 2 + part % 2, first = lane / 32 * 32;     \
            for (int step = 0; step < 16; ++step) {                                                \
                int holder = step % 8 / 2, shift = step % 2 * 16;                                  \
                u32 one = shown_a[(first + row * 4 + holder) * 4 + step / 8 * 2 + part / 2];       \
                u32 two = shown_b[(first + column * 4 + holder) * 2 + step / 8];                   \
                (sum)[part] += narrow(one >> shift & 0xffff) * narrow(two >> shift & 0xffff);      \
            }                                                                                      \
        }                                                                                          \
        BARRIER();                                                                                 \
    } while (0)

#else

#define ALIGNED __shared__ __align__(16)
#define ADDRESS(p) ((unsigned long long)(p))
#define COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define WAIT(ahead) asm volatile("cp.async.wait_group %0;" ::"n"(ahead) : "memory")
typedef unsigned int u32;

FUNCTION u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

/* Outside of the matrix nothing is read, and zeros are written. */
FUNCTION void COPY16(T *to, const T *from, int inside)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(inside ? 16 : 0) : "memory");
}

#define LOAD_A(f, p)                                                                               \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"                \
                 : "=r"((f)[0]), "=r"((f)[1]), "=r"((f)[2]), "=r"((f)[3])                          \
                 : "r"(shared_address((p) + A_ROW(lane % 32))) : "memory")

#define LOAD_B(f, p)                                                                               \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"                  \
                 : "=r"((f)[0]), "=r"((f)[1])                                                      \
                 : "r"(shared_address((p) + B_ROW(lane % 32))) : "memory")

#if DTYPE == 17
#define NARROW "bf16"
#else
#define NARROW "f16"
#endif
#define MULTIPLY(sum, x, z)                                                                        \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NARROW "." NARROW                        \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"            \
                 : "+f"((sum)[0]), "+f"((sum)[1]), "+f"((sum)[2]), "+f"((sum)[3])                  \
                 : "r"((x)[0]), "r"((x)[1]), "r"((x)[2]), "r"((x)[3]), "r"((z)[0]), "r"((z)[1]))

#endif

/* One block of a and of b to shared memory. */
#define FETCH(stage, start)                                                                        \
    do {                                                                                           \
        for (int at = lane; at < BM * BK / 8; at += THREADS) {                                     \
            int row = at / (BK / 8), column = at % (BK / 8) * 8;                                   \
            int inside = top + row < m && (start) + column < k;                                    \
            const GLOBAL T *from = inside ? a + (i64)(top + row) * k + (start) + column : a;       \
            put8(left + (stage) * (BM * LDA) + row * LDA + column, from, inside, aligned);         \
        }                                                                                          \
        for (int at = lane; at < BK * BN / 8; at += THREADS) {                                     \
            int row = at / (BN / 8), column = at % (BN / 8) * 8;                                   \
            int inside = (start) + row < k && side + column < n;                                   \
            const GLOBAL T *from = inside ? b + (i64)((start) + row) * n + side + column : b;      \
            put8(right + (stage) * (BK * LDB) + row * LDB + column, from, inside, aligned);        \
        }                                                                                          \
    } while (0)

FUNCTION void put8(SHARED_POINTER T *to, const GLOBAL T *from, int inside, int aligned)
{
    if (aligned) {
        COPY16(to, from, inside);
        return;
    }
    for (int e = 0; e < 8; ++e)
        to[e] = inside ? from[e] : (T)0;
}

KERNEL(gemm_mma)(const GLOBAL T *a, const GLOBAL T *b, const GLOBAL T *c, const GLOBAL T *bias,
                 const GLOBAL T *residual, GLOBAL T *y, int m, int n, int k, i64 a_batch,
                 i64 b_batch, A alpha, A beta, int flags, int activation, A low, A high)
{
    ALIGNED T left[STAGES * BM * LDA];
    ALIGNED T right[STAGES * BK * LDB];
#ifdef __OPENCL_VERSION__
    __local u32 shown_a[THREADS * 4];
    __local u32 shown_b[THREADS * 2];
#endif
    int lane = LANE(), batch = GROUP(2), top = GROUP(0) * BM, side = GROUP(1) * BN;
    int down = lane / 32 / (BN / WN) * WM, across = lane / 32 % (BN / WN) * WN;
    int blocks = (k + BK - 1) / BK;
    A sum[TILES_M][TILES_N][4];
    a += batch * a_batch;
    b += batch * b_batch;
    int aligned = ((ADDRESS(a) | ADDRESS(b)) & 15) == 0;
#pragma unroll
    for (int i = 0; i < TILES_M; ++i)
#pragma unroll
        for (int j = 0; j < TILES_N; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                sum[i][j][e] = (A)0;
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (stage < blocks)
            FETCH(stage, stage * BK);
        COMMIT();
    }
    for (int block = 0; block < blocks; ++block) {
        int ahead = block + STAGES - 1;
        /* The stage that is filled next was read in the step before, which all have left. */
        WAIT(STAGES - 2);
        BARRIER();
        if (ahead < blocks)
            FETCH(ahead % STAGES, ahead * BK);
        COMMIT();
        const SHARED_POINTER T *from_a = left + block % STAGES * (BM * LDA) + down * LDA;
        const SHARED_POINTER T *from_b = right + block % STAGES * (BK * LDB) + across;
#pragma unroll
        for (int depth = 0; depth < BK; depth += 16) {
            u32 x[TILES_M][4], z[TILES_N][2];
#pragma unroll
            for (int i = 0; i < TILES_M; ++i)
                LOAD_A(x[i], from_a + i * 16 * LDA + depth);
#pragma unroll
            for (int j = 0; j < TILES_N; ++j)
                LOAD_B(z[j], from_b + depth * LDB + j * 8);
#pragma unroll
            for (int i = 0; i < TILES_M; ++i)
#pragma unroll
                for (int j = 0; j < TILES_N; ++j)
                    MULTIPLY(sum[i][j], x[i], z[j]);
        }
    }
    y += (i64)batch * m * n;
#pragma unroll
    for (int i = 0; i < TILES_M; ++i)
#pragma unroll
        for (int j = 0; j < TILES_N; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                int row = top + down + i * 16 + e / 2 * 8 + lane % 32 / 4;
                int column = side + across + j * 8 + lane % 4 * 2 + e % 2;
                i64 to = (i64)row * n + column;
                A value = alpha * sum[i][j][e];
                if (row >= m || column >= n)
                    continue;
                if (flags & 1)
                    value += beta * load1(c + to);
                if (flags & 2)
                    value += load1(bias + column);
                if (flags & 4)
                    value += load1(residual + to);
                store1(y + to, activation ? activate1(value, activation, low, high) : value);
            }
}
