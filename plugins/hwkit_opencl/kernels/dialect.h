/* What OpenCL C and CUDA C++ write differently, so that one kernel text serves both.

   Defined before this text: THREADS, the work-items of a group; VEC, the elements of a vector; DTYPE,
   how elements are stored: 32 float, 64 double, 16 IEEE half, 17 bfloat16. The two narrow ones are
   computed in float.

   T is an element as stored, A one as computed, V is VEC of A. Groups are one-dimensional on both
   sides, and kernels split LANE() by hand, so that neighbours in memory are neighbours in both. */

#ifdef __OPENCL_VERSION__

#if DTYPE == 64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#define KERNEL(name) __kernel __attribute__((reqd_work_group_size(THREADS, 1, 1))) void name
#define GLOBAL __global
#define SHARED __local
#define SHARED_POINTER __local
#define FUNCTION static inline
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define GROUP(axis) ((int)get_group_id(axis))
#define LANE() ((int)get_local_id(0))
typedef long i64;
/* What runs once a tile: as little text as can be, for it is compiled on the spot. */
#define COMPACT _Pragma("nounroll")

#else

#define KERNEL(name) extern "C" __global__ void __launch_bounds__(THREADS) name
#define GLOBAL
#define SHARED __shared__
#define SHARED_POINTER
#define FUNCTION static __device__ __forceinline__
#define BARRIER() __syncthreads()
#define GROUP(axis) ((int)((axis) == 0 ? blockIdx.x : (axis) == 1 ? blockIdx.y : blockIdx.z))
#define LANE() ((int)threadIdx.x)
typedef long long i64;
#define COMPACT _Pragma("unroll")

#endif

#if DTYPE == 64
typedef double T;
typedef double A;
#define INF ((A)(1.0 / 0.0))
#elif DTYPE == 32
typedef float T;
typedef float A;
#else
typedef float A;
typedef unsigned short T;
#endif

#if DTYPE != 64
#ifdef __OPENCL_VERSION__
#define INF INFINITY
#else
#define INF __int_as_float(0x7f800000)
#endif
#endif

/* One element. */

#if DTYPE == 17
FUNCTION A bits_to_float(unsigned int bits)
{
#ifdef __OPENCL_VERSION__
    return as_float(bits);
#else
    return __uint_as_float(bits);
#endif
}

FUNCTION T round_to_bfloat16(A x)
{
#ifdef __OPENCL_VERSION__
    unsigned int bits = as_uint(x);
#else
    unsigned int bits = __float_as_uint(x);
#endif
    if (x != x)
        return (T)((bits >> 16) | 64u);
    return (T)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

FUNCTION A load1(const GLOBAL T *p) { return bits_to_float((unsigned int)*p << 16); }
FUNCTION void store1(GLOBAL T *p, A x) { *p = round_to_bfloat16(x); }
#elif DTYPE == 16 && defined(__OPENCL_VERSION__)
FUNCTION A load1(const GLOBAL T *p) { return vload_half(0, (const GLOBAL half *)p); }
FUNCTION void store1(GLOBAL T *p, A x) { vstore_half_rte(x, 0, (GLOBAL half *)p); }
#elif DTYPE == 16
FUNCTION A load1(const T *p)
{
    A x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(*p));
    return x;
}
FUNCTION void store1(T *p, A x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(*p) : "f"(x)); }
#else
FUNCTION A load1(const GLOBAL T *p) { return *p; }
FUNCTION void store1(GLOBAL T *p, A x) { *p = x; }
#endif

/* A vector: OpenCL's own type, or a struct of elements. */

#if defined(__OPENCL_VERSION__) && VEC > 1

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#if DTYPE == 64
typedef PASTE(double, VEC) V;
typedef PASTE(long, VEC) VMASK;
#else
typedef PASTE(float, VEC) V;
typedef PASTE(int, VEC) VMASK;
#endif

