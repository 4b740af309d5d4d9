"""8-bit problems of other libraries: models that answer as the reference does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hwkit import ArgumentError, KernelFailure, Unavailable
from hwkit.bench import PeerProcess, layers
from hwkit.bench.quantised import ROUNDING, operands_of
from hwkit.dispatch import parse_problem

INT8 = "qconv2d int8,int8,int8,int32 nhwc"
UINT8 = "qconv2d uint8,int8,uint8,int32 nchw"
PROBLEMS = [
    f"{INT8} n=1 c=8 h=9 w=8 k=6 r=3 s=3 pad=1 stride=1 per_channel=true +bias",
    f"{INT8} n=1 c=8 h=9 w=8 k=8 r=3 s=3 pad=1 stride=2 groups=8 per_channel=true",
    f"{UINT8} n=1 c=6 h=9 w=8 k=4 r=3 s=2 pad=1,2,0,3 stride=2,1",
    f"{UINT8} n=2 c=8 h=7 w=7 k=8 r=3 s=3 pad=1 stride=1 per_channel=true +bias",
    "qmatmul uint8,int8,int32,int32 nn b=1 m=17 n=13 k=29",
    "qmatmul int8,int8,int32,int32 nn b=1 m=32 n=16 k=24",
    "qmatmul uint8,int8,uint8,int32 nt b=1 m=5 n=7 k=9",
    "qmatmul int8,int8,int8,int32 nt b=1 m=8 n=16 k=32 per_channel=true +bias",
]
# Which of the problems above each library has a word for.
CAN = {
    "onnxruntime": [0, 1, 2, 3, 4, 5, 6],
    "torch": [3, 5, 6],
    "openvino": [0, 1, 2, 3, 6, 7],
    "xnnpack": [0, 1, 7],
}


@pytest.fixture(scope="module", params=CAN)
def peer(request: pytest.FixtureRequest) -> Iterator[PeerProcess]:
    """Each library that is installed, in a process of its own."""
    try:
        with PeerProcess(request.param) as running:
            yield running
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("number", range(len(PROBLEMS)))
def test_answers(peer: PeerProcess, number: int) -> None:
    """The answers of each library are the reference but for rounding, or it has none."""
    if number in CAN[peer.library]:
        assert peer.build(PROBLEMS[number]).error <= ROUNDING
    else:
        with pytest.raises(KernelFailure, match=r"has no qmatmul|has no qconv2d|NotImplemented"):
            peer.build(PROBLEMS[number])


def test_activations_are_left_to_hwkit(peer: PeerProcess) -> None:
    """What fuses an activation is not compared: ONNX has no such operator."""
    with pytest.raises(KernelFailure, match="has no qconv2d of this kind"):
        peer.build(f"{UINT8} n=1 c=4 h=5 w=5 k=4 r=1 s=1 pad=0 stride=1 +relu")


def test_weights() -> None:
    """int8 weights have 7 bits and the zero point 0; all else is as drawn."""
    problem = parse_problem(PROBLEMS[0])
    names = [operand.name for operand in problem.operands]
    drawn = dict(zip(names, problem.random_operands(0), strict=True))
    ours = dict(zip(names, operands_of(problem), strict=True))
    assert np.any(drawn.pop("w_zero"))
    assert not np.any(ours["w_zero"])
    assert np.array_equal(ours["w"], drawn.pop("w") >> 1)
    assert all(np.array_equal(ours[name], array) for name, array in drawn.items())


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_sets(dtype: str) -> None:
    """The sets have quantised forms that print as they are read; pooling has none."""
    for name in ("mobilenetv1", "gemm-tiny"):
        texts = [layer.problem for layer in layers(name, dtype=dtype)]
        assert [str(parse_problem(text)) for text in texts] == texts
        assert all(text.startswith("q") for text in texts)
    with pytest.raises(ArgumentError, match="pooling is not for"):
        layers("pool", dtype=dtype)
