"""The conformance suite: it passes a sound backend, and catches every way of being unsound."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hwkit.testing import unavailable

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "plugins" / "example"

_TEST = """\
import functools
import numpy as np
import hwkit_abacus as plugin
from hwkit import Config, Fingerprint, Unavailable
from hwkit.registry import registry
from hwkit.testing import BackendSuite


def build(run, **attributes):
    def method(self, problem, config):
        found = functools.partial(run, rows=config["rows"])
        vars(found).update(attributes)
        return found
    plugin.RowGemm.build = method


{fault}
registry().register(plugin, "abacus")


class TestAbacus(BackendSuite):
    device = "abacus:0"
    ops = ("gemm",)
"""

# What is broken in the example, and a test of the suite that says so.
FAULTS = {
    "count of zero": (
        "plugin.AbacusBackend.count = lambda self: 0",
        "test_backend_counts_its_devices",
    ),
    "not available": (
        """
        def count(self):
            raise Unavailable("no abacus on the desk: buy one")
        plugin.AbacusBackend.count = count
        """,
        "test_device_supports_something",
    ),
    "wrong name": ("plugin.Abacus.backend = 'abakus'", "test_device_prints_as_its_name"),
    "arch of two words": ("plugin.Abacus.arch = 'wooden beads'", "test_arch_is_one_word"),
    "fingerprint of objects": (
        """
        def init(self, index):
            self.index = index
            self.fingerprint = Fingerprint({"backend": "abacus", "where": object()})
        plugin.Abacus.__init__ = init
        """,
        "test_fingerprint_is_plain_and_stable",
    ),
    "fingerprint that changes": (
        """
        import itertools
        number = itertools.count()
        def init(self, index):
            self.index = index
            self.fingerprint = Fingerprint({"backend": "abacus", "n": next(number)})
        plugin.Abacus.__init__ = init
        """,
        "test_fingerprint_is_plain_and_stable",
    ),
    "memory loses strides": (
        """
        plugin.Abacus.put = lambda self, a: np.frombuffer(a.tobytes("A"), a.dtype).reshape(a.shape)
        """,
        "test_put_and_get_round_trip",
    ),
    "clock that stands": (
        "plugin.Abacus.time = lambda self, run: 0.0",
        "test_time_is_positive_seconds_of_one_run",
    ),
    "endless ceiling": (
        "plugin.Abacus.ceilings = lambda self: {'byte/s': float('inf')}",
        "test_ceilings_are_positive",
    ),
    "import of a driver": (
        "BackendSuite.drivers = ('hwkit_abacus',)",
        "test_importing_the_plugin_imports_no_driver",
    ),
    "supports nothing": (
        "plugin.RowGemm.supports = lambda self, problem: 'never'",
        "test_device_supports_something",
    ),
    "supports without an answer": (
        "plugin.RowGemm.supports = lambda self, problem: problem.layout == 'nn' or None",
        "test_supports_answers_with_a_reason",
    ),
    "default outside the space": (
        "plugin.RowGemm.default = lambda self, problem: Config({'rows': 7})",
        "test_default_is_in_the_space",
    ),
    "wrong answer": (
        """
        def run(a, b, *, out, rows):
            np.matmul(a, b, out=out)
            out *= 1.001
        build(run)
        """,
        "test_default_is_right",
    ),
    "last row not written": (
        """
        def run(a, b, *, out, rows):
            out[:-1] = (a @ b)[:-1]
        build(run)
        """,
        "test_small_problems_are_right",
    ),
    "wrong for one config": (
        """
        def run(a, b, *, out, rows):
            np.matmul(a, b, out=out)
            out *= 1 + (rows == 128)
        build(run)
        """,
        "test_small_problems_are_right",
    ),
    "default that does not build": (
        """
        from hwkit import KernelFailure
        def fails(self, problem, config):
            raise KernelFailure("compile", "out of beads")
        plugin.RowGemm.build = fails
        """,
        "test_default_is_right",
    ),
    "writes behind the output": (
        """
        def run(a, b, *, out, rows):
            np.matmul(a, b, out=out)
            whole = out
            while whole.base is not None:
                whole = whole.base
            whole.reshape(-1)[-1] = 0
        build(run)
        """,
        "test_small_problems_are_right",
    ),
    "writes into an operand": (
        """
        def run(a, b, *, out, rows):
            np.matmul(a, b, out=out)
            a *= 2
        build(run)
        """,
        "test_small_problems_are_right",
    ),
    "loses NaN": (
        """
        def run(a, b, *, out, rows):
            np.matmul(np.nan_to_num(a, nan=0, posinf=0), b, out=out)
        build(run)
        """,
        "test_nan_and_inf_go_where_the_reference_sends_them",
    ),
    "shared scratch memory": (
        """
        import time
        held = []
        def run(a, b, *, out, rows):
            held[:] = [a @ b]
            time.sleep(0.002)
            out[...] = held[0]
        build(run)
        """,
        "test_two_runs_at_once_are_right",
    ),
    "prepack keeps the user's array": (
        """
        def run(a, b, *, out, rows=0):
            np.matmul(a, b, out=out)
        build(run, prepack=lambda held: lambda a, *, out: run(a, held[1], out=out))
        plugin.Abacus.put = lambda self, array: np.require(array, requirements="C")
        """,
        "test_prepacked_is_plain",
    ),
    "fast path takes anything": (
        """
        def run(a, b, *, out, rows):
            np.matmul(a, b, out=out)
        build(run, direct=lambda operands, out: np.zeros(1))
        """,
        "test_fast_path_declines_what_it_cannot_take",
    ),
    "answers only for C order": (
        """
        plugin.Abacus.put = lambda self, array: np.ascontiguousarray(array)
        plugin.Abacus.get = lambda self, buffer: np.zeros_like(buffer)
        """,
        "test_calls_through_a_plan_are_right",
    ),
}


def outcome(folder: Path, fault: str, name: str) -> tuple[int, str]:
    """Run a test of the suite on the example with a fault, as the example's author would."""
    (folder / "test_abacus.py").write_text(_TEST.format(fault=textwrap.dedent(fault)), "utf-8")
    path = os.pathsep.join([str(ROOT), str(EXAMPLE), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-k", name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_sound_backend_passes_without_skips(tmp_path: Path) -> None:
    """The example is sound."""
    status, output = outcome(tmp_path, "", "TestAbacus")
    assert status == 0, output
    assert "skipped" not in output


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_caught(tmp_path: Path, fault: str) -> None:
    """Each fault fails the test that is about it, which passes without the fault."""
    code, name = FAULTS[fault]
    status, output = outcome(tmp_path, code, name)
    assert status == 1, output
    assert f"::{name}" in output


def test_unavailable_says_why() -> None:
    """For marks that skip on machines without the hardware."""
    assert unavailable("cpu:0") == ""
