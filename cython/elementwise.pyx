cdef extern from "elementwise.h" nogil:
    ctypedef struct hwkit_elementwise:
        int64_t b, n, c, l
        int is_double
        int operator_ "operator"
        hwkit_activation act
        int64_t block
        int threads
    enum:
        HWKIT_TANH
        HWKIT_EXP
        HWKIT_ELU
        HWKIT_HARD_SIGMOID
        HWKIT_ERF
        HWKIT_GELU
        HWKIT_GELU_TANH
        HWKIT_MISH
        HWKIT_NO_OTHER
        HWKIT_ADD
        HWKIT_SUBTRACT
        HWKIT_MULTIPLY
        HWKIT_DIVIDE
        HWKIT_MAXIMUM
        HWKIT_MINIMUM
        HWKIT_PRELU
    hwkit_plan *hwkit_elementwise_plan(const hwkit_elementwise *)


cdef dict _ALONE = {
    "tanh": HWKIT_TANH, "exp": HWKIT_EXP, "elu": HWKIT_ELU, "hard_sigmoid": HWKIT_HARD_SIGMOID,
    "erf": HWKIT_ERF, "gelu": HWKIT_GELU, "gelu_tanh": HWKIT_GELU_TANH, "mish": HWKIT_MISH,
}
cdef dict _OPERATORS = {
    "none": HWKIT_NO_OTHER, "add": HWKIT_ADD, "subtract": HWKIT_SUBTRACT,
    "multiply": HWKIT_MULTIPLY, "divide": HWKIT_DIVIDE, "maximum": HWKIT_MAXIMUM,
    "minimum": HWKIT_MINIMUM, "prelu": HWKIT_PRELU,
}


def elementwise(operands, output, *, int64_t b, int64_t n, int64_t c, int64_t l, operator="none",
                activation=None, bint is_double=False, int64_t block, int threads=1):
    """Return the Run of an elementwise operator; ``operands`` and ``output`` are (shape, dtype).

    Args:
        operator: what joins the two operands, ``"none"`` if there is one.
        activation: name and parameters, or ``None``.
    """
    cdef hwkit_elementwise d
    memset(&d, 0, sizeof(d))
    if min(b, n, c, l, block, threads) < 1:
        raise ValueError("sizes, blocks and threads must be at least 1")
    d.b, d.n, d.c, d.l, d.operator_, d.is_double = b, n, c, l, _OPERATORS[operator], is_double
    if activation is not None and activation[0] in _ALONE:
        d.act.kind = _ALONE[activation[0]]
        d.act.lo, d.act.hi = (*activation[1], 0.0, 0.0)[:2]
    else:
        d.act = read_activation(activation)
    d.block, d.threads = block, threads
    return make_run(hwkit_elementwise_plan(&d), operands, output)
