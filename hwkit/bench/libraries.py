"""What each library makes of a problem: variants of it, of which the fastest is timed."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import is_float
from ..memory import on_line
from ..op import Problem

__all__ = [
    "POOLS",
    "PRODUCTS",
    "Library",
    "Variant",
    "flat",
    "float32_only",
    "from_nchw",
    "load",
    "nchw_shape",
    "silence",
    "to_nchw",
]

Array = np.ndarray[Any, Any]

PRODUCTS = ("gemm", "matmul", "qmatmul")
"""Operators on matrices; the others work on images."""

POOLS = ("max_pool2d", "avg_pool2d", "global_max_pool2d", "global_avg_pool2d")
"""Poolings."""


class Variant(NamedTuple):
    """One way in which a library can do a problem.

    Attributes:
        name: layout, packing or kernel.
        run: one call; all that can be done beforehand has been done.
        result: turns what ``run`` returned into an array in the problem's layout.
    """

    name: str
    run: Callable[[], Any]
    result: Callable[[Any], Array]


class Library(ABC):
    """One library, with its threads set.

    Attributes:
        name: as in :data:`hwkit.bench.LIBRARIES`.
        version: of the library.
        ours: whether it is hwkit, which is held to its own error budget.
    """

    name: str
    version: str
    ours = False

    @abstractmethod
    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the ways of doing ``problem``; nothing, if the library cannot.

        Args:
            problem: what to compute.
            operands: its arrays, in the Op's order.
            packed: whether operands that do not change are packed beforehand.
        """

    def roofline(self, problem: Problem) -> float | None:
        """Return the least seconds by the device's measured ceilings, if the library knows them."""
        return None

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the ways of running a whole ONNX model; nothing, if the library cannot.

        Args:
            model: the file.
            inputs: by name.
            options: device and tolerance, which hwkit alone heeds.
        """
        return iter(())


def float32_only(inputs: Mapping[str, Array]) -> bool:
    """Whether the floating inputs of a network are float32, all that some libraries take."""
    return all(a.dtype == np.float32 for a in inputs.values() if is_float(a.dtype))


def flat(outputs: Iterable[Any]) -> Array:
    """Return all outputs of a network as one row of float64, to be compared."""
    return np.concatenate([np.asarray(o, np.float64).reshape(-1) for o in outputs])


class Hwkit(Library):
    """hwkit by its plan; which records it finds is a matter of the environment."""

    ours = True

    def __init__(self, name: str) -> None:
        from .. import __version__

        self.name = name
        self.version = __version__

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the one plan that a user gets."""
        from ..dispatch import plan_problem

        plan = plan_problem(problem)
        named = dict(zip([o.name for o in problem.operands], operands, strict=True))
        if packed:
            constants: dict[str, Any] = {
                name: named.pop(name) for name in problem.op.constants if name in named
            }
            plan = plan.prepack(**constants)
        rest = tuple(named.values())
        out = on_line(np.empty(problem.output.shape, problem.output.dtype))
        words = f"{plan.kernel.name} {plan.config}".strip()
        yield Variant(f"{words} ({plan.source})", lambda: plan(*rest, out=out), np.asarray)

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the model as a user loads it."""
        from ..graph import load

        loaded = load(model, **options)
        yield Variant("nhwc inside", lambda: loaded.run(inputs), lambda y: flat(y.values()))

    def roofline(self, problem: Problem) -> float | None:
        """Return the least seconds at this process's number of threads."""
        from ..registry import registry
        from ..roofline import Roofline
        from ..settings import settings

        device = registry().device(settings().device)
        return Roofline.of(problem, device.ceilings(), device).seconds or None


class Numpy(Library):
    """numpy: its matrix product, and for all else hwkit's reference, which is plain numpy."""

    name = "numpy"

    def __init__(self) -> None:
        self.version = np.__version__

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the product into a given array with its epilogue in place, or the reference."""
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        simple = problem.activation is None or problem.activation[0] == "relu"
        real = problem.output.dtype.kind == "f" and "a_zero" not in named
        if problem.op.name in PRODUCTS and simple and real and "c" not in named:
            yield Variant("matmul", _product(problem, named), np.asarray)
        else:
            yield Variant("reference", lambda: problem.reference(*operands), np.asarray)


def _product(problem: Problem, named: dict[str, Array]) -> Callable[[], Array]:
    """Return what a user of numpy would write for speed."""
    a, b = _transposed(problem, (named["a"], named["b"]))
    out = on_line(np.empty(problem.output.shape, problem.output.dtype))
    alpha = problem.attributes.get("alpha", 1.0)
    added = [named[name] for name in ("bias", "residual") if name in named]
    relu = problem.activation is not None

    def run() -> Array:
        np.matmul(a, b, out=out)
        if alpha != 1.0:
            np.multiply(out, alpha, out=out)
        for each in added:
            np.add(out, each, out=out)
        return np.maximum(out, 0, out=out) if relu else out

    return run


def _transposed(problem: Problem, operands: tuple[Array, ...]) -> tuple[Array, Array]:
    letters = problem.layout or "nn"
    a, b = (x.T if letter == "t" else x for x, letter in zip(operands, letters, strict=False))
    return a, b


def to_nchw(problem: Problem, array: Array) -> Array:
    """Return images or weights as a view in the order n, c, h, w."""
    return array.transpose(0, 3, 1, 2) if problem.layout == "nhwc" else array


def from_nchw(problem: Problem, array: Array) -> Array:
    """Return the opposite of :func:`to_nchw`."""
    return array.transpose(0, 2, 3, 1) if problem.layout == "nhwc" else array


@contextmanager
def silence() -> Iterator[None]:
    """Send what a library tells of its progress nowhere, whichever stream it takes."""
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(nowhere)


# Where the class of each library is; its module imports the library.
_CLASSES = {
    "torch": ("torch_library", "Torch"),
    "onnxruntime": ("onnx_library", "OnnxRuntime"),
    "openvino": ("openvino_library", "OpenVino"),
    "xnnpack": ("xnnpack_library", "Xnnpack"),
    "ncnn": ("ncnn_library", "Ncnn"),
    "mnn": ("mnn_library", "Mnn"),
}


def nchw_shape(problem: Problem) -> tuple[int, ...]:
    """Return the shape of the output in the order n, c, h, w."""
    shape = problem.output.shape
    if problem.layout != "nhwc":
        return shape
    n, h, w, c = shape
    return n, c, h, w


def load(name: str, threads: int) -> Library:
    """Import a library and set its threads."""
    if name in _CLASSES:
        module, kind = _CLASSES[name]
        made: Library = getattr(import_module(f".{module}", __package__), kind)(threads)
        return made
    return Numpy() if name == "numpy" else Hwkit(name)
