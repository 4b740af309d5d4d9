"""Which kernel and config a problem gets, and the reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toy import ToyDevice, ToyKernel

from hwkit import ArgumentError, Config, HwkitWarning, NoKernel, Problem, Unavailable, answers
from hwkit.answers import asked, by_rank, misfit
from hwkit.backend import Fingerprint
from hwkit.measure import Measurement
from hwkit.ops.gemm import GEMM
from hwkit.records import Match, Record
from hwkit.selection import Selection, check_tolerance, select
from hwkit.settings import Settings

DEVICE = ToyDevice(0)
PROBLEM = GEMM.parse("gemm float32 nn m=8 n=8 k=8")


def match_of(source: str = "user record", distance: float = 0.0, **changes: Any) -> Match:
    """Return a match with a good record, but for ``changes``."""
    error = changes.pop("error", 1e-7)
    facts: dict[str, Any] = {
        "problem": str(PROBLEM), "op": "gemm", "kernel": "toy", "version": 3,
        "config": Config({"tile": 4}), "arch": DEVICE.arch, "fingerprint": DEVICE.fingerprint,
        "measurement": Measurement(1e-6, (1e-6,), error, None),
        **changes,
    }  # fmt: skip
    return Match(Record(**facts), source, False, True, (), distance)


def test_the_first_record_that_fits() -> None:
    """A record beats the default, and its source is kept."""
    chosen = select(PROBLEM, DEVICE, [ToyKernel()], [match_of(), match_of("shipped record")])
    assert (str(chosen.config), chosen.source) == ("tile=4", "user record")


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        (match_of(kernel="gone"), "is not there"),
        (match_of(version=2), "version 3, the record is of 2"),
        (match_of(config=Config({"tile": 3})), "tile=3 is not one of"),
        (match_of(config=Config({"tile": 4, "more": 1})), "tunables are"),
        (match_of(error=1e-3), "relative error 1.0e-03 exceeds 2.0e-06"),
        (match_of(error=float("nan")), "exceeds"),
        (match_of("nearest record", 0.1, problem=f"{PROBLEM} packed"), "packed constants"),
    ],
    ids=["kernel", "version", "value", "names", "error", "unchecked", "packed"],
)
def test_a_record_that_does_not_count(match: Match, reason: str) -> None:
    """A record whose kernel, version, config or error does not fit is passed over, with why."""
    chosen = select(PROBLEM, DEVICE, [ToyKernel()], [match, match_of("shipped record")])
    assert chosen.source == "shipped record"
    assert reason in chosen.rejected[0][1]


def test_a_record_of_another_number_of_threads() -> None:
    """Work that was cut for other threads is no guess for these; other facts may differ."""

    def chosen(**facts: int) -> Selection:
        theirs = Fingerprint({**DEVICE.fingerprint.identity, **facts})
        match = replace(match_of(fingerprint=theirs), same_device=False)
        return select(PROBLEM, DEVICE, [ToyKernel()], [match])

    assert chosen(l2=1).source == "user record"
    assert chosen(threads=64).source == "default"
    assert chosen(threads=64).rejected[0][1] == (
        "it was measured with threads=64, here are threads=None"
    )


def test_nothing_is_asked_for_behind_a_record_that_is_too_far_away() -> None:
    """Nearest records come in the order of distance, and each costs a look into the database."""
    behind = iter([match_of("nearest record", 9.0), match_of("nearest record", 9.5)])
    chosen = select(PROBLEM, DEVICE, [ToyKernel()], behind)
    assert chosen.source == "default"
    assert [why for _, why in chosen.rejected] == ["its sizes are too far away (distance 9.00)"]
    assert len(list(behind)) == 1


def test_packed_constants_take_records_of_both_kinds() -> None:
    """What is fast with packing in each call is a good guess without it."""
    packed = PROBLEM.with_packed()
    for text in (str(PROBLEM), str(packed)):
        found = match_of("nearest record", 0.1, problem=text)
        assert select(packed, DEVICE, [ToyKernel()], [found]).match is found


def test_the_default_of_the_highest_rank() -> None:
    """Without a record the default of the highest rank runs; equal ranks go by name."""
    kernels = [ToyKernel(name="b"), ToyKernel(name="a"), ToyKernel(name="low", rank=-1)]
    assert select(PROBLEM, DEVICE, kernels, []).kernel.name == "a"
    kernels.append(ToyKernel(name="z", rank=5))
    chosen = select(PROBLEM, DEVICE, kernels, [])
    assert (chosen.kernel.name, chosen.source) == ("z", "default")
    assert set(chosen.others) == {"a", "b", "low"}


def test_tolerance_decides() -> None:
    """A fast kernel of low accuracy runs only for a call that admits it."""
    rough = ToyKernel(name="rough", rank=9, error=1e-3, strict=False)
    fine = ToyKernel(name="fine", error=1e-7)
    assert select(PROBLEM, DEVICE, [rough, fine], []).kernel is fine
    assert select(PROBLEM, DEVICE, [rough, fine], [], 1e-2).kernel is rough
    loose = ToyKernel(name="loose", rank=9, strict=False)
    assert select(PROBLEM, DEVICE, [loose, fine], [], "strict").kernel is fine
    record = match_of(kernel="rough", error=1e-3)
    assert select(PROBLEM, DEVICE, [rough, fine], [record], 1e-2).source == "user record"
    assert select(PROBLEM, DEVICE, [rough, fine], [record]).source == "default"


def test_no_kernel_says_why() -> None:
    """When nothing takes the problem, each kernel and its reason are named."""
    kernels = [
        ToyKernel(name="odd", supports="m must be odd"),
        ToyKernel(name="third", supports="m must be odd"),
        ToyKernel(name="mute", supports=False),
        ToyKernel(name="rough", error=1e-3),
    ]
    with pytest.raises(NoKernel) as caught:
        select(PROBLEM, DEVICE, kernels, [])
    for words in (
        "toy:0",
        str(PROBLEM),
        "odd, third: m must be odd",
        "mute:",
        "rough: its relative",
    ):
        assert words in str(caught.value)
    with pytest.raises(NoKernel, match="deterministic"):
        select(PROBLEM, DEVICE, [ToyKernel()], [], "deterministic")
    with pytest.raises(NoKernel, match="constants in storage='int8': leave it out"):
        select(PROBLEM, DEVICE, [ToyKernel()], [], storage="int8")
    with pytest.raises(NoKernel, match="no kernel of toy:0 does gemm"):
        select(PROBLEM, DEVICE, [], [])


def test_a_kernel_that_fails_when_asked_declines() -> None:
    """A bug in ``supports`` stops nobody: the kernel is named in a warning and left out."""
    bad = ToyKernel(name="bad", rank=9, supports=KeyError("layout"))
    with pytest.warns(HwkitWarning, match="kernel bad of gemm is left out, its supports failed"):
        chosen = select(PROBLEM, DEVICE, [bad, ToyKernel()], [])
    assert chosen.kernel.name == "toy"
    assert "failed with KeyError" in chosen.declined["bad"]
    bad = ToyKernel(name="bad", rank=9, supports=RuntimeError("two\nlines"))
    with pytest.warns(HwkitWarning, match="its supports failed with RuntimeError: two lines: mend"):
        assert select(PROBLEM, DEVICE, [bad, ToyKernel()], []).kernel.name == "toy"
    bad = ToyKernel(name="bad", rank=9)
    bad.default = lambda problem: 1 // 0  # type: ignore[method-assign]
    with pytest.warns(HwkitWarning, match="its default failed with ZeroDivisionError"):
        assert select(PROBLEM, DEVICE, [bad, ToyKernel()], []).kernel.name == "toy"
    lost = ToyKernel(supports=Unavailable("the device is lost"))
    with pytest.raises(Unavailable):
        select(PROBLEM, DEVICE, [lost], [])


def test_workspace_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs more scratch memory is passed over; if nothing fits, the sentence says so."""

    class Large(ToyKernel):
        def workspace(self, problem: Problem, config: Config) -> int:
            return 1000

    monkeypatch.setattr(answers, "settings", lambda: Settings(workspace_limit=999))
    large, small = Large(name="large", rank=9), ToyKernel(name="small")
    chosen = select(PROBLEM, DEVICE, [large, small], [match_of(kernel="large")])
    assert chosen.kernel is small
    assert "1000 bytes exceeds HWKIT_WORKSPACE_LIMIT=999" in chosen.rejected[0][1]
    with pytest.raises(NoKernel, match="large: its workspace of 1000 bytes exceeds"):
        select(PROBLEM, DEVICE, [large], [])
    monkeypatch.setattr(answers, "settings", lambda: Settings(workspace_limit=1000))
    assert select(PROBLEM, DEVICE, [large, small], []).kernel is large


