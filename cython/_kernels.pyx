# cython: language_level=3, boundscheck=False, wraparound=False, binding=True
"""The compiled kernels of the host, and the object that runs them on numpy arrays."""

include "ndarray.pyx"

cdef extern from "run.h" nogil:
    enum:
        HWKIT_OK
        HWKIT_MAX_OPERANDS
    ctypedef struct hwkit_constants:
        int count
        const int *positions
        const void *const *operands
        const int64_t *bytes
    ctypedef struct hwkit_plan:
        int (*run)(const hwkit_plan *, const void *const *, void *) noexcept nogil
        int (*run_apart)(const hwkit_plan *, const void *const *, void *, int64_t,
                         int64_t) noexcept nogil
        bint x_apart, out_apart
        hwkit_plan *(*prepack)(const hwkit_plan *, const hwkit_constants *) noexcept nogil
        void (*destroy)(hwkit_plan *) noexcept nogil
        int64_t workspace
        double seconds
    hwkit_plan *hwkit_plan_hold(const hwkit_plan *, int, const hwkit_constants *)

# Below this a released GIL costs more than it gives other threads.
cdef double RELEASE_SECONDS = 2e-6


cdef class Run:
    """A built kernel: ``run(*operands, out=y)`` and the fast path ``run.direct(operands, y)``."""

    cdef hwkit_plan *plan
    cdef int count
    cdef hwkit_spec specs[HWKIT_MAX_OPERANDS]
    cdef hwkit_spec output
    cdef object kept     # dtypes that the specs point to, and a Run that this one calls
    cdef object __weakref__

    def __dealloc__(self):
        if self.plan != NULL:
            self.plan.destroy(self.plan)

    @property
    def workspace(self):
        """Bytes of scratch memory that a run takes, all threads together."""
        return self.plan.workspace

    @property
    def x_apart(self):
        """Whether ``direct`` takes a first operand that is part of a wider array."""
        return self.plan.x_apart

    @property
    def out_apart(self):
        """Whether ``direct`` takes an ``out`` that is part of a wider array."""
        return self.plan.out_apart

    @property
    def seconds(self):
        """A rough estimate of how long a run takes."""
        return self.plan.seconds

    def direct(self, tuple operands, out):
        """Run on the user's own objects; NotImplemented where they are not just as needed.

        Args:
            operands: numpy arrays in order.
            out: array for the result, or ``None`` for a new one. It may be part of a wider array,
                ``wide[..., 8:24]``, if the run is ``out_apart``; so may the first operand, if the
                run is ``x_apart`` and ``out`` is given.
        """
        cdef const void *pointers[HWKIT_MAX_OPERANDS]
        cdef char *data
        cdef char *result
        cdef int i
        if len(operands) != self.count:
            return NotImplemented
        if out is None:
            for i in range(self.count):
                data = hwkit_fitting(operands[i], &self.specs[i], HWKIT_C_CONTIGUOUS | HWKIT_ALIGNED)
                if data == NULL:
                    return NotImplemented
                pointers[i] = data
            out = hwkit_new_array(self.output.nd, self.output.dims, <object>self.output.dtype,
                                  self.output.bytes)
            result = hwkit_fitting(out, &self.output, 0)
        else:
            result = hwkit_fitting(out, &self.output,
                                   HWKIT_C_CONTIGUOUS | HWKIT_ALIGNED | HWKIT_WRITEABLE)
            if result == NULL:
                return self.apart(operands, out)
            for i in range(self.count):
                data = hwkit_fitting(operands[i], &self.specs[i], HWKIT_C_CONTIGUOUS | HWKIT_ALIGNED)
                if data == NULL:
                    return self.apart(operands, out) if i == 0 else NotImplemented
                if data < result + self.output.bytes and result < data + self.specs[i].bytes:
                    return NotImplemented
                pointers[i] = data
        self.go(pointers, result)
        return out

    cdef apart(self, tuple operands, out):
        """Run on parts of wider arrays, whose rows begin further apart, if the plan can."""
        cdef const void *pointers[HWKIT_MAX_OPERANDS]
        cdef char *data
        cdef char *result
        cdef int64_t row, x_row = 0, out_row = 0, reach
        cdef int i, status
        if not (self.plan.x_apart or self.plan.out_apart):
            return NotImplemented
        result = _rows(out, &self.output, self.plan.out_apart, HWKIT_WRITEABLE, &out_row)
        if result == NULL:
            return NotImplemented
        reach = _reach(&self.output, out_row)
        for i in range(self.count):
            data = _rows(operands[i], &self.specs[i], i == 0 and self.plan.x_apart, 0, &row)
            if data == NULL or (data < result + reach
                                and result < data + _reach(&self.specs[i], row)):
                return NotImplemented
            pointers[i] = data
            x_row = row if i == 0 else x_row
        with nogil:
            status = self.plan.run_apart(self.plan, pointers, result, x_row, out_row)
        self.check(status)
        return out

    cdef int go(self, const void **operands, void *out) except -1:
        cdef int status
        if self.plan.seconds > RELEASE_SECONDS:
            with nogil:
                status = self.plan.run(self.plan, operands, out)
        else:
            status = self.plan.run(self.plan, operands, out)
        return self.check(status)

    cdef int check(self, int status) except -1:
        if status != HWKIT_OK:
            raise MemoryError(f"{self.plan.workspace} bytes of scratch memory cannot be had: "
                              "use fewer threads or a smaller problem")
        return 0

    def __call__(self, *operands, out):
        """Write the result into ``out``.

        Raises:
            ValueError: an operand or ``out`` has another shape, dtype or order than the plan, or
                they overlap.
        """
        if out is None or self.direct(operands, out) is NotImplemented:
            wanted = ", ".join(_describe(&self.specs[i]) for i in range(self.count))
            raise ValueError(f"this run takes ({wanted}) as contiguous arrays, and "
                             f"{_describe(&self.output)} as out, which overlaps none of them")

    def prepack(self, constants):
        """Return a Run that keeps its own copy of some operands, in the kernel's own layout.

        Args:
            constants: arrays by position among the operands.
        """
        cdef const void *pointers[HWKIT_MAX_OPERANDS]
        cdef int positions[HWKIT_MAX_OPERANDS]
        cdef int64_t sizes[HWKIT_MAX_OPERANDS]
        cdef hwkit_constants given
        cdef int i, count = 0
        cdef char *data
        cdef Run made = Run.__new__(Run)
        for i in sorted(constants):
            if not 0 <= i < self.count:
                raise ValueError(f"there is no operand {i} to prepack, only {self.count}")
            array = constants[i]
            data = hwkit_fitting(array, &self.specs[i], HWKIT_C_CONTIGUOUS | HWKIT_ALIGNED)
            if data == NULL:
                raise ValueError(f"operand {i} must be {_describe(&self.specs[i])}, contiguous")
            pointers[count], positions[count], sizes[count] = data, i, self.specs[i].bytes
            count += 1
        made.kept = self.kept
        given.count, given.positions, given.operands, given.bytes = (
            count, positions, pointers, sizes)
        with nogil:
            if self.plan.prepack != NULL:
                made.plan = self.plan.prepack(self.plan, &given)
            else:
                made.plan = hwkit_plan_hold(self.plan, self.count, &given)
        if made.plan == NULL:
            raise MemoryError("memory for packed operands cannot be had")
        if self.plan.prepack == NULL:
            made.kept = (self.kept, self)
        made.output = self.output
        for i in range(self.count):
            if i not in constants:
                made.specs[made.count] = self.specs[i]
                made.count += 1
        return made


