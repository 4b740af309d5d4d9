"""An ONNX model read from its bytes without protobuf, whose import takes longer than the reading.

The numbers of the fields are those of ``onnx.proto``. Only what every writer of ONNX files writes
is read here. At anything else (a field that is not listed, one that comes twice, a text that is not
UTF-8, damage of any kind) the answer is ``None``: protobuf has the last word then.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np

from .wire import Cut, Places, UnusualError, of_file, read_varint

__all__ = ["Message", "read_bytes", "read_file"]

# What is smaller is part of the message, what is larger has memory of its own.
_LEAST = 1 << 12
# Longer lists of numbers are faster in protobuf.
_MOST_LIST = 1 << 16

_INT32, _INT64, _UINT64 = range(-(2**31), 2**31), range(-(2**63), 2**63), range(2**64)

Kind = Union[str, range]
"""What a field holds: the legal integers, or a name: of a message, ``"text"``, ``"float"``, ..."""


class _Field(NamedTuple):
    name: str
    kind: Kind
    many: bool = False


_FIELDS: dict[str, dict[int, _Field]] = {
    "Model": {
        1: _Field("ir_version", _INT64),
        2: _Field("producer_name", "text"),
        3: _Field("producer_version", "text"),
        4: _Field("domain", "text"),
        5: _Field("model_version", _INT64),
        6: _Field("doc_string", "text"),
        7: _Field("graph", "Graph"),
        8: _Field("opset_import", "OperatorSet", True),
        14: _Field("metadata_props", "Entry", True),
    },
    "OperatorSet": {1: _Field("domain", "text"), 2: _Field("version", _INT64)},
    "Entry": {1: _Field("key", "text"), 2: _Field("value", "text")},
    "Graph": {
        1: _Field("node", "Node", True),
        2: _Field("name", "text"),
        5: _Field("initializer", "Tensor", True),
        10: _Field("doc_string", "text"),
        11: _Field("input", "ValueInfo", True),
        12: _Field("output", "ValueInfo", True),
        13: _Field("value_info", "ValueInfo", True),
        15: _Field("sparse_initializer", "none", True),
        16: _Field("metadata_props", "Entry", True),
    },
    "Node": {
        1: _Field("input", "text", True),
        2: _Field("output", "text", True),
        3: _Field("name", "text"),
        4: _Field("op_type", "text"),
        5: _Field("attribute", "Attribute", True),
        6: _Field("doc_string", "text"),
        7: _Field("domain", "text"),
        9: _Field("metadata_props", "Entry", True),
    },
    "Attribute": {
        1: _Field("name", "text"),
        2: _Field("f", "float"),
        3: _Field("i", _INT64),
        4: _Field("s", "bytes"),
        5: _Field("t", "Tensor"),
        7: _Field("floats", "float", True),
        8: _Field("ints", _INT64, True),
        9: _Field("strings", "bytes", True),
        13: _Field("doc_string", "text"),
        20: _Field("type", range(15)),
        21: _Field("ref_attr_name", "none"),
    },
    "Tensor": {
        1: _Field("dims", _INT64, True),
        2: _Field("data_type", _INT32),
        4: _Field("float_data", "float", True),
        5: _Field("int32_data", _INT32, True),
        7: _Field("int64_data", _INT64, True),
        8: _Field("name", "text"),
        9: _Field("raw_data", "bytes"),
        10: _Field("double_data", "double", True),
        11: _Field("uint64_data", _UINT64, True),
        12: _Field("doc_string", "text"),
        13: _Field("external_data", "Entry", True),
        14: _Field("data_location", range(2)),
        16: _Field("metadata_props", "Entry", True),
    },
    "ValueInfo": {
        1: _Field("name", "text"),
        2: _Field("type", "Type"),
        3: _Field("doc_string", "text"),
        4: _Field("metadata_props", "Entry", True),
    },
    "Type": {1: _Field("tensor_type", "TensorType"), 6: _Field("denotation", "text")},
    "TensorType": {1: _Field("elem_type", _INT32), 2: _Field("shape", "Shape")},
    "Shape": {1: _Field("dim", "Dimension", True)},
    "Dimension": {
        1: _Field("dim_value", _INT64),
        2: _Field("dim_param", "text"),
        3: _Field("denotation", "text"),
    },
}


class Message:
    """A message with its fields as attributes, named and defaulted as protobuf has them."""

    def __init__(self, kind: str) -> None:
        ones, many = _DEFAULTS[kind]
        self.__dict__.update(ones)
        for name in many:
            self.__dict__[name] = []
        self._kind = kind
        self._given: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        for field in _FIELDS[self._kind].values() if name[:1] != "_" else ():
            if field.name == name:  # a message that is not given has no field given
                return Message(str(field.kind))
        raise AttributeError(name)

    def HasField(self, name: str) -> bool:
        """Whether a field is given, even if with its default."""
        return name in self._given


_PLAIN: dict[str, Any] = {"text": "", "bytes": b"", "float": 0.0, "none": ""}

_DEFAULTS: Mapping[str, tuple[dict[str, Any], list[str]]] = {
    kind: (
        {
            f.name: 0 if isinstance(f.kind, range) else _PLAIN[f.kind]
            for f in fields.values()
            if not f.many and (isinstance(f.kind, range) or f.kind in _PLAIN)
        },
        [f.name for f in fields.values() if f.many],
    )
    for kind, fields in _FIELDS.items()
}


def read_bytes(data: bytes) -> tuple[Message | None, dict[int, Cut]]:
    """Return a model, and the data of its large constants by their positions, as views.

    Args:
        data: a serialised ``ModelProto``.

    Returns:
        ``None`` and nothing if protobuf must read it.
    """
    view = memoryview(data)
    message, places = _model(view)
    return message, {index: view[first:last] for index, (first, last) in places.items()}


def read_file(path: Path) -> tuple[Message | None, dict[int, Cut]]:
    """Return the same of a file, each large constant read into memory of its own.

    Raises:
        OSError: the file cannot be read.
    """
    return of_file(path, _model)


def _model(view: memoryview) -> tuple[Message | None, Places]:
    reader = _Reader(view)
    try:
        model = reader.message("Model", 0, len(view))
        return model, reader.places(model.graph.initializer)
    except (UnusualError, UnicodeDecodeError, struct.error):
        return None, {}


class _Reader:
    """Reads messages of one view."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._large: dict[int, tuple[Message, int, int]] = {}

    def places(self, tensors: list[Message]) -> Places:
        """Return where large data of tensors lie, by position; other large data are taken in."""
        found: Places = {}
        for index, tensor in enumerate(tensors):
            large = self._large.pop(id(tensor), None)
            if large is not None:
                found[index] = large[1:]
        for tensor, first, last in self._large.values():
            tensor.__dict__["raw_data"] = bytes(self._view[first:last])
        return found

    def message(self, kind: str, place: int, end: int) -> Any:
        """Return the message between two places."""
        view, fields, found = self._view, _FIELDS[kind], Message(kind)
        given, values = found._given, found.__dict__
        while place < end:
            key, place = read_varint(view, place, end)
            field = fields.get(key >> 3)
            if field is None:
                raise UnusualError
            form = key & 7
            if form == 2:
                length, place = read_varint(view, place, end)
                first, place = place, place + length
                if place > end:
                    raise UnusualError
                value = self._content(found, field, first, place)
            elif form == 0 and isinstance(field.kind, range):
                value, place = read_varint(view, place, end)
                value = _legal(value, field.kind)
            elif form == 5 and field.kind == "float" and place + 4 <= end:
                value = struct.unpack_from("<f", view, place)[0]
                place += 4
            else:
                raise UnusualError
            if field.many:
                values[field.name] += value if isinstance(value, list) else (value,)
            elif field.name in given:
                raise UnusualError
            else:
                values[field.name] = value
            given.add(field.name)
        return found

    def _content(self, message: Message, field: _Field, first: int, last: int) -> Any:
        """Return what lies between two places as the value of a field that has a length."""
        kind, view = field.kind, self._view
        if kind == "text":
            return str(view[first:last], "utf-8")
        if kind == "bytes":
            if field.name == "raw_data" and last - first >= _LEAST:
                self._large[id(message)] = message, first, last
                return b""
            return bytes(view[first:last])
        if isinstance(kind, range) or kind in ("float", "double"):
            return self._packed(field, first, last)
        if kind == "none":
            raise UnusualError
        return self.message(kind, first, last)

    def _packed(self, field: _Field, first: int, last: int) -> list[Any]:
        if not field.many or last - first > _MOST_LIST:
            raise UnusualError
        if not isinstance(field.kind, range):
            dtype = np.dtype("<f4" if field.kind == "float" else "<f8")
            if (last - first) % dtype.itemsize:
                raise UnusualError
            listed: list[Any] = np.frombuffer(self._view[first:last], dtype).tolist()
            return listed
        found = []
        while first < last:
            value, first = read_varint(self._view, first, last)
            found.append(_legal(value, field.kind))
        return found


def _legal(value: int, kind: range) -> int:
    if value >= 1 << 63 and kind.start < 0:
        value -= 1 << 64
    if value not in kind:
        raise UnusualError
    return value
