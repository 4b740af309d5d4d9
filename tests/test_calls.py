"""The table of Plans and the entry into one: the compiled form does as the one in Python."""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwkit import calls
from hwkit.calls import Caller, PlanTable, PythonCall, fastest
from hwkit.errors import ArgumentError


def problem(x: Any, w: Any) -> None:
    """Stand for ``Op.problem``, whose parameters name the operands."""


ONE, TWO = SimpleNamespace(name="one", problem=problem), SimpleNamespace(name="two")
X, W = np.ones((2, 3), "f4"), np.ones((3, 4), "f4")
COMPILED = calls._calls is not None
FORMS = [
    "python",
    pytest.param("compiled", marks=pytest.mark.skipif(not COMPILED, reason="not built")),
]


class Echo(calls.Call):
    """A Plan that returns what it was called with; its fast path takes arrays only."""

    def __init__(self, count: int) -> None:
        self.operands = (None,) * count
        self.slow = 0
        self._direct = self._fast

    def _fast(self, operands: tuple[Any, ...], out: Any) -> Any:
        exact = all(type(a) is np.ndarray and a.flags.c_contiguous for a in operands)
        return (operands, out) if exact else NotImplemented

    def _general(self, operands: tuple[Any, ...], out: Any) -> Any:
        self.slow += 1
        return operands, out


class World:
    """A table over a planner that counts."""

    def __init__(self, form: str) -> None:
        self.in_use: ContextVar[Any] = ContextVar("in_use", default=None)
        self.asked: list[tuple[Any, ...]] = []
        table = PlanTable(self.plan, self.in_use)
        self.call: Caller = table if form == "python" else fastest(table)

    def plan(self, op: Any, operands: Any, arguments: Any, device: Any, tolerance: Any) -> Echo:
        self.asked.append((op, arguments, device, tolerance, self.in_use.get()))
        return Echo(sum(a is not None for a in operands))


@pytest.fixture(params=FORMS)
def world(request: pytest.FixtureRequest) -> World:
    """Return a table in Python, and then the compiled one."""
    return World(request.param)


def test_the_same_call_is_planned_once(world: World) -> None:
    """What was left out is not handed on, and the result is that of the Plan."""
    y = np.empty((2, 4), "f4")
    for _ in range(3):
        operands, out = world.call(ONE, (X, W, None), (1, "nchw"), y)
        assert [a is b for a, b in zip(operands, (X, W), strict=True)] == [True, True]
        assert out is y
    assert world.asked == [(ONE, (1, "nchw"), None, None, None)]


@pytest.mark.parametrize(
    "other",
    [
        (TWO, (X, W), (1,)),
        (ONE, (X[:1], W), (1,)),
        (ONE, (X, W[:, :2]), (1,)),
        (ONE, (X[0], W), (1,)),
        (ONE, (X.astype("f8"), W), (1,)),
        (ONE, (X.astype(">f4"), W), (1,)),
        (ONE, (X, W, None), (1,)),
        (ONE, (X, W, X), (1,)),
        (ONE, (X,), (1,)),
        (ONE, (X, W), (2,)),
        (ONE, (X, W), (1,), None, "cpu:0"),
        (ONE, (X, W), (1,), None, None, 1e-3),
        (ONE, (X, W), (1,), None, None, "strict"),
    ],
)
def test_each_difference_is_another_plan(world: World, other: tuple[Any, ...]) -> None:
    """Op, shapes, dtypes, what is left out, arguments, device and tolerance."""
    for _ in range(2):
        world.call(ONE, (X, W), (1,))
        world.call(*other)
    assert len(world.asked) == 2


def test_devices_in_use_are_part_of_a_call(world: World) -> None:
    """Inside use() a call is planned for its devices, and outside it is what it was."""
    world.call(ONE, (X, W), ())
    token = world.in_use.set((("toy:0",), "error"))
    for _ in range(2):
        world.call(ONE, (X, W), ())
    world.in_use.reset(token)
    world.call(ONE, (X, W), ())
    assert [asked[-1] for asked in world.asked] == [None, (("toy:0",), "error")]


@pytest.mark.parametrize("odd", [X.T, np.asfortranarray(X), X[::-1], X.view(np.recarray)])
def test_what_the_fast_path_refuses_goes_the_long_way(world: World, odd: Any) -> None:
    """Strides and subclasses are the Plan's business."""
    for _ in range(2):
        operands, _ = world.call(ONE, (odd, W), ())
        assert operands[0] is odd


def test_lists_numbers_and_unhashable_arguments(world: World) -> None:
    """They are converted, or planned each time, but they work."""
    operands, _ = world.call(ONE, ([[1.0, 2.0]], 3.0), ([1, 1],))
    assert [a.shape for a in operands] == [(1, 2), ()]
    world.call(ONE, (X, W), ([1, 1],))
    world.call(ONE, (X, W), ([1, 1],))
    assert len(world.asked) == 3
    with pytest.raises(ArgumentError, match="w of type list cannot be read"):
        world.call(ONE, (X, [[1.0], [2.0, 3.0]]), ())


def test_clear_and_the_most_that_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes that never repeat do not fill the memory."""
    monkeypatch.setattr(PlanTable, "most", 3)
    for rows in range(1, 10):
        world.call(ONE, (np.ones((rows, 3), "f4"), W), ())
    assert 1 <= len(world.call) <= 3
    world.call.clear()
    assert len(world.call) == 0
    world.call(ONE, (np.ones((9, 3), "f4"), W), ())
    assert len(world.asked) == 10


def test_errors_of_the_planner_are_the_callers(world: World) -> None:
    """Nothing is kept of a call that cannot be planned."""

    def refuse(*_: Any) -> Any:
        raise ValueError("no")

    table = PlanTable(refuse, world.in_use)
    call = table if isinstance(world.call, PlanTable) else fastest(table)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            call(ONE, (X, W), ())  # type: ignore[arg-type]
    assert len(call) == 0


def test_many_threads(world: World) -> None:
    """Readers and those who clear the table do not disturb each other."""
    arrays = [np.ones((rows, 3), "f4") for rows in range(1, 20)]
    wrong: list[Any] = []

    def work(number: int) -> None:
        for step in range(2000):
            array = arrays[(step * (number + 1)) % len(arrays)]
            operands, _ = world.call(ONE, (array, W, None), (1, 2))
            if operands[0] is not array or operands[1] is not W:
                wrong.append(operands)
            if number == 0 and step % 50 == 0:
                world.call.clear()

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert not wrong


@pytest.mark.parametrize("base", [PythonCall, calls.Call])
def test_a_call_tries_the_fast_path_first(base: type[Any]) -> None:
    """What it refuses goes to the general one; ``out`` is a keyword."""

    class Twice(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self._direct = lambda operands, out: NotImplemented if out is None else ("fast", out)

        def _general(self, operands: Any, out: Any) -> Any:
            return "general", operands, out

    assert Twice()(X) == ("general", (X,), None)
    assert Twice()(X, out=1) == ("fast", 1)
    with pytest.raises(TypeError):
        Twice()(X, to=1)


@pytest.mark.parametrize("form", FORMS)
def test_plain_matrices(form: str) -> None:
    """Two dimensions, C order, no subclass, and more than one column on the right."""
    plain = calls._plain_matrices if form == "python" else calls._calls.plain_matrices
    assert plain(X, W)
    for a, b in [
        (X.T, W), (X, W.T), (X[0], W), (X, W[:, :1].copy()), (X[None], W), (X.tolist(), W),
        (X, W.view(np.recarray)), (None, W),
    ]:  # fmt: skip
        assert not plain(a, b)