cdef char *_rows(array, const hwkit_spec *spec, bint apart, int flags, int64_t *row):
    """Return where an array begins and how far apart its rows do; NULL if it does not fit."""
    cdef char *data = hwkit_fitting(array, spec, HWKIT_ALIGNED | flags)
    if data == NULL:
        return NULL
    if hwkit_fitting(array, spec, HWKIT_C_CONTIGUOUS) != NULL:
        row[0] = spec.dims[spec.nd - 1] if spec.nd else 1
        return data
    row[0] = hwkit_row_step(array, spec) if apart else 0
    return data if row[0] else NULL


cdef int64_t _reach(const hwkit_spec *spec, int64_t row):
    """Return the bytes from the first element to behind the last one."""
    cdef int64_t rows = 1
    cdef int i
    if spec.nd == 0 or spec.bytes == 0:
        return spec.bytes
    for i in range(spec.nd - 1):
        rows *= spec.dims[i]
    return spec.bytes // (rows * spec.dims[spec.nd - 1]) * (
        (rows - 1) * row + spec.dims[spec.nd - 1])


cdef str _describe(const hwkit_spec *spec):
    shape = tuple([spec.dims[i] for i in range(spec.nd)])
    return f"{(<object>spec.dtype).name} {shape}"


cdef int _fill(hwkit_spec *spec, operand, list kept) except -1:
    shape, dtype = operand
    dtype = np.dtype(dtype)
    if len(shape) > 8:
        raise ValueError(f"an operand has {len(shape)} dimensions, more than 8")
    kept.append(dtype)
    spec.dtype = <void *>dtype
    spec.nd = len(shape)
    spec.bytes = dtype.itemsize
    for i, size in enumerate(shape):
        spec.dims[i] = size
        spec.bytes *= size
    return 0


cdef Run make_run(hwkit_plan *plan, operands, output):
    """Take over ``plan``; ``operands`` and ``output`` are pairs of shape and dtype."""
    cdef Run made = Run.__new__(Run)
    cdef list kept = []
    if plan == NULL:
        raise MemoryError("memory for a plan cannot be had")
    made.plan = plan
    if len(operands) > HWKIT_MAX_OPERANDS:
        raise ValueError(f"a plan takes at most {HWKIT_MAX_OPERANDS} operands, not {len(operands)}")
    for operand in operands:
        _fill(&made.specs[made.count], operand, kept)
        made.count += 1
    _fill(&made.output, output, kept)
    made.kept = kept
    return made


include "half.pyx"
include "gemm.pyx"
include "conv2d.pyx"
include "depthwise.pyx"
include "device.pyx"
include "elementwise.pyx"
include "int8.pyx"
include "lrn.pyx"
include "pool2d.pyx"
include "transpose.pyx"
include "winograd.pyx"
