"""Which of many trials is the winner: a pure function of a set, so that merging is free of order.

The rules, for trials of one Problem on one device:

0. What a run-off has proven faster than the default comes first. Where it has proven nobody, the
   default does. The other rules order those that come first, and then the others.
1. A candidate is a kernel, its version and a Config. What failed last is out: a failure outweighs
   every success of its candidate that is not later. So does an error that has grown fourfold every
   earlier trial: those were of other code, whose kernel was changed under the same version.
2. A candidate counts with its measurement of the latest stage of the race (the run-off; 31
   samples; 11, of a final that was cut short; 5; or fewer); within a stage, one without contention
   before one with; then the latest.
3. A measurement of an early stage must win by far (16 times, twice, 5 %): a race leaves behind what
   does not come into its final, and on a busy machine a few lucky samples say little. The tuner
   brings such a candidate into the final of its next run.
4. Candidates of the same stage that cannot be told apart from the best are ties: within 1 % of its
   median, or within twice the standard error of the difference of medians (from the median
   absolute deviation, so that outliers do not widen it), but never beyond 2.5 %.
5. Among ties the incumbent is picked, else a kernel's default, else the least workspace, else the
   first in the order of kernel names and configs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

from ..config import Config
from ..measure import median
from .record import Record

__all__ = [
    "CHECKED",
    "MARGINS",
    "MOST_TIE",
    "READ_FIRST",
    "READ_LAST",
    "TIE",
    "is_check",
    "leaders",
    "pick",
    "rank",
    "reading_score",
    "score",
    "stage",
    "standings",
]

STAGES = (5, 11, 31)
"""Samples from which on a measurement is of the second stage, a final cut short, a whole final."""

MARGINS = (16.0, 2.0, 1.05, 1.0, 1.0)
"""What a measurement of each stage is multiplied with before it is compared."""

TIE = 1.01
"""Medians within this ratio are ties, whatever their spread."""

MOST_TIE = 1.025
"""Medians beyond this ratio are never ties."""

READ_FIRST = 1e-12
"""Score by which all trials of run-offs are read, before any other: no kernel is as fast."""

CHECKED = "checked"
"""What the origin of a trial begins with that only saw whether a kernel is right: it never wins."""

READ_LAST = 1e12
"""Score by which such trials are read, after any other."""

# An error so many times an earlier one is not of other random inputs, but of other code.
_GROWN = 4.0

# The median absolute deviation of a normal distribution to its standard deviation, and the standard
# error of a median to that of a mean.
_MAD, _MEDIAN = 1.4826, 1.2533


def stage(record: Record) -> int:
    """Return the stage of the race, 0 to 4, that a successful trial ended with."""
    if record.race is not None:
        return len(STAGES) + 1
    return sum(len(record.measurement.samples) >= least for least in STAGES)


def is_check(record: Record) -> bool:
    """Whether a trial only saw whether a kernel is right."""
    return record.origin.startswith(CHECKED)


def score(record: Record) -> float:
    """Return the seconds by which a successful trial is compared; infinity for a failure."""
    return record.measurement.seconds * MARGINS[stage(record)]


def reading_score(record: Record) -> float:
    """Return the key by which trials are read: their score, a run-off's before others."""
    if is_check(record):
        return READ_LAST
    return score(record) if record.race is None else READ_FIRST


def leaders(standing: Iterable[Record]) -> list[Record]:
    """Return those that come first by a run-off: who was proven faster, otherwise the default."""
    raced = [(record, record.race) for record in standing if record.race is not None]
    proven = [record for record, race in raced if race.proven]
    return proven or [record for record, race in raced if race.base == record.name]


def standings(records: Iterable[Record]) -> list[Record]:
    """Return the trial by which each candidate counts, without those that failed last."""
    by_candidate: dict[tuple[str, int, Config], list[Record]] = defaultdict(list)
    for record in records:
        by_candidate[record.candidate].append(record)
    found = []
    for trials in by_candidate.values():
        failed = max((t.created for t in trials if not t.ok), default="")
        valid = [t for t in trials if t.ok and t.created > failed and not is_check(t)]
        if valid:
            found.append(max(_of_latest_code(valid), key=_weight))
    return found


def _of_latest_code(trials: list[Record]) -> list[Record]:
    """Return the successes of a candidate without those that a later, far larger error belies."""
    if len(trials) == 1:
        return trials
    kept = []
    worst = of_this_time = 0.0
    time = ""
    for trial in sorted(trials, key=lambda t: t.created, reverse=True):
        if trial.created != time:
            worst, time = max(worst, of_this_time), trial.created
        error = trial.measurement.error
        if not worst > _GROWN * error:
            kept.append(trial)
        of_this_time = max(of_this_time, error)
    return kept


def _weight(record: Record) -> tuple[int, bool, str, str]:
    # The pairs of a run-off share what disturbs them: the latest counts.
    calm = record.race is not None or not record.measurement.contended
    return stage(record), calm, record.created, record.id


def _error(samples: tuple[float, ...]) -> float:
    """Return the standard error of the median of samples, in seconds."""
    if len(samples) < STAGES[0]:
        return 0.0
    middle = median(samples)
    spread = median([abs(s - middle) for s in samples])
    return _MEDIAN * _MAD * spread / math.sqrt(len(samples))


def _tied(best: Record, other: Record) -> bool:
    mine, theirs = best.measurement, other.measurement
    if stage(best) != stage(other):
        return False
    ratio = theirs.seconds / mine.seconds
    if ratio <= TIE or ratio > MOST_TIE:
        return ratio <= TIE
    noise = 2 * math.hypot(_error(mine.samples), _error(theirs.samples))
    return theirs.seconds - mine.seconds <= noise


def _order(record: Record) -> tuple[object, ...]:
    """Return the key of the canonical pick."""
    config = tuple(
        (name, isinstance(value, str), 0 if isinstance(value, str) else value, str(value))
        for name, value in record.config.items()
    )
    return not record.default, record.workspace, record.kernel, -record.version, config


def pick(
    records: Iterable[Record], incumbent: Record | None = None
) -> tuple[Record | None, tuple[Record, ...]]:
    """Return the winner and those that cannot be told apart from it, in canonical order.

    Args:
        records: trials of one Problem on one device, in any order, failures included.
        incumbent: what ran before; it stays the winner as long as it is among the ties.

    Returns:
        The winner (``None`` if every candidate failed) and the other ties.
    """
    standing = standings(records)
    return _pick(leaders(standing) or standing, incumbent)


def _pick(
    standing: list[Record], incumbent: Record | None
) -> tuple[Record | None, tuple[Record, ...]]:
    if not standing:
        return None, ()
    best = min(standing, key=lambda r: (score(r), r.id))
    ties = sorted((r for r in standing if _tied(best, r)), key=_order)
    chosen = ties[0]
    for tie in ties:
        if incumbent is not None and tie.candidate == incumbent.candidate:
            chosen = tie
    return chosen, tuple(t for t in ties if t is not chosen)


def rank(records: Iterable[Record]) -> Iterator[tuple[Record, tuple[Record, ...]]]:
    """Yield every candidate that stands, in order of preference, with those tied to it.

    The second is what :func:`pick` would choose if the first could not be used, and so on.
    """
    standing = standings(records)
    first = leaders(standing)
    for group in (first, [r for r in standing if r not in first]):
        while group:
            winner, ties = _pick(group, None)
            assert winner is not None
            yield winner, ties
            group.remove(winner)
