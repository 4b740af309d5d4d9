"""TensorFlow Lite models of a few operators, written with the schema that LiteRT ships."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .libraries import Array

__all__ = ["FlatModel", "Scale"]

flatbuffers: Any = import_module("flatbuffers")
schema: Any = import_module("ai_edge_litert.schema_py_generated")

_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9}
_VERSION = 3
# Operators whose number is above this have it in the newer of two fields only.
_OLD = 127


class Scale(NamedTuple):
    """What a stored integer stands for: ``scale * (v - zero)``.

    Attributes:
        scale: one, or one for each index of the axis.
        zero: as many.
        axis: along which they differ.
    """

    scale: Array
    zero: Array
    axis: int = 0


class FlatModel:
    """A chain of operators; the output of the last one is the model's.

    Tensors are float32 unless they are given a :class:`Scale`.

    Attributes:
        inputs: arrays to feed, in the order of the model's inputs.
        output: number of the last operator's output.
        outputs: numbers of the model's outputs; the last operator's if empty.
    """

    def __init__(self) -> None:
        self.inputs: list[Array] = []
        self.output = -1
        self.outputs: list[int] = []
        self._fed: list[int] = []
        self._tensors: list[Any] = []
        # The first buffer is the empty one, by agreement.
        self._buffers: list[Any] = [schema.BufferT()]
        self._codes: list[Any] = []
        self._operators: list[Any] = []

    def input(self, array: Array, scale: Scale | None = None) -> int:
        """Add an array that is fed at each run; return its tensor's number."""
        self.inputs.append(np.ascontiguousarray(array))
        self._fed.append(self._tensor(array.shape, _TYPES[array.dtype.name], scale=scale))
        return self._fed[-1]

    def constant(self, array: Array, scale: Scale | None = None) -> int:
        """Add an array that is part of the model; return its tensor's number."""
        buffer = schema.BufferT()
        buffer.data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._buffers.append(buffer)
        kind = _TYPES[array.dtype.name]
        return self._tensor(array.shape, kind, len(self._buffers) - 1, scale)

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: str = "",
        stored: tuple[str, Scale] | None = None,
        **values: Any,
    ) -> int:
        """Add an operator behind the others; return its output's number.

        Args:
            kind: name in the schema's ``BuiltinOperator``.
            inputs: numbers of the tensors that it takes.
            shape: of its output.
            options: name of its table of options, if it has one.
            stored: dtype and scale of its output, if that is not float32.
            values: what to set in that table.
        """
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, _OLD)
        self._codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._codes) - 1
        operator.inputs = list(inputs)
        kind_of_output, scale = (_TYPES[stored[0]], stored[1]) if stored else (0, None)
        self.output = self._tensor(shape, kind_of_output, scale=scale)
        operator.outputs = [self.output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in values.items():
                setattr(operator.builtinOptions, name, value)
        self._operators.append(operator)
        return self.output

    def serialise(self) -> bytes:
        """Return the model's buffer."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = self._fed, self.outputs or [self.output]
        model = schema.ModelT()
        model.version, model.subgraphs = _VERSION, [graph]
        model.operatorCodes, model.buffers = self._codes, self._buffers
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _tensor(
        self, shape: Sequence[int], kind: int, buffer: int = 0, scale: Scale | None = None
    ) -> int:
        tensor = schema.TensorT()
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(scale.scale).tolist()
            tensor.quantization.zeroPoint = np.atleast_1d(scale.zero).astype(int).tolist()
            tensor.quantization.quantizedDimension = scale.axis
        tensor.shape, tensor.type, tensor.buffer = list(shape), kind, buffer
        tensor.name = f"t{len(self._tensors)}"
        self._tensors.append(tensor)
        return len(self._tensors) - 1
