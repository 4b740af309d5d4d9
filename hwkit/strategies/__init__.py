"""Strategies: which Config to try next. Ask and tell over a Space.

=================  =============================================================================
name               how it chooses
=================  =============================================================================
``exhaustive``     every Config, in order
``random``         uniformly, without replacement
``evolutionary``   the default: offspring of the best, screened by a small surrogate
``model``          boosted trees learn the cost; needs ``pip install 'hwkit[tune]'``
=================  =============================================================================
"""

from __future__ import annotations

import difflib

from ..errors import ArgumentError
from .base import Option, Strategy
from .evolutionary import Evolutionary
from .model import Model
from .others import portfolio
from .uniform import Exhaustive, Random

__all__ = [
    "BUILT_IN",
    "Evolutionary",
    "Exhaustive",
    "Model",
    "Option",
    "Random",
    "Strategy",
    "portfolio",
    "strategy",
]

BUILT_IN: dict[str, type[Strategy]] = {
    "exhaustive": Exhaustive,
    "random": Random,
    "evolutionary": Evolutionary,
    "model": Model,
}
"""Our own strategies by name; plugins bring more through ``hwkit_strategies``."""


def strategy(name: str) -> type[Strategy]:
    """Return one of our own strategies.

    Raises:
        ArgumentError: there is none of that name.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    close = difflib.get_close_matches(name, BUILT_IN, 1)
    hint = f"did you mean {close[0]!r}" if close else f"there are {', '.join(BUILT_IN)}"
    raise ArgumentError(f"strategy {name!r} is not known, {hint}")
