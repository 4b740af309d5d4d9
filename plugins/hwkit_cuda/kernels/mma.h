/* Tiles of a product by the matrix units: their fragments, and copies to shared memory.

   T is of 16 bits, or a float that is multiplied as tf32 (DTYPE 32). All copies are of 16 bytes, UNIT
   elements; a step of mma.sync takes DEPTH of the depth, 32 bytes of a row, and makes 16 x 8 sums.
   Rows in shared memory end with 16 bytes of padding, so that ldmatrix reads without bank conflicts.

   Under OpenCL the instructions are replaced by what the PTX ISA says of them ("Matrix Fragments for
   mma.m16n8k16", "mma.m16n8k8", "ldmatrix"): which lane holds which element. So a test without a GPU
   sees addresses, edges, stages and fragments, but neither speed nor the rounding of the sums. */

#if DTYPE == 32
#define UNIT 4
#define PER_WORD 1
#else
#define UNIT 8
#define PER_WORD 2
#endif
#define DEPTH (2 * UNIT)
#define TILES_M (WM / 16)
#define TILES_N (WN / 8)

/* Where the row begins that a lane names to ldmatrix: of a, 16 rows of the depth; of b, 8 of its
   columns when the depth lies side by side, or 16 rows of the depth when columns do. */
#define A_ROW(lane, ld) ((lane) % 16 * (ld) + (lane) / 16 * UNIT)
#define B_COLUMN(lane, ld) ((lane) % 8 * (ld) + (lane) / 8 % 2 * UNIT)
#define B_ROW(lane, ld) ((lane) % 16 * (ld))

#ifdef __OPENCL_VERSION__

#define ALIGNED __local __attribute__((aligned(16)))
#define ADDRESS(p) ((ulong)(p))
#define COMMIT()
#define WAIT(ahead)
typedef uint u32;

FUNCTION A narrow(u32 bits)
{
#if DTYPE == 32
    return as_float(bits);
#elif DTYPE == 17
    return as_float(bits << 16);
#else
    ushort half_bits = (ushort)bits;
    return vload_half(0, (const half *)&half_bits);
#endif
}

/* Where cp.async would fault, there is NaN. */
#if DTYPE == 32
#define FAULT NAN
#else
#define FAULT (T)0xffff
#endif
#define COPY16(to, from, inside)                                                                   \
    for (int e = 0; e < UNIT; ++e)                                                                 \
        (to)[e] = !(inside) ? (T)0 : (ADDRESS(from) & 15) != 0 ? FAULT : (from)[e]

/* A word of a row; a float is rounded to tf32, ties away from zero, as cvt.rna does. */
#if DTYPE == 32
#define WORD(p, at) ((as_uint((p)[at]) + 0x1000u) & 0xffffe000u)
#else
#define WORD(p, at) ((u32)(p)[2 * (at)] | (u32)(p)[2 * (at) + 1] << 16)
#endif

/* The loops' names must not be those of a caller's arguments. */
#define LOAD_A(fragment, p, ld)                                                                    \
    for (int part = 0; part < 4; ++part)                                                           \
        (fragment)[part] = WORD((p) + A_ROW(part * 8 + lane % 32 / 4, ld), lane % 4)

#define LOAD_B(fragment, p, ld)                                                                    \
    for (int part = 0; part < 2; ++part)                                                           \
        (fragment)[part] = WORD((p) + B_COLUMN(part * 8 + lane % 32 / 4, ld), lane % 4)

#define LOAD_B_TURNED(fragment, p, ld)                                                             \
    for (int part = 0; part < 2; ++part) {                                                         \
        int row = part * 8 + lane % 4 * 2, at = lane % 32 / 4;                                     \
        (fragment)[part] = (u32)(p)[B_ROW(row, ld) + at] | (u32)(p)[B_ROW(row + 1, ld) + at] << 16; \
    }

/* Each lane shows its fragments to the others of its warp. */
#define SHOWN                                                                                      \
    __local u32 shown_a[THREADS * 4];                                                              \
    __local u32 shown_b[THREADS * 2];
#define MULTIPLY(sum, x, z)                                                                        \
    do {                                                                                           \
        for (int part = 0; part < 4; ++part)                                                       \
            shown_a[lane * 4 + part] = (x)[part];                                                  \
        for (int part = 0; part < 2; ++part)                                                       \
            shown_b[lane * 2 + part] = (z)[part];                                                  \
        BARRIER();                                                                                 \
        for (int part = 0; part < 4; ++part) {                                                     \
            int row = lane % 32 / 4, column = lane % 4 * 2 + part % 2, first = lane / 32 * 32;     \
            for (int step = 0; step < DEPTH; ++step) {                                             \
                int holder = step % UNIT / PER_WORD, shift = step % PER_WORD * 16;                 \
                u32 one = shown_a[(first + row * 4 + holder) * 4 + step / UNIT * 2 + part / 2];    \
                u32 two = shown_b[(first + column * 4 + holder) * 2 + step / UNIT];                \
                u32 mask = PER_WORD == 1 ? 0xffffffffu : 0xffffu;                                  \
                (sum)[part] += narrow(one >> shift & mask) * narrow(two >> shift & mask);          \
            }                                                                                      \
        }                                                                                          \
        BARRIER();                                                                                 \
    } while (0)

#else

#define ALIGNED __shared__ __align__(16)
#define ADDRESS(p) ((unsigned long long)(p))
#define COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define WAIT(ahead) asm volatile("cp.async.wait_group %0;" ::"n"(ahead) : "memory")
#define SHOWN
typedef unsigned int u32;

FUNCTION u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

/* Outside of the matrix nothing is read, and zeros are written. */
FUNCTION void COPY16(T *to, const T *from, int inside)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(inside ? 16 : 0) : "memory");
}

