"""Streams of CUDA: each launch goes to that of the arrays' library, and events order the others."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_mock import LIBRARIES, build, child, installed, needs_library, no_compiler

import hwkit
from hwkit.errors import ArgumentError
from hwkit_cuda.streams import handle_of, of_interface

SCRIPT = str(Path(__file__).parents[1] / "cuda_streams_under_mock.py")

# What the mock's journal must have: launches and copies by stream, and "who waits after whom".
EXPECTED = """\
numpy: launch@0 launch@0
own: launch@0 launch@0
torch default: launch@0 launch@0
torch first: 5after0 launch@5 launch@5
torch again: launch@5 launch@5
torch new: launch@5 launch@5
call: 5after0 launch@5 launch@5
torch other: 6after0 launch@6 launch@6
torch strided: launch@6 launch@6
to own: 6after0 launch@6 launch@6 0after6
from own: 0after6 launch@0 launch@0 6after0
interface: 7after0 launch@7 launch@7
interface legacy: launch@0 launch@0
on operand: launch@0 launch@0 copy@0
on torch's: 6after0 launch@6 launch@6 copy@6 0after6
stack: launch@0 launch@0
stack of torch: 6after0 launch@6 launch@6
folded: launch@0 launch@0
two: 7after8 launch@7 launch@7 8after7
stream=: 9after7 9after0 launch@9 launch@9 7after9
stream= own: 9after0 launch@9 launch@9 0after9
pack: 0after6 copy@0 6after0 launch@0
packed: launch@6 launch@0
stream= pack: copy@0 launch@0
stream= packed: 9after6 launch@9 6after9
get: 0after6 6after0
dtype: DtypeError DtypeError
shape: ArgumentError ArgumentError
constant: ArgumentError DtypeError
left: 0 0 0 0
"""


@needs_library
@pytest.mark.skipif(bool(no_compiler()), reason=no_compiler())
@pytest.mark.parametrize("library", LIBRARIES)
def test_launches_go_to_the_stream_of_the_arrays(library: str, tmp_path: Path) -> None:
    """torch, a library with the CUDA array interface, our own arrays, and streams of the user."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    done = child(SCRIPT, folder=build(tmp_path), HWKIT_CUDA_DRIVER=library)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == EXPECTED


class _Protocol:
    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, 77


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        (0, 0), (1, 0), (2, 2), (12345, 12345), (_Protocol(), 77),
        (types.SimpleNamespace(cuda_stream=5), 5), (types.SimpleNamespace(ptr=1), 0),
        (types.SimpleNamespace(handle=types.SimpleNamespace(value=6)), 6),
        (types.SimpleNamespace(__cuda_stream__=(0, 8)), 8),
    ],
)  # fmt: skip
def test_streams_of_all_libraries_have_a_handle(stream: Any, handle: int) -> None:
    """Numbers, torch, CuPy, numba, and the protocol of cuda.core; 0 and 1 are the default one."""
    assert handle_of(stream) == handle


@pytest.mark.parametrize("stream", [object(), -1, "5", True, None])
def test_what_is_no_stream_is_one_sentence(stream: Any) -> None:
    """The message names what can be given."""
    with pytest.raises(ArgumentError, match="is no CUDA stream: give"):
        handle_of(stream)


def test_the_array_interface_names_a_stream_or_none() -> None:
    """None and 1 are the default stream, as its third version says."""
    assert [of_interface({"stream": s}) for s in (None, 1, 2, 99)] == [0, 0, 2, 99]
    assert of_interface({}) == 0


def test_a_device_without_streams_says_so() -> None:
    """On the CPU stream= is refused, not ignored."""
    a = np.ones((4, 4), np.float32)
    with pytest.raises(ArgumentError, match="cpu:0 has no streams: leave stream= out"):
        hwkit.plan("gemm", a, a, device="cpu:0", stream=5)
