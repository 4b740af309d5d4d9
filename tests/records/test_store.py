"""Tests of Store: every question of a lookup is answered by an index, whatever the size."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hwkit.records.connection import SqliteFile
from hwkit.records.schema import statements
from hwkit.records.store import QUERIES, Near, NotKept, Store

from .trials import ARCH, HERE, OTHER, PROBLEM, UPDATED, trial


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("analysed", [False, True])
def test_no_question_scans_a_table(name: str, analysed: bool) -> None:
    """SQLite's own plan of each query is a search by an index, without a sort."""
    connection = sqlite3.connect(":memory:")
    for statement in statements():
        connection.execute(statement)
    if analysed:
        connection.execute("ANALYZE")
    values = [1] * QUERIES[name].count("?")
    plan = connection.execute(f"EXPLAIN QUERY PLAN {QUERIES[name]}", values).fetchall()
    connection.close()
    steps = [row[3] for row in plan]
    assert steps
    assert all(step.startswith("SEARCH") and "USING" in step for step in steps), steps


def test_the_plan_test_can_fail() -> None:
    """A query without an index is seen as a scan: the test above means something."""
    connection = sqlite3.connect(":memory:")
    for statement in statements():
        connection.execute(statement)
    query = "EXPLAIN QUERY PLAN SELECT 1 FROM trials WHERE kernel = 'a'"
    assert connection.execute(query).fetchone()[3].startswith("SCAN")
    connection.close()


def test_a_lookup_asks_a_bounded_number_of_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the records: as many statements, exact and near."""

    def statements_of(count: int, problem: str) -> int:
        store = Store(None)
        sizes = [trial(i % 7, problem=f"gemm float32 nn m={i + 1} n=64 k=64") for i in range(count)]
        store.add([*sizes, *(trial(i, 1e-3 * (1 + i / 10)) for i in range(count))])
        asked: list[str] = []

        def read(work: object, otherwise: object) -> object:
            def traced(connection: sqlite3.Connection) -> object:
                connection.set_trace_callback(asked.append)
                try:
                    return work(connection)  # type: ignore[operator]
                finally:
                    connection.set_trace_callback(None)

            return Store.read(store, traced, otherwise)

        monkeypatch.setattr(store, "read", read)
        store.top(problem, store.identical(ARCH, HERE)[0].key, 16)
        store.near(problem, ARCH, 16)
        return len(asked)

    assert statements_of(200, PROBLEM) == statements_of(2000, PROBLEM) < 200
    near = "gemm float32 nn m=100 n=65 k=65"
    assert statements_of(200, near) == statements_of(2000, near) < 200


def test_identical_devices() -> None:
    """This device comes first, even if unknown; then other environments; no other identity."""
    store = Store(None)
    assert [k.fingerprint for k in store.identical(ARCH, HERE)] == [HERE]
    store.add([trial(1), trial(1, fingerprint=UPDATED), trial(1, fingerprint=OTHER)])
    found = store.identical(ARCH, UPDATED)
    assert [k.fingerprint for k in found] == [UPDATED, HERE]
    assert [k.fingerprint for k in store.identical("other", HERE)] == [HERE]


def test_devices_of_a_problem() -> None:
    """Only devices with a success, and no more than asked for."""
    store = Store(None)
    store.add([trial(1), trial(2), trial(1, fingerprint=UPDATED)])
    store.add([trial(1, fingerprint=OTHER, failure="crash")])
    environments = {k.fingerprint.environment["hwkit"] for k in store.devices_of(PROBLEM, 9)}
    assert environments == {"0.1.0", "0.2.0"}
    assert len(store.devices_of(PROBLEM, 1)) == 1
    assert store.devices_of("gemm float32 nn m=1 n=1 k=1", 9) == []


def test_top() -> None:
    """All trials of the fastest candidates, failures included, and a floor for the rest."""
    store = Store(None)
    trials = [trial(t, 1e-3 * t) for t in range(1, 6)]
    store.add([*trials, trial(1, failure="crash", at=5)])
    device = store.identical(ARCH, HERE)[0].key
    two = store.top(PROBLEM, device, 2)
    assert {r.id for r in two.records} == {trials[0].id, trials[1].id,
                                           trial(1, failure="crash", at=5).id}  # fmt: skip
    assert two.floor == pytest.approx(2e-3)
    assert store.top(PROBLEM, device, 9).floor == float("inf")
    store.add([trial(6, 1.02e-3)])
    tied = store.top(PROBLEM, device)
    assert {r.config for r in tied.records if r.ok} == {trial(1).config, trial(6).config}
    assert tied.floor == pytest.approx(2e-3)
    assert store.top("gemm float32 nn m=1 n=1 k=1", device).floor == float("inf")


def test_near() -> None:
    """Problems of the same family and arch with a success, the nearest first."""
    store = Store(None)
    texts = [f"gemm float32 nn m={m} n=64 k=64" for m in (8, 60, 64, 66, 500)]
    store.add([trial(1, problem=text) for text in texts])
    store.add([trial(1, problem="gemm float32 nn m=63 n=64 k=64", failure="wrong")])
    store.add([trial(1, problem="gemm float32 nt m=64 n=64 k=64")])
    store.add([trial(1, problem="gemm float32 nn m=64 n=64 k=64 +relu")])
    found = store.near(PROBLEM, ARCH, 16)
    assert [n.problem.split("=")[1].split()[0] for n in found] == ["64", "66", "60", "500", "8"]
    assert found[0] == Near("gemm float32 nn m=64 n=64 k=64 +relu", 0.0)
    assert store.near(PROBLEM, "other", 16) == []
    assert len(store.near("gemm float32 nn m=1 n=1 k=1", ARCH, 2)) == 2


def test_a_store_for_reading(tmp_path: Path) -> None:
    """It says why it keeps nothing."""
    store = Store(tmp_path / "tuning.db", read_only=True)
    with pytest.raises(NotKept, match="opened to be read"):
        store.add([trial(1)])
    assert list(store) == []


def test_many_rows_are_read_in_parts() -> None:
    """Iteration yields each of more rows than a part holds, once."""
    store = Store(None)
    store.add(trial(t) for t in range(2500))
    assert len({r.id for r in store}) == len(list(store)) == 2500


def test_memory_is_one_connection() -> None:
    """In memory, what one thread writes another reads."""
    file = SqliteFile(None)
    put = "INSERT INTO pending (problem_key, line, host, pid, started) VALUES (1, 'x', 'h', 1, '')"
    file.write(lambda c: c.execute(put))
    assert file.read(lambda c: c.execute("SELECT count(*) FROM pending").fetchone()[0]) == 1
    file.close()
