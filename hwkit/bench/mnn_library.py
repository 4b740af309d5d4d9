"""MNN: a model that its own converter makes from ONNX, with images in its blocked layout."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KernelFailure
from ..op import Problem
from .libraries import (
    PRODUCTS,
    Array,
    Library,
    Variant,
    flat,
    float32_only,
    from_nchw,
    nchw_shape,
    silence,
)
from .onnx_model import Model
from .onnx_problem import model_of

__all__ = ["Mnn"]


with silence():
    MNN: Any = import_module("MNN")
    F: Any = import_module("MNN.expr")
    tools: Any = import_module("_tools")

# MNN::Interpreter::HintMode: how much memory Winograd may take; 0 turns it off.
_WINOGRAD = 3


class Mnn(Library):
    """MNN's CPU backend in high precision, with Winograd and without."""

    name = "mnn"

    def __init__(self, threads: int) -> None:
        self.version = str(MNN.version())
        self._settings = {
            "backend": "CPU",
            "numThread": threads,
            "precision": "high",
            "memory": "high",
            "power": "normal",
        }

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the model as MNN would run it, and one that may not use Winograd."""
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        if any(array.dtype != np.float32 for array in operands):
            return
        images = problem.op.name not in PRODUCTS
        levels = {"default": 3}
        if problem.op.name == "conv2d" and packed and problem["r"] > 1:
            levels = {"Winograd allowed": 3, "no Winograd": 0}
        with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as folder:
            # A product whose weights are part of the model becomes a convolution; its answer is
            # wrong for some shapes with a residual, so the product itself is there as well.
            for held in (True, False) if packed and not images else (packed,):
                model = model_of(problem, named, held)
                if model is None:
                    return
                path = _convert(model, Path(folder))
                for level, number in levels.items():
                    label = level if images else "weights in the model" if held else "MatMul"
                    yield self._variant(label, number, path, model, problem)

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the network as MNN would run it, and one that may not use Winograd."""
        if not float32_only(inputs):
            return
        import onnx

        outputs = [o.name for o in onnx.load(str(model), load_external_data=False).graph.output]
        with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as folder:
            path = _converted(model, Path(folder) / "model.mnn")
            for label, level in (("Winograd allowed", 3), ("no Winograd", 0)):
                module = self._module(path, list(inputs), outputs, level)
                given = [_variable(array, False) for array in inputs.values()]

                def run(module: Any = module, given: Any = given) -> Any:
                    answers = module.onForward(given)
                    # An answer is computed when it is read.
                    return [np.array(F.convert(a, F.NCHW).read()) for a in answers]

                yield Variant(label, run, flat)

    def _module(self, path: Path, inputs: list[str], outputs: list[str], level: int) -> Any:
        with silence():
            manager = MNN.nn.create_runtime_manager((self._settings,))
            manager.set_hint(_WINOGRAD, level)
            return MNN.nn.load_module_from_file(
                str(path), inputs, outputs,
                runtime_manager=manager, shape_mutable=False, dynamic=False,
            )  # fmt: skip

    def _variant(
        self, label: str, level: int, path: Path, model: Model, problem: Problem
    ) -> Variant:
        module = self._module(path, list(model.inputs), [model.output], level)
        images = problem.op.name not in PRODUCTS
        inputs = [_variable(a, images and name == "x") for name, a in model.inputs.items()]
        shape = nchw_shape(problem) if images else problem.output.shape

        def result(answer: Any) -> Array:
            array = np.array(F.convert(answer, F.NCHW).read()).reshape(shape)
            return from_nchw(problem, array) if images else array

        return Variant(label, lambda: module.onForward(inputs)[0], result)


def _convert(model: Model, folder: Path) -> Path:
    source = folder / "model.onnx"
    source.write_bytes(model.serialise())
    # With its input format kept, the model takes images in MNN's blocked layout, so that no
    # conversion is timed.
    return _converted(source, folder / "model.mnn", "--keepInputFormat", "1")


def _converted(source: Path, target: Path, *more: str) -> Path:
    # The first word is the name of the program.
    words = ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target)]
    with silence():
        tools.mnnconvert([*words, *more])
    if not target.exists():
        raise KernelFailure("compile", "MNN's converter does not take the model")
    return target


def _variable(array: Array, blocked: bool) -> Any:
    made = F.const(np.ascontiguousarray(array), list(array.shape), F.NCHW, F.float)
    if blocked:
        made = F.convert(made, F.NC4HW4)
    made.fix_as_const()
    return made
