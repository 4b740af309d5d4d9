"""Streams on a CUDA driver that is a mock; started by tests/plugins/test_cuda_streams.py.

The driver library is the real one, and so are the kernels' cubins. Nothing computes: the mock keeps
a journal of which stream got which launch, copy, event and wait. Prints what each case left there,
with events named by where they were recorded.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import types
from typing import Any

import numpy as np

import hwkit
from hwkit.registry import registry

# Large enough for the kernel that packs: two launches, and scratch memory between them.
HOST = np.ones((160, 160), np.float32)


class Tensor:
    """As much of torch's as is asked for; its memory is the mock's."""

    def __init__(self, buffer: Any, step: int = 1) -> None:
        self.buffer, self.step = buffer, step
        self.shape, self.dtype, self.is_cuda = buffer.shape, "torch.float32", True

    def get_device(self) -> int:
        return 0

    def is_contiguous(self) -> bool:
        return self.step == 1

    def is_neg(self) -> bool:
        return False

    def resolve_neg(self) -> Tensor:
        return self

    def contiguous(self) -> Tensor:
        return Tensor(self.buffer)

    def copy_(self, other: Tensor) -> None:
        COPIED.append((self, other))

    def data_ptr(self) -> int:
        return int(self.buffer.pointer)

    def new_empty(self, shape: tuple[int, ...]) -> Tensor:
        return Tensor(DEVICE.empty(shape, self.buffer.dtype))


class Array:
    """An array of a library that names its stream in ``__cuda_array_interface__``, as CuPy."""

    def __init__(self, buffer: Any, stream: int | None) -> None:
        self.buffer, self.stream = buffer, stream
        self.shape, self.dtype = buffer.shape, buffer.dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.buffer.__cuda_array_interface__, "stream": self.stream}


class Stream:
    """A stream of torch."""

    cuda_stream = 9


COPIED: list[Any] = []
CURRENT = [0]
torch: Any = types.ModuleType("torch")
torch.Tensor = Tensor
torch._C = types.SimpleNamespace(_cuda_getCurrentRawStream=lambda index: CURRENT[0])
sys.modules["torch"] = torch
DEVICE: Any = registry().device("cuda:0")
DRIVER = ctypes.CDLL("libcuda.so.1")
DRIVER.mock_journal.restype = ctypes.c_char_p


def journal() -> str:
    """Return what was done since the last call, events as the stream that they were recorded on."""
    said = DRIVER.mock_journal().decode()
    streams = {event: stream for stream, event in re.findall(r"record (\d+) (e\d+)", said)}
    found = []
    for entry in filter(None, said.split(";")):
        what, stream, *rest = entry.split()
        if what == "wait":
            found.append(f"{stream}after{streams[rest[0]]}")
        elif what != "record":
            found.append(f"{what}@{stream}")
    return " ".join(found)


def show(name: str, *runs: Any) -> None:
    """Print the journal of a case."""
    journal()
    for run in runs:
        run()
    print(f"{name}: {journal()}")


def libraries(a: Any, b: Any, y: Any) -> None:
    """Plans on arrays of several libraries."""
    ta, tb, ty = Tensor(a), Tensor(b), Tensor(y)
    plan = hwkit.plan("gemm", HOST, HOST, device="cuda:0", tolerance="strict")
    show("numpy", lambda: plan(HOST, HOST))
    show("own", lambda: plan(a, b, out=y))
    show("torch default", lambda: plan(ta, tb, out=ty))
    CURRENT[0] = 5
    show("torch first", lambda: plan(ta, tb, out=ty))
    show("torch again", lambda: plan(ta, tb, out=ty))
    result: list[Any] = []
    show("torch new", lambda: result.append(plan(ta, tb)))
    assert isinstance(result[0], Tensor)
    show("call", lambda: hwkit.ops.gemm(ta, tb, device="cuda:0"))
    CURRENT[0] = 6
    show("torch other", lambda: plan(ta, tb, out=ty))
    show("torch strided", lambda: plan(ta, tb, out=Tensor(y, 2)))
    assert [(strided.step, whole.step) for strided, whole in COPIED] == [(2, 1)]
    COPIED.clear()
    show("to own", lambda: plan(ta, tb, out=y))
    show("from own", lambda: plan(a, b, out=ty))
    show("interface", lambda: plan(Array(a, 7), Array(b, 7), out=Array(y, 7)))
    show("interface legacy", lambda: plan(Array(a, 1), Array(b, None), out=Array(y, 1)))
    show("on operand", lambda: plan(a, b, out=b))
    show("on torch's", lambda: plan(ta, tb, out=ta))
    stack = DEVICE.put(np.ones((4, 160, 160), np.float32))
    show("stack", lambda: result.append(hwkit.ops.matmul(stack, stack, device="cuda:0")))
    assert result[-1].shape == (4, 160, 160)
    both = Tensor(stack), Tensor(stack)
    show("stack of torch", lambda: result.append(hwkit.ops.matmul(*both, device="cuda:0")))
    assert isinstance(result[-1], Tensor)
    show("folded", lambda: result.append(hwkit.ops.matmul(stack, b, device="cuda:0")))
    assert result[-1].shape == (4, 160, 160)
    show("two", lambda: plan(Array(a, 7), Array(b, 8), out=Array(y, 7)))


def fixed_and_packed(a: Any, b: Any, y: Any) -> None:
    """Plans on a stream of the user, and plans with constants."""
    ta, tb, ty = Tensor(a), Tensor(b), Tensor(y)
    plan = hwkit.plan("gemm", HOST, HOST, device="cuda:0", tolerance="strict")
    stream = Stream()
    fixed = hwkit.plan("gemm", HOST, HOST, device="cuda:0", tolerance="strict", stream=stream)
    show("stream=", lambda: fixed(Array(a, 7), Array(b, 7), out=Array(y, 7)))
    show("stream= own", lambda: fixed(a, b, out=y))
    packed: list[Any] = []
    show("pack", lambda: packed.append(plan.prepack(tb)))
    show("packed", lambda: packed[0](ta, out=ty), lambda: packed[0](a, out=y))
    show("stream= pack", lambda: packed.append(fixed.prepack(b)))
    show("stream= packed", lambda: packed[1](ta, out=ty))
    show("get", lambda: DEVICE.get(ty))


def refused(call: Any) -> str:
    """Return the class of the error that a call raises."""
    try:
        call()
    except hwkit.errors.HwkitError as error:
        return type(error).__name__
    return "nothing"


def wrong_arrays(b: Any, y: Any) -> None:
    """What has another dtype or shape must never reach a kernel."""
    plan = hwkit.plan("gemm", HOST, HOST, device="cuda:0", tolerance="strict")
    whole, short = DEVICE.put(HOST.astype(np.int32)), DEVICE.put(HOST[:8])
    print("dtype:", refused(lambda: plan(whole, b, out=y)), refused(lambda: plan(b, b, out=whole)))
    print("shape:", refused(lambda: plan(short, b, out=y)), refused(lambda: plan(b, b, out=short)))
    print("constant:", refused(lambda: plan.prepack(short)), refused(lambda: plan.prepack(whole)))


def main() -> None:
    """Print all cases, and what is left on the driver."""
    a, b, y = (DEVICE.put(HOST) for _ in range(3))
    libraries(a, b, y)
    fixed_and_packed(a, b, y)
    wrong_arrays(b, y)
    DEVICE.synchronise()
    hwkit.dispatch.forget()
    del a, b, y
    gc.collect()
    DEVICE.pool.trim()
    counts = (ctypes.c_int * 6)()
    DRIVER.mock_counts(counts)
    print("left:", *counts[:4])


if __name__ == "__main__":
    main()
