"""Strategies: which Config to try next. Ask and tell over a Space."""

from __future__ import annotations

from .base import Option, Strategy
from .evolutionary import Evolutionary
from .uniform import Exhaustive, Random

__all__ = ["Evolutionary", "Exhaustive", "Option", "Random", "Strategy"]
