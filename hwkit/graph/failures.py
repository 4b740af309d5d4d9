"""Whatever goes wrong at a node, as an error of one sentence that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError, HwkitError, NoKernel, Unavailable
from .ir import Node, one_line

__all__ = ["failure", "guarded"]


def guarded(node: Node, call: Callable[[], Any]) -> Any:
    """Return ``call()``; whatever goes wrong is one sentence that names the node.

    Raises:
        ArgumentError: the node does not fit its inputs.
    """
    try:
        return call()
    except Exception as error:
        found = failure(node, error)
        if found is error:
            raise
        raise found from error


def failure(node: Node, error: Exception) -> HwkitError:
    """Return what went wrong at a node as an error of one sentence that names it."""
    if isinstance(error, HwkitError):
        if str(node) in str(error):
            return error
        kind = type(error) if isinstance(error, (NoKernel, Unavailable)) else ArgumentError
        return kind(f"node {node} cannot run: {one_line(error)}")
    if isinstance(error, (MemoryError, RecursionError)):
        return ArgumentError(f"node {node} needs too much memory: its sizes are absurd")
    return ArgumentError(
        f"node {node} does not fit its inputs ({type(error).__name__}: {one_line(error)}): "
        "check the model with onnx.checker"
    )
