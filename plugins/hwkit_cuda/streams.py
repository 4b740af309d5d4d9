"""Streams: on which one a launch belongs, and the handle of one that a library made.

A launch goes to the stream on which the library of the first operand works right now, so that it
comes after what wrote the operands, and before what reads the answer, without waiting. Arrays of
other streams are brought in by events, in both directions. The default stream (the legacy one,
number 0) is that of numpy arrays and of our own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from hwkit import ArgumentError

__all__ = ["DEFAULT", "current", "handle_of", "of_interface"]

DEFAULT = 0
"""The legacy default stream."""

# The numbers that stand for the legacy default stream, in cuda.h and in the protocols of arrays.
_LEGACY = (0, 1)
# Where libraries keep the handle: torch, CuPy, pycuda and numba.
_ATTRIBUTES = ("cuda_stream", "ptr", "handle")


def handle_of(stream: Any) -> int:
    """Return the handle of a stream: a number, or an object of any library that has one.

    Raises:
        ArgumentError: it is nothing of that kind.
    """
    found = stream
    if hasattr(stream, "__cuda_stream__"):
        found = stream.__cuda_stream__
        found = (found() if callable(found) else found)[1]
    elif not isinstance(stream, int):
        found = next((getattr(stream, a) for a in _ATTRIBUTES if hasattr(stream, a)), None)
        found = getattr(found, "value", found)  # numba's is a ctypes number
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ArgumentError(
            f"stream={stream!r} is no CUDA stream: give torch.cuda.current_stream(), a stream of "
            "another library, or its handle"
        )
    return DEFAULT if found in _LEGACY else int(found)


def current(index: int) -> int:
    """Return torch's current stream on a GPU."""
    torch = sys.modules["torch"]
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    found = torch.cuda.current_stream(index).cuda_stream if raw is None else raw(index)
    return DEFAULT if found in _LEGACY else int(found)


def of_interface(facts: Mapping[str, Any]) -> int:
    """Return the stream of ``__cuda_array_interface__``; the default one where it names none."""
    found = facts.get("stream")
    return DEFAULT if found is None or found in _LEGACY else int(found)
