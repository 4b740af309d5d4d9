"""OpenVINO: a model of one operator and its epilogue, in float32, with tensors that it shares."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import PRODUCTS, Array, Library, Variant, flat, from_nchw, to_nchw
from .onnx_model import Model
from .onnx_problem import model_of
from .quantised import OPS, qdq_model

__all__ = ["OpenVino"]

openvino: Any = import_module("openvino")

# Operands that are images, and so follow the layout that is tried.
_IMAGES = ("x", "residual")


class OpenVino(Library):
    """OpenVINO's CPU plugin: one stream, no lower precision behind our back."""

    name = "openvino"

    def __init__(self, threads: int) -> None:
        self.version = str(openvino.__version__).split("-")[0]
        self._core = openvino.Core()
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the model with its images in both orders; inside, OpenVINO has its own."""
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        model = _model(problem, named, packed)
        if model is None:
            return
        message = model.serialise()
        if problem.op.name in PRODUCTS:
            shape = problem.output.shape
            yield self._variant("plain", message, dict(model.inputs), lambda y: y.reshape(shape))
            return
        yield self._variant("nchw", message, dict(model.inputs), lambda y: from_nchw(problem, y))
        inputs = {
            name: array.transpose(0, 2, 3, 1) if name in _IMAGES else array
            for name, array in model.inputs.items()
        }
        back = (0, 1, 2, 3) if problem.layout == "nhwc" else (0, 3, 1, 2)
        yield self._variant("nhwc", message, inputs, lambda y: y.transpose(back))

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the compiled model; inside, OpenVINO has its own layouts."""
        request = self._request(self._core.read_model(str(model)), inputs)

        def run() -> Any:
            assert inputs is not None  # what is shared must outlive the request
            request.infer()
            return request

        def result(done: Any) -> Array:
            return flat(t.data for t in done.output_tensors)

        yield Variant("compiled", run, result)

    def _request(self, model: Any, inputs: dict[str, Array]) -> Any:
        request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        for name, array in inputs.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return request

    def _variant(self, label: str, message: bytes, inputs: dict[str, Array], order: Any) -> Variant:
        model = self._core.read_model(message)
        if label == "nhwc":
            model = _channels_last(model)
        held = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        request = self._request(model, held)

        def run() -> Any:
            # What is shared must outlive the request.
            assert held is not None
            request.infer()
            return request

        return Variant(label, run, lambda done: np.array(order(done.get_output_tensor(0).data)))


def _model(problem: Problem, named: dict[str, Array], packed: bool) -> Model | None:
    if problem.op.name in OPS:
        images = {n: to_nchw(problem, a) if a.ndim == 4 else a for n, a in named.items()}
        return qdq_model(problem, images) if packed else None
    if any(array.dtype != np.float32 for array in named.values()):
        return None
    return model_of(problem, named, packed)


def _channels_last(model: Any) -> Any:
    """Return the model with images and answer in the order n, h, w, c."""
    builder = openvino.preprocess.PrePostProcessor(model)
    for port in model.inputs:
        if port.get_any_name() in _IMAGES:
            given = builder.input(port.get_any_name())
            given.tensor().set_layout(openvino.Layout("NHWC"))
            given.model().set_layout(openvino.Layout("NCHW"))
    builder.output().model().set_layout(openvino.Layout("NCHW"))
    builder.output().tensor().set_layout(openvino.Layout("NHWC"))
    return builder.build()
