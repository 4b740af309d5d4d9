"""Winograd's convolutions of float32 whose matrices are multiplied by tiles (AMX).

Transformed tiles and weights are split into terms of bfloat16. Six products of three terms err less
than multiply-adds do, so that the rounding of the transformations is what is left; three products
of two are for calls whose ``tolerance`` admits them. ``cython/winograd_tiles.c`` has the method.
"""

from __future__ import annotations

from typing import Any

from hwkit import Config, Problem, Space

from . import amx, amx_conv2d, tiles, winograd_costs
from .winograd import WinogradConv2d
from .winograd_costs import PANELS, SIZES

__all__ = ["TilesWinogradConv2d", "kernels"]

# Bounds of errors by products, then by taps, stride and m, measured as those of winograd.py.
_ERRORS = {
    6: {(3, 1, 2): 4e-7, (3, 1, 4): 1.2e-6, (3, 2, 2): 4e-7, (3, 2, 4): 9e-7, (5, 1, 2): 1.4e-6},
    3: {(3, 1, 2): 1.8e-5, (3, 1, 4): 7e-5, (3, 2, 2): 2.2e-5, (3, 2, 4): 4e-5, (5, 1, 2): 8e-5},
}

# Of fewer channels, panels are not full.
_LEAST = 32


def kernels() -> list[TilesWinogradConv2d]:
    """Return the kernels of this module: the error of F(6x6) leaves nothing to tiles."""
    return [
        TilesWinogradConv2d(products, m, *window)
        for products in _ERRORS
        for window, sizes in SIZES.items()
        for m in sizes
        if m < 6
    ]


class TilesWinogradConv2d(WinogradConv2d):
    """Tunables: ``tiles``, ``stages`` and ``threads``, as of the other Winograd's.

    Args:
        products: of terms, see :data:`.amx.TERMS`.
        m, taps, stride: see :class:`~.winograd.WinogradConv2d`.
    """

    def __init__(self, products: int, m: int, taps: int = 3, stride: int = 1) -> None:
        super().__init__(m, taps, stride)
        self.terms, self.count = amx.TERMS[products], products
        self.name = f"amx{products}_{self.name}"

    def supports(self, problem: Problem) -> bool | str:
        """Whether there are tiles, the dtype is float32, and the window is the one it is for."""
        if problem.dtypes.input != "float32":
            return "takes float32 only"
        return amx.unavailable("amx") or super().supports(problem)

    def space(self, problem: Problem) -> Space:
        """Return blocks, how threads share them, and threads."""
        of = self.numbers(problem)
        many = tiles.covering(PANELS, of.every)
        most = max(PANELS[0], winograd_costs.most_tiles(of))
        return Space(
            {"tiles": PANELS, "stages": (False, True), "threads": tiles.thread_ladder(False)},
            [
                (lambda tiles: tiles <= many, "tiles beyond the images change nothing"),
                (lambda tiles: tiles <= most, "so many transformed tiles take too much memory"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return the blocks that the model of costs finds best."""
        return Config(self.blocks(problem))

    def numbers(self, problem: Problem) -> winograd_costs.Numbers:
        """Return what the model of costs needs of a problem."""
        return winograd_costs.numbers(problem, self.m, self.terms)

    def products(self, problem: Problem, config: Config) -> dict[str, Any]:
        """Return the arguments of the compiled kernel that say how matrices are multiplied."""
        return {"products": self.count}

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return a bound for random operands: it does not depend on the depth."""
        return _ERRORS[self.count][self.taps, self.stride, self.m]

    def rank(self, problem: Problem) -> int:
        """Before plain sums, and other ways by tiles, where the models say that it is faster."""
        c, k = (problem[name] // problem["groups"] for name in "ck")
        if c < _LEAST or k < _LEAST:
            return -2
        return amx_conv2d.rank(problem, winograd_costs.costs(problem, self.terms)[self.m])
