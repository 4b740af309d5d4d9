"""torch's convolutions: both memory formats, plain and with weights packed for oneDNN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import Array, Variant, from_nchw, to_nchw

__all__ = ["ACTIVATIONS", "Tensor", "array", "convolutions", "finish", "tensor"]

# Untyped on purpose: torch is optional, and its types differ between versions.
torch: Any = import_module("torch")
F: Any = import_module("torch.nn.functional")

Tensor = Any

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu_,
    "relu6": lambda y: F.relu6(y, inplace=True),
    "leaky_relu": F.leaky_relu_,
    "sigmoid": torch.sigmoid_,
    "hard_swish": lambda y: F.hardswish(y, inplace=True),
    "silu": lambda y: F.silu(y, inplace=True),
    "clip": torch.clamp_,
}

# What oneDNN calls the activations that it fuses.
_FUSED = {
    "relu": "relu",
    "relu6": "hardtanh",
    "leaky_relu": "leaky_relu",
    "sigmoid": "sigmoid",
    "hard_swish": "hardswish",
    "silu": "swish",
    "clip": "hardtanh",
}


def tensor(given: Array) -> Tensor:
    """Return a numpy array as a contiguous tensor."""
    if given.dtype.name == "bfloat16":
        return torch.from_numpy(np.ascontiguousarray(given).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(given))


def array(given: Tensor) -> Array:
    """Return a tensor as a numpy array, bfloat16 widened."""
    found: Array = (given.float() if given.dtype == torch.bfloat16 else given).numpy()
    return found


def finish(problem: Problem, residual: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return what torch does behind the operator itself, in place."""
    if problem.activation is None:
        return (lambda y: y) if residual is None else (lambda y: y.add_(residual))
    name, parameters = problem.activation
    act = ACTIVATIONS[name]
    if residual is None:
        return lambda y: act(y, *parameters)
    return lambda y: act(y.add_(residual), *parameters)


@dataclass
class _Conv:
    """A convolution's tensors in one memory format."""

    problem: Problem
    x: Tensor
    w: Tensor
    bias: Tensor | None
    residual: Tensor | None

    def __post_init__(self) -> None:
        top, bottom, left, right = self.problem["pad"]
        self._even = top == bottom and left == right
        self._border = (left, right, top, bottom)
        pad = (top, left) if self._even else (0, 0)
        self._numbers = (self.problem["stride"], pad, self.problem["dilation"])

    def _image(self) -> Tensor:
        return self.x if self._even else F.pad(self.x, self._border)

    def plain(self) -> Callable[[], Tensor]:
        """Return what ``torch.nn.functional`` does."""
        end, groups = finish(self.problem, self.residual), self.problem["groups"]
        return lambda: end(F.conv2d(self._image(), self.w, self.bias, *self._numbers, groups))

    def packed(self) -> Callable[[], Tensor] | None:
        """Return oneDNN with its own layout of weights and its fusions; ``None`` without it."""
        stride, pad, dilation = map(list, self._numbers)
        groups = self.problem["groups"]
        try:
            conv = torch.ops.mkldnn._convolution_pointwise
            weights = torch.ops.mkldnn._reorder_convolution_weight(
                self.w, pad, stride, dilation, groups, list(self._image().shape)
            )
        except (AttributeError, RuntimeError):
            return None
        rest = (weights, self.bias, pad, stride, dilation, groups)
        name, numbers = self._fused()
        if self.residual is None:
            return lambda: conv(self._image(), *rest, name, numbers, "")
        if name in ("none", "relu"):
            unary = None if name == "none" else name
            return lambda: conv.binary(
                self._image(), self.residual, *rest, "add", 1.0, unary, [], ""
            )
        end = finish(self.problem, self.residual)
        return lambda: end(conv(self._image(), *rest, "none", [], ""))

    def blocked(self) -> Callable[[], Tensor] | None:
        """Return oneDNN with images in its own layout too; ``None`` where torch has no such way."""
        relu = self.problem.activation is None or self.problem.activation[0] == "relu"
        if not self._even or not relu or self.residual is not None:
            return None
        stride, pad, dilation = self._numbers
        groups = self.problem["groups"]
        try:
            x = self.x.to_mkldnn()
            w = torch._C._nn.mkldnn_reorder_conv2d_weight(
                self.w.to_mkldnn(), pad, stride, dilation, groups, list(self.x.shape)
            )
            bias = None if self.bias is None else self.bias.to_mkldnn()
        except (AttributeError, RuntimeError):
            return None
        end = finish(self.problem, None)
        return lambda: end(torch.conv2d(x, w, bias, stride, pad, dilation, groups))

    def _fused(self) -> tuple[str, list[float]]:
        if self.problem.activation is None:
            return "none", []
        name, parameters = self.problem.activation
        return _FUSED[name], [0.0, 6.0] if name == "relu6" else list(parameters)


def convolutions(problem: Problem, named: dict[str, Array], packed: bool) -> Iterator[Variant]:
    """Yield a convolution in both memory formats, plain and packed."""
    bias = tensor(named["bias"]) if "bias" in named else None

    def result(y: Tensor) -> Array:
        return from_nchw(problem, array(y.contiguous()))

    for label, form in (("nchw", torch.contiguous_format), ("channels_last", torch.channels_last)):
        images = {
            name: tensor(to_nchw(problem, each)).contiguous(memory_format=form)
            for name, each in named.items()
            if name != "bias"
        }
        conv = _Conv(problem, images["x"], images["w"], bias, images.get("residual"))
        yield Variant(label, conv.plain(), result)
        if packed and images["x"].dtype in (torch.float32, torch.bfloat16):
            run = conv.packed()
            if run is not None:
                yield Variant(f"{label} packed", run, result)
        own = conv.blocked() if packed and label == "nchw" and _is_float(images["x"]) else None
        if own is not None:
            yield Variant("oneDNN's layout", own, lambda y: result(y.to_dense()))


def _is_float(x: Tensor) -> bool:
    return bool(x.dtype == torch.float32)
