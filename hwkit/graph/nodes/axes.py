"""Axes of nodes, as not negative."""

from __future__ import annotations

from ...errors import ArgumentError
from ..ir import Node

__all__ = ["axes_of", "axis_of"]


def axes_of(node: Node, rank: int, index: int = 1) -> tuple[int, ...] | None:
    """Return axes, an attribute in old operator sets and an input in new ones, as not negative.

    Raises:
        ArgumentError: one is outside the rank.
    """
    given = node.get("axes", None)
    if given is None:
        known = node.known(index)
        given = None if known is None else known.reshape(-1).tolist()
    if given is None:
        return None
    if any(not -rank <= axis < rank for axis in given):
        raise ArgumentError(f"node {node} has the axes {list(given)[:8]}, but its rank is {rank}")
    return tuple(int(axis) % rank for axis in given)


def axis_of(node: Node, rank: int, default: int = 0) -> int:
    """Return the attribute ``axis``.

    Raises:
        ArgumentError: it is outside the rank.
    """
    axis = int(node.get("axis", default))
    if not -rank <= axis < max(rank, 1):
        raise ArgumentError(f"node {node} has the axis {axis}, but its rank is {rank}")
    return axis % max(rank, 1)
