/* The part of numpy's binary interface that a call needs: the head of an array object, which has
 * been the same since numpy 1.0, and some entries of its function table, whose numbers never
 * change. Declared here, so that a build needs no numpy headers and a wheel runs with any numpy;
 * hwkit_ndarray_import proves the layout on a live array before anything relies on it. */
#ifndef HWKIT_NDARRAY_H
#define HWKIT_NDARRAY_H

#include <Python.h>
#include <stdint.h>

typedef struct {
    PyObject_HEAD
    char *data;
    int nd;
    Py_ssize_t *dimensions;
    Py_ssize_t *strides;
    PyObject *base;
    PyObject *descr;
    int flags;
} hwkit_ndarray;

enum { HWKIT_C_CONTIGUOUS = 0x0001, HWKIT_ALIGNED = 0x0100, HWKIT_WRITEABLE = 0x0400 };

static PyTypeObject *hwkit_ndarray_type;
static unsigned char (*hwkit_equivalent)(PyObject *, PyObject *);
static PyObject *(*hwkit_empty)(int, const Py_ssize_t *, PyObject *, int);
static PyObject *(*hwkit_from_memory)(PyTypeObject *, PyObject *, int, const Py_ssize_t *,
                                      const Py_ssize_t *, void *, int, PyObject *);
static int (*hwkit_set_base)(PyObject *, PyObject *);
static PyObject *hwkit_bytes; /* the dtype uint8 */

/* New arrays of some size begin at a boundary of a cache line, and large ones at another place of
 * their page than the one before; hwkit/memory.py says why. */
enum {
    HWKIT_LINE = 64,
    HWKIT_LINE_FROM = 4096,
    HWKIT_PAGE = 4096,
    HWKIT_PAGE_STEP = 1024,
    HWKIT_PAGE_FROM = 1 << 16
};
static uintptr_t hwkit_page_turn; /* under the GIL */

/* capsule: numpy's function table; sample: an array of shape (3, 5), its address is `address`;
 * bytes: the dtype uint8. */
static int hwkit_ndarray_import(PyObject *capsule, PyObject *sample, PyObject *dtype,
                                PyObject *bytes, uintptr_t address)
{
    void **table = (void **)PyCapsule_GetPointer(capsule, NULL);
    if (!table)
        return 0;
    hwkit_ndarray *a = (hwkit_ndarray *)sample;
    hwkit_ndarray_type = (PyTypeObject *)table[2];
    hwkit_equivalent = (unsigned char (*)(PyObject *, PyObject *))table[182];
    hwkit_empty = (PyObject * (*)(int, const Py_ssize_t *, PyObject *, int)) table[184];
    hwkit_from_memory =
        (PyObject * (*)(PyTypeObject *, PyObject *, int, const Py_ssize_t *, const Py_ssize_t *,
                        void *, int, PyObject *)) table[94];
    hwkit_set_base = (int (*)(PyObject *, PyObject *))table[282];
    Py_INCREF(bytes);
    hwkit_bytes = bytes;
    return Py_TYPE(sample) == hwkit_ndarray_type && a->nd == 2 && a->dimensions[0] == 3 &&
           a->dimensions[1] == 5 && a->strides[0] == 5 * a->strides[1] && a->descr == dtype &&
           (uintptr_t)a->data == address &&
           (a->flags & (HWKIT_C_CONTIGUOUS | HWKIT_ALIGNED | HWKIT_WRITEABLE)) ==
               (HWKIT_C_CONTIGUOUS | HWKIT_ALIGNED | HWKIT_WRITEABLE) &&
           hwkit_equivalent(a->descr, dtype);
}

static inline hwkit_ndarray *hwkit_as_ndarray(PyObject *object)
{
    return (hwkit_ndarray *)object;
}

/* The array's head if this is a numpy array and of no subclass, otherwise NULL. */
static inline hwkit_ndarray *hwkit_exactly(PyObject *object)
{
    return Py_TYPE(object) == hwkit_ndarray_type ? (hwkit_ndarray *)object : NULL;
}

/* A new array of so many bytes; the reference to dtype is not stolen. */
static inline PyObject *hwkit_new_array(int nd, const Py_ssize_t *dims, PyObject *dtype,
                                        int64_t bytes)
{
    Py_INCREF(dtype);
    if (bytes < HWKIT_LINE_FROM)
        return hwkit_empty(nd, dims, dtype, 0);
    uintptr_t unit = HWKIT_LINE, first = 0;
    if (bytes >= HWKIT_PAGE_FROM) {
        unit = HWKIT_PAGE;
        first = hwkit_page_turn += HWKIT_PAGE_STEP;
    }
    const Py_ssize_t room = (Py_ssize_t)(bytes + (int64_t)unit);
    Py_INCREF(hwkit_bytes);
    PyObject *block = hwkit_empty(1, &room, hwkit_bytes, 0);
    if (!block) {
        Py_DECREF(dtype);
        return NULL;
    }
    char *data = hwkit_as_ndarray(block)->data;
    data += (first - (uintptr_t)data) % unit;
    const int flags = HWKIT_C_CONTIGUOUS | HWKIT_ALIGNED | HWKIT_WRITEABLE;
    PyObject *made =
        hwkit_from_memory(hwkit_ndarray_type, dtype, nd, dims, NULL, data, flags, NULL);
    if (!made) {
        Py_DECREF(block);
        return NULL;
    }
    if (hwkit_set_base(made, block) < 0) { /* takes the block, whatever it returns */
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

typedef struct {
    PyObject *dtype; /* owned by the Run */
    int nd;
    Py_ssize_t dims[8];
    int64_t bytes;
} hwkit_spec;

/* Data pointer of an array that is exactly as specified, otherwise NULL without an exception. */
static inline char *hwkit_fitting(PyObject *object, const hwkit_spec *spec, int flags)
{
    hwkit_ndarray *a = hwkit_exactly(object);
    if (!a || a->nd != spec->nd || (a->flags & flags) != flags)
        return NULL;
    for (int i = 0; i < spec->nd; i++)
        if (a->dimensions[i] != spec->dims[i])
            return NULL;
    if (a->descr != spec->dtype && !hwkit_equivalent(a->descr, spec->dtype))
        return NULL;
    return a->data;
}

/* Elements from row to row along the last axis, where these are evenly apart and whole; otherwise 0.
 * The array is one that fits. */
static inline int64_t hwkit_row_step(PyObject *object, const hwkit_spec *spec)
{
    const hwkit_ndarray *a = hwkit_as_ndarray(object);
    int64_t item = spec->bytes;
    for (int i = 0; i < spec->nd; i++)
        item = spec->dims[i] ? item / spec->dims[i] : 0;
    if (spec->nd < 2 || !item || a->strides[spec->nd - 1] != item)
        return 0;
    for (int i = 0; i < spec->nd - 2; i++)
        if (a->strides[i] != a->strides[i + 1] * a->dimensions[i + 1])
            return 0;
    const int64_t step = a->strides[spec->nd - 2];
    return step % item || step < item * spec->dims[spec->nd - 1] ? 0 : step / item;
}

#endif
