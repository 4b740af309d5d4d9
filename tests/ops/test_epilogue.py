"""The epilogue: how an activation may be written, and what each computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwkit import ArgumentError
from hwkit.op import ACTIVATIONS
from hwkit.ops.conv2d import CONV2D
from hwkit.ops.epilogue import epilogue_text
from hwkit.ops.gemm import GEMM

Array = np.ndarray[Any, Any]
SPECIAL = np.array(
    [-np.inf, -100.0, -4.0, -3.0, -1.0, -0.0, 0.0, 0.5, 3.0, 6.0, 88.0, np.inf, np.nan]
)
ALL = ["relu", "relu6", "leaky_relu:0.1", "sigmoid", "hard_swish", "silu", "clip:-1.0,2.0"]


def _activate(word: str, values: Array) -> Array:
    """Return the activation of ``values``, by way of a product with the identity."""
    one = np.ones((1, 1), values.dtype)
    problem = GEMM.problem(values[:, None], one, activation=word)
    return problem.reference(values[:, None], one).ravel()


def _torch_activation(torch: Any, word: str) -> Any:
    f = torch.nn.functional
    return {
        "relu": f.relu,
        "relu6": f.relu6,
        "leaky_relu:0.1": lambda x: f.leaky_relu(x, 0.1),
        "sigmoid": torch.sigmoid,
        "hard_swish": f.hardswish,
        "silu": f.silu,
        "clip:-1.0,2.0": lambda x: torch.clamp(x, -1, 2),
    }[word]


def test_all_activations_are_tested() -> None:
    """A new activation must be added here."""
    assert {word.partition(":")[0] for word in ALL} == set(ACTIVATIONS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("word", ALL)
def test_activations_agree_with_torch(torch: Any, word: str, dtype: str) -> None:
    """Also at infinity, where exp overflows, and for NaN; without a warning."""
    values = np.concatenate([SPECIAL, np.linspace(-8, 8, 101)]).astype(dtype)
    got = _activate(word, values)
    want = _torch_activation(torch, word)(torch.from_numpy(values)).numpy()
    assert got.dtype == dtype
    assert np.allclose(got, want, 1e-6, 1e-30, equal_nan=True)


@pytest.mark.parametrize("word", ALL)
def test_nan_goes_through(word: str) -> None:
    """No activation hides a NaN."""
    assert np.isnan(_activate(word, np.array([np.nan, 1.0])))[0]


@pytest.mark.parametrize(
    ("activation", "words"),
    [
        (None, ()),
        ("relu", ("relu",)),
        (("relu",), ("relu",)),
        ("leaky_relu", ("leaky_relu:0.01",)),
        (("leaky_relu", 0.1), ("leaky_relu:0.1",)),
        (["clip", 0, 6], ("clip:0.0,6.0",)),
        (("clip", np.float32(0.5), np.int64(2)), ("clip:0.5,2.0",)),
        ("clip:0,6", ("clip:0,6",)),
    ],
)
def test_ways_to_write_an_activation(activation: Any, words: tuple[str, ...]) -> None:
    """A name, a name with parameters, or both in a tuple."""
    assert epilogue_text(None, None, activation) == words


def test_bias_and_residual_come_first() -> None:
    """The words stand in the order in which they are applied."""
    assert epilogue_text(1, 2, "relu") == ("bias", "residual", "relu")


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("tanh", "activation='tanh' is not known: choose one of relu, relu6"),
        ("", "activation='' is not known"),
        (3, "activation=3 must be a name"),
        ((), r"activation=\(\) must be a name"),
        ((0, 6), r"activation=\(0, 6\) must be a name"),
        (("clip", "a", 6), "must have numbers as parameters"),
        (("clip", None, 6), "must have numbers as parameters"),
        (("clip", 0, 10**400), "must have numbers as parameters"),
        (("clip", 1), r"activation 'clip:1\.0' is not known: .*clip:<number>,<number>"),
        (("relu", 1), r"activation 'relu:1\.0' is not known"),
        (("clip", 6, 0), "lower bound first"),
        ("leaky_relu:x", "'leaky_relu:x' cannot be read"),
        (("leaky_relu", float("nan")), "finite slope"),
    ],
)
def test_activations_that_cannot_be_read(activation: Any, message: str) -> None:
    """Each mistake is one sentence."""
    a = np.ones((2, 2))
    with pytest.raises(ArgumentError, match=message) as caught:
        GEMM.problem(a, a, activation=activation)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("word", ALL)
def test_fused_equals_unfused(rng: np.random.Generator, word: str, layout: str) -> None:
    """Bias per channel, then residual, then the activation, as separate steps would do."""
    x, w = rng.standard_normal((2, 4, 6, 5)), rng.standard_normal((3, 4, 3, 3))
    bias, residual = rng.standard_normal(3), rng.standard_normal((2, 3, 6, 5))
    axes = (0, 1, 2, 3) if layout == "nchw" else (0, 2, 3, 1)
    x, w, residual = x.transpose(axes), w.transpose(axes), residual.transpose(axes)
    plain = CONV2D.problem(x, w, padding=1, layout=layout).reference(x, w)
    shape = (1, 3, 1, 1) if layout == "nchw" else (1, 1, 1, 3)
    want = _activate(word, (plain + bias.reshape(shape) + residual).ravel()).reshape(plain.shape)
    fused = CONV2D.problem(x, w, bias, residual, padding=1, layout=layout, activation=word)
    assert np.allclose(fused.reference(x, w, bias, residual), want, 1e-13, 1e-13)


def test_narrow_types_are_rounded_once(rng: np.random.Generator) -> None:
    """The epilogue of float16 runs in float32; only the result is rounded."""
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    a, b, bias = a.astype("f2"), b.astype("f2"), rng.standard_normal(5).astype("f2")
    got = GEMM.problem(a, b, bias=bias, activation="silu").reference(a, b, bias)
    wide = [array.astype("f4") for array in (a, b, bias)]
    want = GEMM.problem(*wide[:2], bias=wide[2], activation="silu").reference(*wide)
    assert np.array_equal(got, want.astype("f2"))
