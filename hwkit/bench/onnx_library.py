"""onnxruntime: a model of one operator and its epilogue, run with bound buffers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import PRODUCTS, Array, Library, Variant, from_nchw
from .onnx_model import Model
from .onnx_problem import model_of

__all__ = ["OnnxRuntime"]

onnxruntime: Any = import_module("onnxruntime")


class OnnxRuntime(Library):
    """onnxruntime's CPU provider with all graph optimisations."""

    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        self.version = str(onnxruntime.__version__)
        self._threads = threads
        onnxruntime.set_default_logger_severity(4)

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the one session; weights that are part of the model are packed by it."""
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        model = model_of(problem, named, packed)
        if model is None:
            return
        session = self._session(model)
        binding = session.io_binding()
        held = {name: np.ascontiguousarray(array) for name, array in model.inputs.items()}
        for name, array in held.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(model.output, "cpu")

        def run() -> Any:
            # The bound buffers must outlive the binding, which keeps no reference of its own.
            assert held is not None
            session.run_with_iobinding(binding)
            return binding

        def result(bound: Any) -> Array:
            (answer,) = bound.copy_outputs_to_cpu()
            images = problem.op.name not in PRODUCTS
            return from_nchw(problem, answer) if images else answer

        yield Variant("weights in the model" if packed else "weights as input", run, result)

    def _session(self, model: Model) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        return onnxruntime.InferenceSession(
            model.serialise(), options, providers=["CPUExecutionProvider"]
        )
