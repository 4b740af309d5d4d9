"""Timing hwkit against other libraries: one process per library, driven in turns.

::

    from hwkit.bench import compare
    race = compare("gemm float32 nn m=512 n=512 k=512", ["hwkit", "numpy"], threads=1)
    race.seconds["hwkit"], race.ratio("numpy")

Libraries that share a process disturb each other: their idle threads spin on the cores that another
one is being timed on. So each has its own process, is stopped while another works, and what is
compared is the median over rounds of the ratio within a round, the order flipped each round.
"""

from __future__ import annotations

from .process import LIBRARIES, Built, PeerProcess, missing
from .race import Race, compare, geometric_mean, interleave
from .sets import SETS, Layer, layers

__all__ = [
    "Built",
    "LIBRARIES",
    "Layer",
    "PeerProcess",
    "Race",
    "SETS",
    "compare",
    "geometric_mean",
    "interleave",
    "layers",
    "missing",
]
