"""What the weights of a node tell about its output, so that passes need no shape for it."""

from __future__ import annotations

from ...dtypes import is_float
from ..ir import Node

__all__ = ["channels_of"]


def channels_of(node: Node) -> int | None:
    """Return how many output channels a convolution has, or columns a Gemm.

    ``None`` if its weights are not known, or are no floats: then no pass changes them.
    """
    weights = node.input(1).data
    if weights is None or weights.ndim < 2 or not is_float(weights.dtype):
        return None
    if node.type == "ConvTranspose":
        return int(weights.shape[1]) * int(node.get("group", 1))
    along = 1 if node.type == "Gemm" and not node.get("transB", 0) else 0
    return int(weights.shape[along])
