"""Inputs of a trial: what is kept for another process, and what a run may not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit.backend import Device
from hwkit.op import Problem
from hwkit.registry import registry
from hwkit.testing import FakeBackend
from hwkit.trial_inputs import trial_inputs


@pytest.fixture
def problem() -> Problem:
    """Return a small problem."""
    return registry().op("gemm").parse("gemm float32 nn m=16 n=24 k=32")


@pytest.fixture
def device() -> Device:
    """Return a device whose buffers are arrays."""
    return FakeBackend().open(0)


def test_the_two_inputs_and_their_answers_differ(problem: Problem, device: Device) -> None:
    """Each reference is the product of its own operands in float64."""
    first, second = trial_inputs(problem, device, 1)
    for given in (first, second):
        a, b = (np.asarray(device.get(buffer), np.float64) for buffer in given.buffers)
        np.testing.assert_allclose(given.reference, a @ b, rtol=1e-12)
    assert not np.array_equal(first.reference, second.reference)


def test_references_are_kept_in_the_folder(
    problem: Problem, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that takes over finds the references, and does not compute them again."""
    first = trial_inputs(problem, device, 1, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2

    def refuse(*operands: Any) -> None:
        raise AssertionError("the reference was computed again")

    monkeypatch.setattr(type(problem), "reference", refuse)
    second = trial_inputs(problem, device, 1, tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    for mine, theirs in zip(first, second, strict=True):
        assert np.array_equal(mine.reference, theirs.reference)
        assert theirs.reference.dtype == np.float64


def test_a_changed_operand_is_named(problem: Problem, device: Device) -> None:
    """The checksums tell which operand a run has written to."""
    given = trial_inputs(problem, device, 1)[0]
    assert given.changed() is None
    device.get(given.buffers[1])[0, 0] += 1
    assert given.changed() == "b"
