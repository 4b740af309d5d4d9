"""Large arrays of a model file without copies: cut out of its bytes before protobuf reads them.

The wire format is that of the protocol buffers encoding guide; the field numbers are those of
``onnx.proto``. Whatever is unusual is left to protobuf: the answer is then the bytes as they are.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import TypeVar, Union

from ..memory import LINE, aligned
from .ir import Array

__all__ = ["Cut", "Places", "UnusualError", "cut_file", "of_file", "read_varint", "without_arrays"]

T = TypeVar("T")

Cut = Union[memoryview, Array]
"""Bytes of a constant."""

Places = dict[int, tuple[int, int]]
"""Where the data of constants begin and end, by position in ``graph.initializer``."""

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
# What is smaller is not worth it.
_LEAST = 1 << 12
# From here on numpy asks for large pages: a small one takes longer to get than to fill. Not more,
# because a block stays until the last of its constants has been packed.
_BLOCK = 8 << 20

Field = tuple[int, int, int, int]
"""Number of a field, where it starts, where its content starts (0 if it has no length), its end."""


class UnusualError(Exception):
    """Not what a writer of ONNX files writes."""


def without_arrays(data: bytes) -> tuple[bytes, dict[int, Cut]]:
    """Return a model without the data of its large constants, and these by their positions.

    Args:
        data: a serialised ``ModelProto``.

    Returns:
        The rest of the message, and by position in ``graph.initializer`` a view of ``raw_data``.
    """
    view = memoryview(data)
    rest, places = _cut(view)
    return rest, {index: view[first:last] for index, (first, last) in places.items()}


def cut_file(path: Path) -> tuple[bytes, dict[int, Cut]]:
    """Return the same of a file, each large constant read into memory of its own.

    Raises:
        OSError: the file cannot be read.
    """
    return of_file(path, _cut)


def of_file(path: Path, work: Callable[[memoryview], tuple[T, Places]]) -> tuple[T, dict[int, Cut]]:
    """Return what ``work`` makes of a file, and the data at the places that it names.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        if status.st_size == 0:
            return work(memoryview(b""))[0], {}
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            made, places = work(view)
        return made, _read_places(file, places)


def _read_places(file: FileIO, places: Places) -> dict[int, Cut]:
    """Read the data at some places, several into one block; each begins at a cache line."""
    found: dict[int, Cut] = {}
    sizes = {index: last - first for index, (first, last) in places.items()}
    waiting: list[int] = []
    total = 0
    for number, index in enumerate(sizes, 1):
        waiting.append(index)
        total += _whole_lines(sizes[index])
        if total < _BLOCK and number < len(sizes):
            continue
        block, start = aligned(total), 0
        for one in waiting:
            part = block[start : start + sizes[one]]
            found[one] = part[: _fill(file, places[one][0], part)]
            start += _whole_lines(sizes[one])
        waiting, total = [], 0
    return found


def _fill(file: FileIO, place: int, part: Array) -> int:
    """Read what the file has at a place, and return how many bytes that is."""
    file.seek(place)
    done = 0
    while done < part.size and (count := file.readinto(part[done:].data)):
        done += count
    return done


def _whole_lines(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE


def _cut(view: memoryview) -> tuple[bytes, Places]:
    """Return the rest of a message, and where the data lie that are not part of it."""
    found: Places = {}
    try:
        fields = list(_fields(view, 0, len(view)))
        graphs = [f for f in fields if f[0] == _GRAPH]
        if len(graphs) != 1:
            return bytes(view), {}
        (_, start, content, end), parts = graphs[0], []
        index = 0
        for field in _fields(view, content, end):
            if field[0] == _INITIALIZER:
                parts.append(_without_raw(view, field, index, found))
                index += 1
            else:
                parts.append(bytes(view[field[1] : field[3]]))
    except UnusualError:
        return bytes(view), {}
    if not found:
        return bytes(view), {}
    graph = _message(_GRAPH, b"".join(parts))
    return b"".join((view[:start], graph, view[end:])), found


def _without_raw(view: memoryview, field: Field, index: int, found: Places) -> bytes:
    _, start, content, end = field
    if content == 0:
        raise UnusualError
    inner = list(_fields(view, content, end))
    raws = [f for f in inner if f[0] == _RAW_DATA]
    if len(raws) != 1 or raws[0][2] == 0 or raws[0][3] - raws[0][2] < _LEAST:
        return bytes(view[start:end])
    _, first, data, last = raws[0]
    found[index] = data, last
    return _message(_INITIALIZER, bytes(view[content:first]) + bytes(view[last:end]))


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _fields(view: memoryview, place: int, end: int) -> Iterator[Field]:
    """Yield the fields of a message between two places."""
    while place < end:
        start = place
        key, place = read_varint(view, place, end)
        kind, content = key & 7, 0
        if kind == _VARINT:
            _, place = read_varint(view, place, end)
        elif kind == _LENGTH:
            length, content = read_varint(view, place, end)
            place = content + length
        elif kind in (_FIXED32, _FIXED64):
            place += 4 if kind == _FIXED32 else 8
        else:
            raise UnusualError
        if place > end or key >> 3 == 0:
            raise UnusualError
        yield key >> 3, start, content, place


def read_varint(view: memoryview, place: int, end: int) -> tuple[int, int]:
    """Return a number of variable length, at most 64 bits, and the place behind it."""
    if place < end and view[place] < 128:  # most of them
        return view[place], place + 1
    value = 0
    for shift in range(0, 64, 7):
        if place >= end:
            break
        byte = view[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >= 1 << 64:
                break
            return value, place
    raise UnusualError
