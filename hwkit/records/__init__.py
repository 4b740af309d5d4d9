"""Records: trials as immutable facts, and the Database that keeps them. Winners are a query."""

from __future__ import annotations

from .database import Database
from .matching import Match
from .ranking import pick
from .record import Record, now

__all__ = ["Database", "Match", "Record", "now", "pick"]
