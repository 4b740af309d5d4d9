cdef extern from "cpuinfo.h" nogil:
    ctypedef struct hwkit_cpuinfo:
        char model[64]
        char features[320]
        int64_t l1d, l2, l3
        int cores
    const hwkit_cpuinfo *hwkit_cpu()

cdef extern from "threads.h" nogil:
    int hwkit_threads_max()
    int hwkit_cpus_available()

cdef extern from "run.h" nogil:
    int64_t hwkit_scratch_bytes()
    void hwkit_scratch_free()

cdef extern from "probe.h" nogil:
    double hwkit_probe_flops(int is_double, int threads)
    double hwkit_probe_bfloat16(int threads)
    double hwkit_probe_bandwidth(int threads)

cdef extern from *:
    """
    #if defined(__clang__)
    #define HWKIT_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define HWKIT_COMPILER "gcc " __VERSION__
    #else
    #define HWKIT_COMPILER "unknown"
    #endif
    """
    const char *HWKIT_COMPILER


def empty(shape, dtype):
    """Return a new array, which begins at a boundary of a cache line unless it is small."""
    cdef hwkit_spec spec
    cdef list kept = []
    _fill(&spec, (shape, dtype), kept)
    return hwkit_new_array(spec.nd, spec.dims, kept[0], spec.bytes)


def cpu_info():
    """Return what the processor is and what this process may use of it.

    Bytes of the caches ``l1d``, ``l2``, ``l3``; physical ``cores``; ``threads``, the most that a
    kernel uses; ``isa``, the selected kernels; ``amx``, whether products of tiles are among them;
    ``pairs``, whether dot products of AVX512-BF16 are; ``vnni``, whether those of int16 of AVX512-VNNI
    are, for block floating point; ``features``; ``model``; the ``compiler``.
    """
    cdef const hwkit_cpuinfo *info = hwkit_cpu()
    isa = hwkit_isa_name().decode()
    return {
        "isa": isa,
        "features": info.features.decode() + (f" {isa}" if isa.endswith("-emulated") else ""),
        "amx": hwkit_amx() != HWKIT_AMX_NONE,
        "pairs": hwkit_pairs() != HWKIT_AMX_NONE,
        "vnni": hwkit_vnni() != HWKIT_AMX_NONE,
        "model": info.model.decode("utf-8", "replace"),
        "cores": info.cores,
        "threads": hwkit_threads_max(),
        "l1d": info.l1d,
        "l2": info.l2,
        "l3": info.l3,
        "compiler": HWKIT_COMPILER.decode("utf-8", "replace").strip(),
    }


def threads_max():
    """Return how many threads a kernel may use: HWKIT_THREADS, or the CPUs of this process."""
    return hwkit_threads_max()


def scratch_bytes(bint free=False):
    """Return the bytes of scratch memory that the calling thread holds for its next runs.

    Args:
        free: whether it holds none from then on.
    """
    cdef int64_t held = hwkit_scratch_bytes()
    if free:
        hwkit_scratch_free()
    return held


def measure_ceilings(int threads=0):
    """Return measured ceilings, ``"<dtype> flop/s"`` and ``"byte/s"``; takes up to 2 seconds.

    Multiply-adds over random data in registers count two flops each; bytes are read beyond L2. With
    AMX a float32 product may be six of bfloat16, and one of float16 three: the larger rate counts.

    Args:
        threads: how many; all that a kernel may use if 0, but no more than there are CPUs: they
            would reach no more, and each takes its share of the time.
    """
    cdef double single, double_, narrow, bandwidth
    if threads <= 0:
        threads = min(hwkit_threads_max(), hwkit_cpus_available())
    with nogil:
        single = hwkit_probe_flops(0, threads)
        double_ = hwkit_probe_flops(1, threads)
        narrow = hwkit_probe_bfloat16(threads)
        bandwidth = hwkit_probe_bandwidth(threads)
    found = {"float32 flop/s": max(single, narrow / 6), "float64 flop/s": double_}
    if narrow > 0:
        found["float16 flop/s"] = max(single, narrow / 3)
        found["bfloat16 flop/s"] = max(single, narrow)
    if bandwidth > 0:
        found["byte/s"] = bandwidth
    return found
