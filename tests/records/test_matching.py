"""Tests of lookups: each change of one field gives its documented outcome, in the right order."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hwkit import Config, Fingerprint
from hwkit.records import Database, pick
from hwkit.records.lines import write_lines
from hwkit.records.matching import Match
from hwkit.records.ranking import rank
from hwkit.runoff import Paired

from .trials import ARCH, ENVIRONMENT, HERE, IDENTITY, OTHER, PROBLEM, UPDATED, trial


def outcome(database: Database, arch: str = ARCH, here: Fingerprint = HERE) -> str:
    """Return in one word what the first match is."""
    match = next(database.candidates(PROBLEM, arch, here), None)
    if match is None:
        return "miss"
    words = [match.source.split()[0]] if match.source == "nearest record" else []
    words += ["stale"] if match.stale else []
    words += ["other device"] if not match.same_device else []
    return " ".join(words) or "hit"


ENVIRONMENT_CHANGES = [
    (f"environment {name}", HERE, Fingerprint(IDENTITY, {**ENVIRONMENT, name: "changed"}), "stale")
    for name in ENVIRONMENT
]
IDENTITY_CHANGES = [
    (f"identity {name}", HERE, Fingerprint({**IDENTITY, name: value}, ENVIRONMENT), "other device")
    for name, value in (("backend", "x"), ("isa", "avx512"), ("threads", 1), ("l2", 2 << 20))
]


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        pytest.param(HERE, HERE, "hit", id="nothing"),
        *[pytest.param(then, now, out, id=name) for name, then, now, out in ENVIRONMENT_CHANGES],
        *[pytest.param(then, now, out, id=name) for name, then, now, out in IDENTITY_CHANGES],
        pytest.param(
            HERE, Fingerprint(IDENTITY, {**ENVIRONMENT, "kernel": "6.1"}), "stale",
            id="environment gains a field",
        ),
        pytest.param(HERE, Fingerprint(IDENTITY, {}), "stale", id="environment loses its fields"),
        pytest.param(
            HERE, Fingerprint({**IDENTITY, "numa": 1}, ENVIRONMENT), "other device",
            id="identity gains a field",
        ),
        pytest.param(
            HERE, Fingerprint({**IDENTITY, "threads": 4}, {}), "stale other device", id="both"
        ),
        pytest.param(
            HERE, Fingerprint({**IDENTITY, "threads": True}, ENVIRONMENT), "other device",
            id="identity of another type",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layer", ["user", "shipped"])
def test_each_change_of_the_fingerprint(
    then: Fingerprint, now: Fingerprint, expected: str, layer: str, tmp_path: Path
) -> None:
    """Another environment is stale, another identity is another device, for both layers."""
    write_lines(tmp_path / "a.jsonl", [trial(fingerprint=then)] if layer == "shipped" else [])
    database = Database(None, shipped=[tmp_path / "a.jsonl"])
    if layer == "user":
        database.add(trial(fingerprint=then))
    assert outcome(database, here=now) == expected
    match = next(database.candidates(PROBLEM, ARCH, now))
    assert match.source == f"{layer} record"
    assert match.record == trial(fingerprint=then)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("gemm float32 nn m=128 n=64 k=64", "nearest"),
        ("gemm float32 nn m=64 n=64 k=64 +relu", "nearest"),
        ("gemm float32 nn m=64 n=64 k=64 packed", "nearest"),
        ("gemm float32 nt m=64 n=64 k=64", "miss"),
        ("gemm float64 nn m=64 n=64 k=64", "miss"),
        ("matmul float32 nn m=64 n=64 k=64", "miss"),
    ],
)
def test_each_change_of_the_problem(problem: str, expected: str) -> None:
    """Other sizes, epilogue or packing are near, another op, dtype or layout is a miss."""
    database = Database(None)
    database.add(trial(problem=problem))
    assert outcome(database) == expected


def test_another_arch_is_a_miss() -> None:
    """A record of another arch is never run here, of this problem or a near one."""
    database = Database(None)
    database.add(trial(arch="sm_90"))
    database.add(trial(arch="sm_90", problem="gemm float32 nn m=65 n=64 k=64"))
    assert outcome(database) == "miss"


def test_another_kernel_version_is_another_candidate() -> None:
    """The version is handed over, for the caller to refuse."""
    database = Database(None)
    database.add(trial(version=1))
    database.add(trial(version=2, seconds=2e-3))
    found = [m.record.version for m in database.candidates(PROBLEM, ARCH, HERE)]
    assert found == [1, 2]


@pytest.mark.parametrize("failure", ["compile", "launch", "wrong", "timeout", "crash", "memory"])
def test_failures_are_no_candidates(failure: str) -> None:
    """A failed trial is never offered, exact or near, nor in a portfolio."""
    database = Database(None)
    database.add(trial(failure=failure))
    database.add(trial(failure=failure, problem="gemm float32 nn m=65 n=64 k=64"))
    assert outcome(database) == "miss"
    assert database.portfolio(PROBLEM, ARCH, HERE) == []


def _shipped(tmp_path: Path, *records: Any) -> Database:
    write_lines(tmp_path / "a.jsonl", records)
    return Database(None, shipped=[tmp_path / "a.jsonl"])


def test_the_order_of_preference(tmp_path: Path) -> None:
    """User before shipped; fresh before stale; this device before others; near ones last."""
    near = "gemm float32 nn m=65 n=64 k=64"
    database = _shipped(
        tmp_path,
        trial(5, fingerprint=HERE),
        trial(6, fingerprint=UPDATED),
        trial(8, fingerprint=OTHER),
        trial(12, problem=near),
    )
    for record in (
        trial(1, seconds=2e-3),
        trial(2, seconds=3e-3),
        trial(3, seconds=1e-3, fingerprint=UPDATED),
        trial(7, seconds=1e-3, fingerprint=OTHER),
        trial(11, problem=near),
        trial(13, problem="gemm float32 nn m=80 n=64 k=64"),
    ):
        database.add(record)
    matches = list(database.candidates(PROBLEM, ARCH, HERE))
    assert [m.record.config["tile"] for m in matches] == [1, 2, 3, 5, 6, 7, 8, 11, 12, 13]
    exact = [m for m in matches if m.source != "nearest record"]
    assert [m.stale for m in exact] == [False, False, True, False, True, False, False]
    assert [m.same_device for m in exact] == [True] * 5 + [False] * 2
    assert [m.distance for m in exact] == [0.0] * 7
    distances = [m.distance for m in matches[7:]]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_a_candidate_is_offered_once_per_device() -> None:
    """What is fresh is not offered again as stale."""
    database = Database(None)
    database.add(trial(1))
    database.add(trial(1, fingerprint=UPDATED))
    database.add(trial(2, fingerprint=UPDATED))
    matches = list(database.candidates(PROBLEM, ARCH, HERE))
    assert [(m.record.config["tile"], m.stale) for m in matches] == [(1, False), (2, True)]


def test_similar_devices_come_first() -> None:
    """Of other devices, the one with fewer differences; the winners of all before seconds."""
    database = Database(None)
    far = Fingerprint({**IDENTITY, "threads": 9, "isa": "sse"}, ENVIRONMENT)
    for tile, fingerprint in ((1, far), (2, far), (3, OTHER), (4, OTHER)):
        database.add(trial(tile, seconds=tile * 1e-3, fingerprint=fingerprint))
    found = [m.record.config["tile"] for m in database.candidates(PROBLEM, ARCH, HERE)]
    assert found == [3, 1, 4, 2]


def test_ties_come_along() -> None:
    """A match names the others that cannot be told apart from it."""
    database = Database(None)
    for tile in (1, 2, 3):
        database.add(trial(tile, seconds=1e-3))
    database.add(trial(4, seconds=2e-3))
    match = next(database.candidates(PROBLEM, ARCH, HERE))
    assert match.record.config["tile"] == 1
    assert [t.config["tile"] for t in match.ties] == [2, 3]


def test_reading_by_parts_gives_the_same_order() -> None:
    """However many candidates there are, the order is that of ranking them all at once."""
    from hwkit.records.ranking import rank

    database = Database(None)
    trials = []
    for tile in range(150):
        # Lucky first samples, which their own finals correct: reading by score would miss that.
        final = 1e-3 + 3e-7 * ((tile * 37) % 150)
        trials += [trial(tile, final), trial(tile, final * 0.7, samples=1, at=1)]
    database.add_all(trials)
    found = [m.record for m in database.candidates(PROBLEM, ARCH, HERE)]
    assert found == [record for record, _ in rank(trials)]
    assert found[0] == pick(trials)[0]


def test_the_nearest_of_many() -> None:
    """Among thousands of problems the nearest are found, and only by the index."""
    database = Database(None)
    sizes = [(m, n) for m in range(8, 1024, 24) for n in range(8, 1024, 24)]
    database.add_all(trial(m, problem=f"gemm float32 nn m={m} n={n} k=64") for m, n in sizes)
    match = next(database.candidates("gemm float32 nn m=130 n=250 k=64", ARCH, HERE))
    assert match.source == "nearest record"
    assert match.distance < 0.1


def test_at_equal_distance_this_device_first() -> None:
    """A near record of this device goes before one of another, the user's before shipped."""
    near = "gemm float32 nn m=65 n=64 k=64"
    database = Database(None)
    database.add(trial(1, problem=near, fingerprint=OTHER, seconds=1e-4))
    database.add(trial(2, problem=near, seconds=1e-2))
    matches = list(database.candidates(PROBLEM, ARCH, HERE))
    assert [(m.record.config["tile"], m.same_device) for m in matches] == [(2, True), (1, False)]