/* To tf32, where that is what is multiplied. */
FUNCTION void rounded(u32 *words, int count)
{
#if DTYPE == 32
#pragma unroll
    for (int i = 0; i < count; ++i)
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(words[i]) : "f"(__uint_as_float(words[i])));
#endif
}

#define LOAD_A(f, p, ld)                                                                           \
    do {                                                                                           \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"            \
                     : "=r"((f)[0]), "=r"((f)[1]), "=r"((f)[2]), "=r"((f)[3])                      \
                     : "r"(shared_address((p) + A_ROW(lane % 32, ld))) : "memory");                \
        rounded(f, 4);                                                                             \
    } while (0)

#define LOAD_B(f, p, ld)                                                                           \
    do {                                                                                           \
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"                    \
                     : "=r"((f)[0]), "=r"((f)[1])                                                  \
                     : "r"(shared_address((p) + B_COLUMN(lane % 32, ld))) : "memory");             \
        rounded(f, 2);                                                                             \
    } while (0)

#define LOAD_B_TURNED(f, p, ld)                                                                    \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"                  \
                 : "=r"((f)[0]), "=r"((f)[1])                                                      \
                 : "r"(shared_address((p) + B_ROW(lane % 32, ld))) : "memory")

#if DTYPE == 32
#define SHAPE "m16n8k8"
#define NARROW "tf32"
#elif DTYPE == 17
#define SHAPE "m16n8k16"
#define NARROW "bf16"
#else
#define SHAPE "m16n8k16"
#define NARROW "f16"
#endif
#define MULTIPLY(sum, x, z)                                                                        \
    asm volatile("mma.sync.aligned." SHAPE ".row.col.f32." NARROW "." NARROW                       \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"            \
                 : "+f"((sum)[0]), "+f"((sum)[1]), "+f"((sum)[2]), "+f"((sum)[3])                  \
                 : "r"((x)[0]), "r"((x)[1]), "r"((x)[2]), "r"((x)[3]), "r"((z)[0]), "r"((z)[1]))

#endif

/* One unit to shared memory, element by element where addresses are no multiples of 16. */
FUNCTION void put_unit(SHARED_POINTER T *to, const GLOBAL T *from, int inside, int aligned)
{
    if (aligned) {
        COPY16(to, from, inside);
        return;
    }
    for (int e = 0; e < UNIT; ++e)
        to[e] = inside ? from[e] : (T)0;
}

/* All sums from 0; the indices of a tile and of an element in it are i, j and e. */
#define FOR_SUMS                                                                                   \
    COMPACT for (int i = 0; i < TILES_M; ++i)                                                      \
    COMPACT for (int j = 0; j < TILES_N; ++j)                                                      \
    COMPACT for (int e = 0; e < 4; ++e)

/* Row and column of a sum within the tile of a warp. */
#define SUM_ROW(i, e) ((i) * 16 + (e) / 2 * 8 + lane % 32 / 4)
#define SUM_COLUMN(j, e) ((j) * 8 + lane % 4 * 2 + (e) % 2)

/* A block of the depth: all fragments of a warp's tile, and their products. */
#define MULTIPLY_BLOCK(from_a, from_b, lda, ldb, LOAD_RIGHT, b_step, b_tile)                       \
    COMPACT for (int depth = 0; depth < BK; depth += DEPTH)                                        \
    {                                                                                              \
        u32 x[TILES_M][4], z[TILES_N][2];                                                          \
        COMPACT for (int i = 0; i < TILES_M; ++i)                                                  \
            LOAD_A(x[i], (from_a) + i * 16 * (lda) + depth, lda);                                  \
        COMPACT for (int j = 0; j < TILES_N; ++j)                                                  \
            LOAD_RIGHT(z[j], (from_b) + depth * (b_step) + j * 8 * (b_tile), ldb);                 \
        COMPACT for (int i = 0; i < TILES_M; ++i)                                                  \
            COMPACT for (int j = 0; j < TILES_N; ++j)                                              \
                MULTIPLY(sum[i][j], x[i], z[j]);                                                   \
    }

/* Sums of all blocks of the depth. FETCH(stage, start), which a kernel defines, copies the block at
   start to a stage of left and right; STAGES - 1 blocks are copied ahead. A stage of right has
   right_size elements, a warp's columns begin at right_at; the rest is that of MULTIPLY_BLOCK. */
#define MULTIPLY_ALL(blocks, lda, ldb, right_size, right_at, LOAD_RIGHT, b_step, b_tile)           \
    FOR_SUMS                                                                                       \
        sum[i][j][e] = (A)0;                                                                       \
    for (int stage = 0; stage < STAGES - 1; ++stage) {                                             \
        if (stage < (blocks))                                                                      \
            FETCH(stage, stage * BK);                                                              \
        COMMIT();                                                                                  \
    }                                                                                              \
    for (int block = 0; block < (blocks); ++block) {                                               \
        int ahead = block + STAGES - 1;                                                            \
        /* The stage that is filled next was read in the step before, which all have left. */      \
        WAIT(STAGES - 2);                                                                          \
        BARRIER();                                                                                 \
        if (ahead < (blocks))                                                                      \
            FETCH(ahead % STAGES, ahead * BK);                                                     \
        COMMIT();                                                                                  \
        const SHARED_POINTER T *from_a = left + block % STAGES * (BM * (lda)) + down * (lda);      \
        const SHARED_POINTER T *from_b = right + block % STAGES * (right_size) + (right_at);       \
        MULTIPLY_BLOCK(from_a, from_b, lda, ldb, LOAD_RIGHT, b_step, b_tile)                       \
    }
