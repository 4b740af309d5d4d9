"""Setting: what the nodes of a network are built for, and how they get their Plans."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..dispatch import plan_problem
from ..op import Problem
from ..plans import Plan
from ..registry import registry

__all__ = ["Setting"]


class Setting(NamedTuple):
    """What nodes are built for.

    Attributes:
        device: name of the device, ``None`` for the default.
        tolerance: as of :func:`hwkit.plan`.
        limit: most bytes of one array.
        records: whether what was learnt counts; else every kernel has its default config. A
            Database counts instead of the process's own.
        made: Plans by Problem, for nodes that do the same; ``None`` to make each anew.
    """

    device: str | None = None
    tolerance: Any = None
    limit: int = 1 << 40
    records: Any = True
    made: dict[Problem, Plan] | None = None

    def plan(self, op: str, *operands: Any, packed: bool = False, **arguments: Any) -> Plan:
        """Return a Plan of an Op for this setting.

        Args:
            op: name of the Op.
            operands: as of :func:`hwkit.plan`.
            packed: whether all constants are to be packed by the Plan's ``prepack``; a Plan made
                without would be replaced there by another one.
            arguments: of the Op.
        """
        problem = registry().op(op).problem(*operands, **arguments).with_packed(packed)
        found = None if self.made is None else self.made.get(problem)
        if found is None:
            found = plan_problem(problem, self.device, self.tolerance, records=self.records)
            if self.made is not None:
                self.made[problem] = found
        return found
