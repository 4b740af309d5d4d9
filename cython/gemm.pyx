cdef extern from "gemm.h" nogil:
    ctypedef struct hwkit_activation:
        int kind
        double lo, hi
    enum:
        HWKIT_IDENTITY
        HWKIT_CLAMP
        HWKIT_LEAKY_RELU
        HWKIT_SIGMOID
        HWKIT_HARD_SWISH
        HWKIT_SILU
        HWKIT_MAX_ROWS
        HWKIT_MAX_VECTORS
    ctypedef struct hwkit_gemm_kernels:
        void *by_panel[8][14]
    ctypedef struct hwkit_kernels:
        int vl
        const hwkit_gemm_kernels *gemm
    ctypedef struct hwkit_isa:
        const char *name
        hwkit_kernels f32
        hwkit_kernels f64
    const hwkit_isa *hwkit_isa_get()
    enum:
        HWKIT_AMX_NONE
    int hwkit_amx()
    int hwkit_pairs()
    int hwkit_vnni()
    const char *hwkit_isa_name()
    ctypedef struct hwkit_amx_way:
        int products, pairs
        hwkit_half half
    ctypedef struct hwkit_gemm:
        int64_t batch, m, n, k
        int a_shared, b_shared, transpose_a, transpose_b, is_double
        double alpha, beta
        int has_addend, has_bias, has_residual
        hwkit_activation act
        int algorithm, rows, vectors
        int64_t kc, mc, nc
        int pack_a, storage, threads
        hwkit_amx_way way
    hwkit_plan *hwkit_gemm_plan(const hwkit_gemm *)


cdef hwkit_activation read_activation(activation) except *:
    """Read a pair of name and parameters, or None."""
    cdef hwkit_activation act
    act.kind, act.lo, act.hi = HWKIT_IDENTITY, 0, 0
    if activation is None:
        return act
    name, parameters = activation
    if name in ("relu", "relu6", "clip"):
        act.kind = HWKIT_CLAMP
        act.lo, act.hi = {"relu": (0.0, float("inf")), "relu6": (0.0, 6.0)}.get(name) or parameters
    elif name == "leaky_relu":
        act.kind, act.lo = HWKIT_LEAKY_RELU, parameters[0]
    elif name == "sigmoid":
        act.kind = HWKIT_SIGMOID
    elif name == "hard_swish":
        act.kind = HWKIT_HARD_SWISH
    elif name == "silu":
        act.kind = HWKIT_SILU
    else:
        raise ValueError(f"activation {name!r} is not known to the compiled kernels")
    return act


def tiles(bint is_double):
    """Return the tiles of micro-kernels as (rows, vectors), the elements of a vector, and the ISA."""
    cdef const hwkit_isa *isa = hwkit_isa_get()
    cdef const hwkit_kernels *kernels = &isa.f64 if is_double else &isa.f32
    found = [
        (rows + 1, vectors + 1)
        for vectors in range(HWKIT_MAX_VECTORS)
        for rows in range(HWKIT_MAX_ROWS)
        if kernels.gemm.by_panel[2 * vectors + 1][rows] != NULL
    ]
    return found, kernels.vl, isa.name.decode()


def _check_tile(bint is_double, int rows, int vectors):
    if (rows, vectors) not in tiles(is_double)[0]:
        raise ValueError(f"there is no tile of {rows} rows and {vectors} vectors here")


cdef hwkit_amx_way read_way(dtype, int products, bint pairs) except *:
    """Check how operands of a dtype are to be multiplied by tiles, or by pairs."""
    cdef hwkit_amx_way way
    known = {"float32": (1, 3, 6), "float16": (3, 4), "bfloat16": (1,)}
    if products not in known.get(np.dtype(dtype).name, ()) or pairs and products != 1:
        raise ValueError(
            "tiles multiply float32 by 1, 3 or 6 products, float16 by 3 or 4, bfloat16 by 1, and "
            "pairs by 1")
    if (hwkit_pairs() if pairs else hwkit_amx()) == HWKIT_AMX_NONE:
        raise ValueError(f"tiles need a processor with {'AVX512-BF16' if pairs else 'AMX'}")
    way.products, way.pairs, way.half = products, pairs, half_of(dtype)
    return way


def gemm(operands, output, *, int64_t batch=1, int64_t m, int64_t n, int64_t k,
         bint a_shared=False, bint b_shared=False, bint transpose_a=False, bint transpose_b=False,
         bint is_double=False, double alpha=1, double beta=0, bint bias=False, bint residual=False,
         activation=None, str algorithm, int rows, int vectors, int64_t kc, int64_t mc, int64_t nc,
         bint pack_a=False, storage=None, int products=0, bint pairs=False, int threads=1):
    """Return the Run of a matrix product; ``operands`` and ``output`` are (shape, dtype)."""
    cdef hwkit_gemm g
    cdef Run made
    if min(batch, m, n, k, kc, mc, nc, threads) < 1:
        raise ValueError("sizes, blocks and threads must be at least 1")
    g.algorithm = (
        "packed", "unpacked", "dot", "stream", "narrow", "strassen", "tiles").index(algorithm)
    if transpose_b and (algorithm == "unpacked" or algorithm == "stream" and not transpose_a):
        raise ValueError(f"algorithm {algorithm} does not take these transposes")
    if algorithm == "strassen" and (transpose_a or k < 2):
        raise ValueError("algorithm strassen takes a as it is, and a depth of at least 2")
    if algorithm == "narrow" and (transpose_a or is_double or storage is None):
        raise ValueError("algorithm narrow takes float32, a as it is, and a storage")
    if algorithm == "tiles":
        g.way = read_way(output[1], products, pairs)
    g.storage = (None, "bfloat16", "int8", "int24").index(storage)
    _check_tile(is_double, rows, vectors)
    g.batch, g.m, g.n, g.k = batch, m, n, k
    g.a_shared, g.b_shared = a_shared, b_shared
    g.transpose_a, g.transpose_b, g.is_double = transpose_a, transpose_b, is_double
    g.alpha, g.beta = alpha, beta
    g.has_addend, g.has_bias, g.has_residual = beta != 0, bias, residual
    g.act = read_activation(activation)
    g.rows, g.vectors, g.kc, g.mc, g.nc = rows, vectors, kc, mc, nc
    g.pack_a, g.threads = pack_a, threads
    made = make_run(hwkit_gemm_plan(&g), operands, output)
    if made.specs[0].dims[made.specs[0].nd - 1] != k:
        # A column that is read as a row: what lies further apart then is each of its elements.
        made.plan.x_apart = False
    return made
