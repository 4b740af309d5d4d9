"""Passes: each rewrites a Graph so that it computes the same in less time.

They come through the hook ``hwkit_passes``, ours as a stranger's, and run in the order of their
ranks, once for each set of input shapes; every value has its shape by then, but for those of the
tail, which a pass sees only if it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ...errors import ArgumentError, HwkitError
from ..ir import Graph, one_line
from ..nodetype import Setting

__all__ = ["Pass", "own_passes", "rewrite"]


class Pass(NamedTuple):
    """One rewriting.

    Attributes:
        name: by which it can be left out.
        rank: the lowest runs first.
        run: called with the Graph, which it changes in place, and the Setting. Values that it adds
            need shape and dtype.
        tail: whether it is called with the tail as well, as a Graph whose values have no shape and
            no dtype but for those that come from before it and constants.
    """

    name: str
    rank: int
    run: Callable[[Graph, Setting], None]
    tail: bool = False


def rewrite(graph: Graph, passes: Iterable[Pass], setting: Setting) -> None:
    """Run passes on a Graph, and on its tail those that need no shapes.

    Raises:
        ArgumentError: a pass fails, or leaves nodes that cannot run; the message names it.
    """
    for one in passes:
        try:
            one.run(graph, setting)
            if one.tail and graph.tail is not None:
                graph.tail.rewrite(one.run, setting)
            fault = graph.fault()
        except HwkitError:
            raise
        except Exception as error:
            what = f"failed on model {graph.name!r} with {type(error).__name__}: {one_line(error)}"
            raise _without(one, what) from error
        if fault is not None:
            raise _without(one, f"left a graph of model {graph.name!r} that cannot run: {fault}")


def _without(one: Pass, what: str) -> ArgumentError:
    return ArgumentError(f"pass {one.name!r} {what}; load it with without=({one.name!r},)")


def own_passes() -> list[Pass]:
    """Return hwkit's own passes."""
    from . import absorb, batch_norm, constants, dead, fusion, idioms, layout, lift, ranges, shuffle

    return [
        Pass("constants", 10, constants.run),
        Pass("dead", 20, dead.run),
        Pass("idioms", 25, idioms.run),
        Pass("absorb", 30, absorb.run),
        Pass("shuffle", 35, shuffle.run),
        Pass("batch_norm", 40, batch_norm.run, tail=True),
        Pass("fusion", 50, fusion.run, tail=True),
        Pass("lift", 55, lift.run),
        Pass("ranges", 57, ranges.run),
        Pass("layout", 60, layout.run),
        Pass("fusion_transposed", 65, fusion.run_transposed),
        Pass("dead_again", 70, dead.run),
    ]
