# cython: language_level=3, boundscheck=False, wraparound=False, binding=True
"""The way of a call, compiled. hwkit.calls has the same in Python, for where this is not built."""

include "ndarray.pyx"

from libc.stdint cimport uint64_t

cdef enum:
    MOST_OPERANDS = 8
    MOST_DIMS = 8


cdef class Call:
    """A callable whose fast path is ``_direct``; what that refuses goes to ``_general``."""

    cdef public object _direct

    def __call__(self, *operands, out=None):
        result = self._direct(operands, out)
        return self._general(operands, out) if result is NotImplemented else result


cdef struct Shape:
    void *descr  # kept alive by the entry
    int nd       # -1: left out
    Py_ssize_t dims[MOST_DIMS]


cdef class Entry:
    """A Plan, and the calls that it is for. Never changes, so that readers need no lock."""

    cdef object op, arguments, device, tolerance, in_use, plan, descriptors
    cdef object direct
    cdef int count, present
    cdef Shape shapes[MOST_OPERANDS]

    cdef bint fits(self, op, tuple operands, arguments, device, tolerance, in_use) except -1:
        cdef Py_ssize_t i
        cdef int d
        cdef hwkit_ndarray *array
        cdef Shape *shape
        if self.op is not op or len(operands) != self.count:
            return False
        for i in range(self.count):
            shape = &self.shapes[i]
            operand = operands[i]
            if operand is None:
                if shape.nd != -1:
                    return False
                continue
            array = hwkit_exactly(operand)
            if array == NULL or array.nd != shape.nd or array.descr != shape.descr:
                return False
            for d in range(array.nd):
                if array.dimensions[d] != shape.dims[d]:
                    return False
        return (self.arguments == arguments and same(self.in_use, in_use)
                and same(self.device, device) and same(self.tolerance, tolerance))


cdef inline bint same(a, b) except -1:
    return a is b or a == b


cdef inline uint64_t mix(uint64_t h, uint64_t value) noexcept nogil:
    h = (h ^ value) * <uint64_t>0x9E3779B97F4A7C15
    return h ^ (h >> 29)


cdef uint64_t digest(op, tuple operands, arguments, device, tolerance, in_use) except? 0:
    """Return a number for a call, 0 if one of its operands is not a plain numpy array."""
    cdef uint64_t h = mix(<uint64_t><uintptr_t><void *>op, <uint64_t>hash(arguments))
    cdef hwkit_ndarray *array
    cdef int d
    if len(operands) > MOST_OPERANDS:
        return 0
    for operand in operands:
        if operand is None:
            h = mix(h, 1)
            continue
        array = hwkit_exactly(operand)
        if array == NULL or array.nd > MOST_DIMS:
            return 0
        h = mix(h, <uint64_t><uintptr_t>array.descr + <uint64_t>array.nd)
        for d in range(array.nd):
            h = mix(h, <uint64_t>array.dimensions[d])
    if device is not None:
        h = mix(h, <uint64_t>hash(device))
    if tolerance is not None:
        h = mix(h, <uint64_t>hash(tolerance))
    if in_use is not None:
        h = mix(h, <uint64_t>hash(in_use))
    return h | 1


cdef class Calls:
    """Calls of an Op: one look into the table, then the Plan.

    Args:
        slow: the :class:`hwkit.calls.PlanTable` that plans what is not found here.
    """

    cdef readonly object slow
    cdef object in_use
    cdef dict entries

    def __init__(self, slow):
        self.slow = slow
        self.in_use = slow.in_use.get
        self.entries = {}

    def __call__(self, op, tuple operands, arguments, out=None, device=None, tolerance=None):
        cdef uint64_t number = 0
        cdef Entry entry
        in_use = self.in_use()
        try:
            number = digest(op, operands, arguments, device, tolerance, in_use)
        except TypeError:
            pass  # a list among the arguments
        found = self.entries.get(number) if number else None
        if found is not None:
            entry = <Entry>found
            if entry.fits(op, operands, arguments, device, tolerance, in_use):
                if entry.present != entry.count:
                    operands = tuple([a for a in operands if a is not None])
                result = entry.direct(operands, out)
                return entry.plan._general(operands, out) if result is NotImplemented else result
        plan, operands = self.miss(number, op, operands, arguments, device, tolerance, in_use)
        return plan(*operands, out=out)

    cdef miss(self, uint64_t number, op, tuple operands, arguments, device, tolerance, in_use):
        plan, present = self.slow.find(op, operands, arguments, device, tolerance)
        if number:
            if len(self.entries) >= self.slow.most:
                self.entries.clear()
            self.entries[number] = make_entry(
                plan, op, operands, arguments, device, tolerance, in_use)
        return plan, present

    def clear(self):
        """Forget all plans."""
        self.entries.clear()
        self.slow.clear()

    def __len__(self):
        return len(self.slow)


cdef Entry make_entry(plan, op, tuple operands, arguments, device, tolerance, in_use):
    cdef Entry entry = Entry.__new__(Entry)
    cdef hwkit_ndarray *array
    cdef int d
    entry.op, entry.arguments, entry.device = op, arguments, device
    entry.tolerance, entry.in_use = tolerance, in_use
    entry.plan, entry.direct = plan, plan._direct
    entry.descriptors = [None if a is None else a.dtype for a in operands]
    for operand in operands:
        if operand is None:
            entry.shapes[entry.count].nd = -1
        else:
            array = hwkit_exactly(operand)
            entry.present += 1
            entry.shapes[entry.count].nd = array.nd
            entry.shapes[entry.count].descr = array.descr
            for d in range(array.nd):
                entry.shapes[entry.count].dims[d] = array.dimensions[d]
        entry.count += 1
    return entry


def plain_matrices(a, b):
    """Whether both are numpy arrays of two dimensions in C order, the second not one column."""
    cdef hwkit_ndarray *left = hwkit_exactly(a)
    cdef hwkit_ndarray *right = hwkit_exactly(b)
    return (left != NULL and right != NULL and left.nd == 2 and right.nd == 2
            and left.flags & right.flags & HWKIT_C_CONTIGUOUS != 0 and right.dimensions[1] != 1)