FUNCTION V v_splat(A x) { return (V)(x); }
FUNCTION V v_fma(V x, V y, V z) { return x * y + z; }
FUNCTION V v_add(V x, V y) { return x + y; }
FUNCTION V v_max(V x, V y) { return select(x, y, (VMASK)(y > x) | (VMASK)(y != y)); }
FUNCTION void v_unpack(A *lanes, V x) { PASTE(vstore, VEC)(x, 0, lanes); }
FUNCTION V v_pack(const A *lanes) { return PASTE(vload, VEC)(0, lanes); }
#if DTYPE == 32 || DTYPE == 64
FUNCTION V v_load(const GLOBAL T *p) { return PASTE(vload, VEC)(0, p); }
#else
/* One by one: PoCL 3.1 crashes where the result of vload_half8 meets select. */
FUNCTION V v_load(const GLOBAL T *p)
{
    A lanes[VEC];
    for (int i = 0; i < VEC; ++i)
        lanes[i] = load1(p + i);
    return v_pack(lanes);
}
#endif

#else

typedef struct { A lane[VEC]; } V;

FUNCTION V v_splat(A x)
{
    V z;
#pragma unroll
    for (int i = 0; i < VEC; ++i)
        z.lane[i] = x;
    return z;
}

FUNCTION V v_fma(V x, V y, V z)
{
#pragma unroll
    for (int i = 0; i < VEC; ++i)
        z.lane[i] = x.lane[i] * y.lane[i] + z.lane[i];
    return z;
}

FUNCTION V v_add(V x, V y)
{
#pragma unroll
    for (int i = 0; i < VEC; ++i)
        x.lane[i] = x.lane[i] + y.lane[i];
    return x;
}

FUNCTION V v_max(V x, V y)
{
#pragma unroll
    for (int i = 0; i < VEC; ++i)
        x.lane[i] = y.lane[i] > x.lane[i] || y.lane[i] != y.lane[i] ? y.lane[i] : x.lane[i];
    return x;
}

FUNCTION void v_unpack(A *lanes, V x)
{
#pragma unroll
    for (int i = 0; i < VEC; ++i)
        lanes[i] = x.lane[i];
}

FUNCTION V v_pack(const A *lanes)
{
    V z;
#pragma unroll
    for (int i = 0; i < VEC; ++i)
        z.lane[i] = lanes[i];
    return z;
}

FUNCTION V v_load(const GLOBAL T *p)
{
    V z;
#pragma unroll
    for (int i = 0; i < VEC; ++i)
        z.lane[i] = load1(p + i);
    return z;
}

#endif

FUNCTION void v_store(GLOBAL T *p, V x)
{
#if defined(__OPENCL_VERSION__) && VEC > 1 && (DTYPE == 32 || DTYPE == 64)
    PASTE(vstore, VEC)(x, 0, p);
#else
    A lanes[VEC];
    v_unpack(lanes, x);
    for (int i = 0; i < VEC; ++i)
        store1(p + i, lanes[i]);
#endif
}

#if IMAGE
/* VEC elements of an image over a buffer of floats, from texel number at on: past it some devices keep
   a cache of its own. OpenCL and float only, VEC a multiple of 4. */
#define TEXELS __read_only image1d_buffer_t
#define TEXEL(image, at) read_imagef(image, at)
FUNCTION V v_texels(TEXELS image, int at)
{
    A lanes[VEC];
#pragma unroll
    for (int i = 0; i < VEC; i += 4)
        vstore4(TEXEL(image, at + i / 4), 0, lanes + i);
    return v_pack(lanes);
}
#endif

/* Lanes first <= i < last from p[i * step]; the others are fill. */
FUNCTION V v_gather(const GLOBAL T *p, i64 step, int first, int last, A fill)
{
    A lanes[VEC];
    if (step == 1 && first <= 0 && last >= VEC)
        return v_load(p);
    COMPACT
    for (int i = 0; i < VEC; ++i)
        lanes[i] = i >= first && i < last ? load1(p + i * step) : fill;
    return v_pack(lanes);
}

/* The first count lanes to p[i * step]. */
FUNCTION void v_scatter(GLOBAL T *p, i64 step, int count, V x)
{
    A lanes[VEC];
    if (step == 1 && count >= VEC) {
        v_store(p, x);
        return;
    }
    v_unpack(lanes, x);
    COMPACT
    for (int i = 0; i < VEC; ++i)
        if (i < count)
            store1(p + i * step, lanes[i]);
}