def test_misfit() -> None:
    """Numbers are budgets, policies ask the kernel, NaN never fits."""
    kernel, loose, config = ToyKernel(), ToyKernel(strict=False), Config({"tile": 4})
    for error, tolerance in ((1e-6, None), (1e-5, 1e-4), (1e-7, "strict")):
        assert misfit(kernel, PROBLEM, config, error, tolerance) is None
    for error, tolerance in ((1e-5, None), (float("nan"), 1.0), (1e-7, "deterministic")):
        assert misfit(kernel, PROBLEM, config, error, tolerance) is not None
    assert misfit(loose, PROBLEM, config, 1e-7, "strict") == "its arithmetic is not strict"


def test_check_tolerance() -> None:
    """A tolerance is a positive number or a policy, nothing else."""
    for good in (None, "strict", "deterministic", 1e-3, 1):
        assert check_tolerance(good) == good
    assert check_tolerance(np.float32(0.5)) == 0.5  # type: ignore[arg-type]
    for bad in (0, -1.0, float("nan"), True, "loose", [1], np.ones(2)):
        with pytest.raises(ArgumentError, match="tolerance="):
            check_tolerance(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "returned", "why"),
    [
        ("supports", 1, "its supports failed with TypeError: it returned 1, not True, False or"),
        ("default", {}, "its default failed with TypeError: it returned {}, which is not a Config"),
        ("rank", None, "its rank failed with TypeError"),
        ("rank", RuntimeError("boom"), "its rank failed with RuntimeError: boom"),
        ("error_bound", None, "its own account of a config failed with TypeError"),
        ("supports", SystemExit(3), "its supports failed with SystemExit: 3"),
    ],
)
def test_a_kernel_whose_own_code_fails(
    monkeypatch: pytest.MonkeyPatch, method: str, returned: Any, why: str
) -> None:
    """A stranger's bug leaves that kernel out with a warning, and costs no other anything."""

    def answer(*_: Any) -> Any:
        if isinstance(returned, BaseException):
            raise returned
        return returned

    bad = ToyKernel(name="bad", rank=9)
    monkeypatch.setattr(bad, method, answer)
    with pytest.warns(HwkitWarning, match="kernel bad of gemm is left out"):
        chosen = select(PROBLEM, DEVICE, [bad, ToyKernel()], [])
    assert chosen.kernel.name == "toy"
    assert why in chosen.declined["bad"]


def test_a_record_of_a_kernel_without_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record whose config cannot be looked up is passed over, and the default runs."""
    bad = ToyKernel()
    monkeypatch.setattr(bad, "space", lambda problem: None)
    with pytest.warns(HwkitWarning, match="its space failed with AttributeError"):
        chosen = select(PROBLEM, DEVICE, [bad], [match_of()])
    assert chosen.source == "default"


def test_an_answer_of_numpy_is_an_answer() -> None:
    """A comparison of numpy numbers is no reason to decline."""
    assert asked(ToyKernel(supports=np.bool_(True)), PROBLEM) is True
    assert asked(ToyKernel(supports=np.bool_(False)), PROBLEM) is False


def test_by_rank() -> None:
    """The highest rank comes first, equals by name."""
    kernels = [ToyKernel(name=name, rank=rank) for name, rank in (("b", 1), ("c", 2), ("a", 1))]
    assert [k.name for k in by_rank(kernels, PROBLEM, {})] == ["c", "a", "b"]
