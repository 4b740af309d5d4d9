"""onnxruntime: a model of one operator and its epilogue, run with bound buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import PRODUCTS, Array, Library, Variant, flat, from_nchw
from .onnx_model import Model
from .onnx_problem import model_of
from .quantised import OPS

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
        """Yield the one session; weights that are part of the model are packed by it.

        The usual 8-bit kernels add products in 16 bits that saturate on processors without VNNI; a
        setting of the session avoids that, so both are tried.
        """
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        model = model_of(problem, named, packed)
        if model is None:
            return
        label = "weights in the model" if packed else "weights as input"
        settings: dict[str, dict[str, str]] = {label: {}}
        if problem.op.name in OPS:
            settings[f"{label}, exact"] = {"session.x64quantprecision": "1"}
        failures: list[Exception] = []
        for name, entries in settings.items():
            try:
                session = self._session(model.serialise(), entries)
            except Exception as error:
                failures.append(error)
                continue
            yield self._variant(problem, model, name, session)
        if len(failures) == len(settings):
            raise failures[0]

    def _variant(self, problem: Problem, model: Model, label: str, session: Any) -> Variant:
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
            return from_nchw(problem, answer) if images else answer.reshape(problem.output.shape)

        return Variant(label, run, result)

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the one session."""
        # By its path: data of a model in bytes would be looked for in the current folder.
        session = self._session(str(model))
        binding = session.io_binding()
        held = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for name, array in held.items():
            binding.bind_cpu_input(name, array)
        for output in session.get_outputs():
            binding.bind_output(output.name, "cpu")

        def run() -> Any:
            assert held is not None  # as above
            session.run_with_iobinding(binding)
            return binding

        yield Variant("session", run, lambda bound: flat(bound.copy_outputs_to_cpu()))

    def _session(self, model: bytes | str, settings: Mapping[str, str] | None = None) -> Any:
        options = onnxruntime.SessionOptions()
        for name, value in (settings or {}).items():
            options.add_session_config_entry(name, value)
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
