"""What the conformance suite feeds to kernels: small problems, guarded arrays, float64 answers."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from ..backend import Device, Kernel, Run
from ..config import Config
from ..dtypes import FLOATS
from ..errors import ArgumentError
from ..op import Dtypes, Op, Operand, Problem

__all__ = [
    "Guarded",
    "allowed_error",
    "empty_problems",
    "execute",
    "float64_answer",
    "round_trip_arrays",
    "small_problems",
]

Array = np.ndarray[Any, Any]

# Around tile widths of 4, 8 and 16, and what is left over behind them.
_SMALL = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 19, 24, 33)
_DRAWS = 300
_GUARD_BYTES = 256


def small_problems(op: Op, seed: int = 0) -> list[Problem]:
    """Return problems like the samples of ``op``, with small random sizes, in every dtype.

    They have the attributes and epilogues of the samples, so they reach the same code.
    """
    rng = random.Random(f"{op.name} {seed}")
    samples = [op.parse(text) for text in op.samples]
    found = [_shrunk(sample, rng, sample.dtypes) for sample in samples for _ in range(2)]
    for name in FLOATS:
        if name != "bfloat16" or importlib.util.find_spec("ml_dtypes") is not None:
            found += [_shrunk(sample, rng, Dtypes.of(name)) for sample in samples[-2:]]
    return list(dict.fromkeys(p for p in found if p is not None))


def _shrunk(sample: Problem, rng: random.Random, dtypes: Dtypes) -> Problem | None:
    for _ in range(_DRAWS):
        sizes = {n: rng.choice(_SMALL) if s > 7 else s for n, s in sample.sizes.items()}
        attributes = dict(sample.attributes)
        for name, value in attributes.items():
            # What equals a size follows it: a depthwise sample gives depthwise problems.
            same = [n for n, size in sample.sizes.items() if size == value and value != 1]
            if same and not isinstance(value, bool):
                attributes[name] = sizes[same[0]]
                sizes.update(dict.fromkeys(same, sizes[same[0]]))
        try:
            return sample.op.make(dtypes, sample.layout, sizes, attributes, sample.epilogue)
        except ArgumentError:
            continue  # sizes that do not go together; draw again
    return None


def empty_problems(op: Op) -> Iterator[Problem]:
    """Yield a small sample problem once for every size that may be zero."""
    small = small_problems(op)[:1]
    for problem in small:
        for name in problem.sizes:
            try:
                yield op.make(
                    problem.dtypes,
                    problem.layout,
                    {**problem.sizes, name: 0},
                    problem.attributes,
                    problem.epilogue,
                )
            except ArgumentError:
                continue


def round_trip_arrays() -> dict[str, Array]:
    """Return arrays that ``put`` and ``get`` must carry unchanged, by a word that says what."""
    plain = np.arange(24).reshape(2, 3, 4)
    arrays = {name: plain.astype(name) for name in ("float32", "float64", "float16", "int8")}
    wide = np.arange(60, dtype=np.float32).reshape(5, 12)
    unaligned = np.frombuffer(b"\0" + wide.tobytes(), np.float32, wide.size, 1).reshape(wide.shape)
    return {
        **arrays,
        "int32": plain.astype(np.int32),
        "0-d": np.array(1.5, np.float32),
        "zero-size": np.empty((0, 3), np.float32),
        "zero-size-inner": np.empty((2, 0, 3), np.float64),
        "non-contiguous": wide[:, ::3],
        "negative-strides": wide[::-1, ::-1],
        "zero-strides": np.broadcast_to(np.float32(2), (3, 4)),
        "fortran-order": np.asfortranarray(wide),
        "read-only": unaligned.copy() if unaligned.flags.aligned else unaligned,
        "one-element": np.ones((1, 1, 1, 1), np.float32),
        "nan-and-inf": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32),
    }


class Guarded:
    """An output buffer inside a larger one, whose ends must stay as they are.

    Args:
        device: where; one that cannot make a part of a buffer a buffer gets no guard zones.
        output: shape and dtype.
        fill: value of every element before it is written.
    """

    def __init__(self, device: Device, output: Operand, fill: float = np.nan) -> None:
        self._device = device
        dtype, size = output.dtype, output.nbytes
        # In host memory only as aligned as the dtype asks, so that whoever assumes more shows.
        on_host = isinstance(device.put(np.empty(0, np.uint8)), np.ndarray)
        start = _GUARD_BYTES + (dtype.itemsize if on_host else 0)
        host = np.full(start + size + _GUARD_BYTES, 0xA5, np.uint8)
        array = host[start : start + size].view(dtype).reshape(output.shape)
        array[...] = (101 if np.isnan(fill) else abs(int(fill))) if dtype.kind in "iu" else fill
        whole = device.put(host)
        part = device.part(whole, start, output.shape, dtype)
        self.buffer = device.put(array) if part is None else part
        self._whole = None if part is None else whole
        self._ends = (slice(0, start), slice(start + size, None))

    def intact(self) -> bool:
        """Whether nothing around the output was written."""
        if self._whole is None:
            return True
        host = self._device.get(self._whole)
        return all(bool((host[end] == 0xA5).all()) for end in self._ends)


def _surrounded(array: Array) -> Array:
    """Return a copy between NaN, only as aligned as its dtype asks: reading beside it shows."""
    guard = _GUARD_BYTES // array.itemsize
    host = np.full(array.size + 2 * guard + 1, 101 if array.dtype.kind in "iu" else np.nan)
    host = host.astype(array.dtype)
    inner: Array = host[guard + 1 : guard + 1 + array.size].reshape(array.shape)
    inner[...] = array
    return inner


def execute(
    device: Device,
    run: Run,
    problem: Problem,
    operands: Iterable[Array],
    *,
    fill: float = np.nan,
    poison: bool = True,
) -> Array:
    """Run on guarded, poisoned arrays and return the answer as the host sees it.

    Args:
        device: where.
        run: what :meth:`Kernel.build` returned.
        problem: what it is built for.
        operands: the arrays that ``run`` takes.
        fill: value of the output before the run.
        poison: whether to fill the run's scratch memory with NaN; not while it runs elsewhere.

    Raises:
        AssertionError: the run wrote into an operand, or beside its output.
    """
    given = [*operands]
    buffers = [device.put(_surrounded(array)) for array in given]
    output = Guarded(device, problem.output, fill)
    for scratch in getattr(run, "scratch", ()):
        if poison and isinstance(scratch, np.ndarray):
            scratch.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN, for whoever reads before writing
    run(*buffers, out=output.buffer)
    answer = np.array(device.get(output.buffer))
    for number, (array, buffer) in enumerate(zip(given, buffers, strict=True)):
        kept = device.get(buffer).tobytes() == array.tobytes()
        assert kept, f"the run for '{problem}' wrote into operand {number}"
    assert output.intact(), f"the run for '{problem}' wrote beside its output"
    return answer


@lru_cache(maxsize=4)
def float64_answer(problem: Problem, seed: int = 0) -> Array:
    """Return the reference in float64 for ``problem.random_operands(seed)``."""
    operands = problem.random_operands(seed)
    wide = [a if a.dtype.kind in "iu" else a.astype(np.float64) for a in operands]
    return problem.reference(*wide)


def allowed_error(kernel: Kernel, problem: Problem, config: Config) -> float:
    """Return the error that a Config may show: the Op's budget, or what the kernel admits to."""
    return max(problem.error_budget(), kernel.error_bound(problem, config))


def is_jsonable_fact(facts: Mapping[str, Any]) -> bool:
    """Whether all names are text and all values are plain facts, exact types, finite."""
    return all(
        type(name) is str
        and type(value) in (bool, int, float, str)
        and not (type(value) is float and not np.isfinite(value))
        for name, value in facts.items()
    )
