"""The layer sets are those of the papers."""

from __future__ import annotations

import pytest

from hwkit import ArgumentError
from hwkit.bench import SETS, layers
from hwkit.dispatch import parse_problem


@pytest.mark.parametrize(
    ("name", "convolutions", "giga_multiply_adds"),
    [("resnet50", 53, 4.087), ("mobilenetv1", 27, 0.5677), ("vgg16", 13, 15.347)],
)
def test_networks(name: str, convolutions: int, giga_multiply_adds: float) -> None:
    """The number of convolutions and their work are the published ones."""
    found = layers(name)
    work = sum(parse_problem(layer.problem).flops * layer.times for layer in found)
    assert sum(layer.times for layer in found) == convolutions
    assert work / 2e9 == pytest.approx(giga_multiply_adds, rel=1e-3)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_problems_are_canonical_and_distinct(name: str, layout: str) -> None:
    """Each text is what its problem prints, and none comes twice."""
    texts = [layer.problem for layer in layers(name, layout=layout, batch=2, epilogue="+bias+relu")]
    assert [str(parse_problem(text)) for text in texts] == texts
    assert len(set(texts)) == len(texts)


def test_unknown_set() -> None:
    """A set that does not exist is named, with those that do."""
    with pytest.raises(ArgumentError, match=r"'int4' must be one of float32"):
        layers("resnet50", dtype="int4")
    with pytest.raises(ArgumentError, match=r"'lenet' is not known: write one of resnet50"):
        layers("lenet")
