"""ONNX models of a few nodes, written as protocol-buffer messages without a dependency.

The field numbers are those of onnx.proto (ONNX IR version 9, operator set 19).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Union

import numpy as np

__all__ = ["Model"]

Array = np.ndarray[Any, Any]
Attribute = Union[int, float, str, Sequence[int]]

_IR_VERSION, _OPERATOR_SET = 9, 19
_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "float64": 11,
    "bfloat16": 16,
}  # fmt: skip
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        body = _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, _FLOAT)
    elif isinstance(value, int):
        body = _number(3, value) + _number(20, _INT)
    elif isinstance(value, str):
        body = _bytes(4, value) + _number(20, _STRING)
    else:
        body = b"".join(_number(8, item) for item in value) + _number(20, _INTS)
    return _bytes(5, _bytes(1, name) + body)


def _tensor(name: str, array: Array) -> bytes:
    dims = b"".join(_number(1, size) for size in array.shape)
    data = np.ascontiguousarray(array).tobytes()
    return dims + _number(2, _TYPES[array.dtype.name]) + _bytes(8, name) + _bytes(9, data)


def _value(name: str, array: Array) -> bytes:
    dims = b"".join(_bytes(1, _number(1, size)) for size in array.shape)
    kind = _number(1, _TYPES[array.dtype.name]) + _bytes(2, dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, kind))


class Model:
    """A chain of nodes; the output of the last one is the model's.

    Attributes:
        inputs: arrays to feed, by name.
        output: name of the last node's output.
        dtype: of that output; by default that of the input added last.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, Array] = {}
        self.output = ""
        self._constants: list[bytes] = []
        self._nodes: list[bytes] = []
        self.dtype = "float32"

    def input(self, name: str, array: Array) -> None:
        """Add an array that is fed at each run."""
        self.inputs[name] = array
        self.dtype = array.dtype.name

    def constant(self, name: str, array: Array) -> None:
        """Add an array that is part of the model."""
        self._constants.append(_bytes(5, _tensor(name, array)))

    def node(self, kind: str, inputs: Sequence[str], **attributes: Attribute) -> None:
        """Add an operator behind the others."""
        self.output = f"y{len(self._nodes)}"
        body = b"".join(_bytes(1, name) for name in inputs) + _bytes(2, self.output)
        body += _bytes(4, kind)
        body += b"".join(_attribute(name, value) for name, value in attributes.items())
        self._nodes.append(_bytes(1, body))

    def serialise(self) -> bytes:
        """Return the model's message."""
        # An output needs its element type only; the shape is inferred.
        result = _bytes(1, self.output) + _bytes(2, _bytes(1, _number(1, _TYPES[self.dtype])))
        graph = b"".join(self._nodes) + _bytes(2, "hwkit") + b"".join(self._constants)
        graph += b"".join(_bytes(11, _value(n, a)) for n, a in self.inputs.items())
        graph += _bytes(12, result)
        opset = _bytes(8, _bytes(1, "") + _number(2, _OPERATOR_SET))
        return _number(1, _IR_VERSION) + _bytes(7, graph) + opset