def test_portfolio(tmp_path: Path) -> None:
    """Incumbents, then the winners of every other device of any arch, then of near problems."""
    near = "gemm float32 nn m=65 n=64 k=64"
    database = _shipped(tmp_path, trial(2), trial(4, arch="sm_90", fingerprint=OTHER))
    for record in (
        trial(1),
        trial(3, fingerprint=OTHER),
        trial(30, seconds=2e-3, fingerprint=OTHER),
        trial(5, problem=near),
        trial(1, problem=near, seconds=2e-3),
    ):
        database.add(record)
    found = [r.config["tile"] for r in database.portfolio(PROBLEM, ARCH, HERE)]
    assert found == [1, 2, 3, 4, 5]
    deep = [r.config["tile"] for r in database.portfolio(PROBLEM, ARCH, HERE, depth=2)]
    assert deep == [1, 2, 3, 30, 4, 5]


def test_a_lookup_reads_no_more_than_it_must() -> None:
    """The first match of an exact problem does not rank what only a later one needs."""
    database = Database(None)
    database.add_all(trial(t, seconds=1e-3 * (1 + t / 100)) for t in range(500))
    read = []
    store = database._user
    original = store.records
    store.records = lambda c, rows: (read.append(r) or r for r in original(c, rows))  # type: ignore[method-assign,func-returns-value,misc]
    matches = database.candidates(PROBLEM, ARCH, HERE)
    first = next(matches)
    assert isinstance(first, Match)
    assert first.record.config == Config({"tile": 0})
    assert len(read) <= 16
    assert len(list(islice(matches, 600))) == 499


@pytest.mark.parametrize("proven", [False, True])
def test_run_offs_are_read_as_a_whole(proven: bool) -> None:
    """However many run-offs there were, who came first in the last is found, and all in order."""
    low = 1.05 if proven else 0.95
    found = [trial(100 + t, seconds=1e-4 * (1 + t / 50)) for t in range(40)]
    for run in range(8):
        for tile in range(1, 6):
            seconds = 1e-3 * (1 - tile / 100)
            ratio = 1.0 if tile == 1 else 1.1
            race = Paired("blocked/1 tile=1", ratio, min(ratio, low), 1.2, 15)
            found.append(trial(tile, seconds, 15, at=10 * run + tile, race=race))
    database = Database(None)
    database.add_all(found)
    matches = [m.record for m in database.candidates(PROBLEM, ARCH, HERE)]
    assert matches[0].config["tile"] == (5 if proven else 1)
    assert matches == [record for record, _ in rank(found)]
