"""Channel shuffle: a Reshape, a Transpose and a Reshape that only move channels become one node.

Three nodes of five axes would keep the images around them from lying with their channels last.
"""

from __future__ import annotations

from ..ir import Graph, Node
from ..nodetype import Setting

__all__ = ["run"]


def run(graph: Graph, setting: Setting) -> None:
    """Join them wherever nobody else takes what lies between."""
    makers, users = graph.makers(), graph.users()
    for last in list(graph.nodes):
        if last.type != "Reshape":
            continue
        middle = makers.get(last.input(0))
        first = None if middle is None else makers.get(middle.input(0))
        if middle is None or first is None or (first.type, middle.type) != ("Reshape", "Transpose"):
            continue
        alone = graph.only_user(first.output(), users) is middle
        if not alone or graph.only_user(middle.output(), users) is not last:
            continue
        groups = _groups(first, middle, last)
        if groups:
            last.type, last.domain, last.attributes = "ChannelShuffle", "hwkit", {"groups": groups}
            last.inputs = [first.input(0)]
            graph.remove([first, middle])


def _groups(first: Node, middle: Node, last: Node) -> int:
    """Return in how many groups the channels are, 0 if something else is computed."""
    image, wide = first.input(0).sizes, first.output().sizes
    if len(image) != 4 or len(wide) != 5 or last.output().sizes != image:
        return 0
    n, c, h, w = image
    split = wide == (n, wide[1], c // max(wide[1], 1), h, w)
    return wide[1] if split and list(middle.get("perm", [])) == [0, 2, 1, 3, 4] else 0
