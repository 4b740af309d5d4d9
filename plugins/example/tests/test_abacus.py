"""The conformance suite is the test of a backend; what is special about it comes below."""

import numpy as np

import hwkit
from hwkit.testing import BackendSuite


class TestAbacus(BackendSuite):
    device = "abacus:0"
    ops = ("gemm",)


def test_answer_comes_from_the_abacus():
    """A plan for the device runs its kernel, with the default Config."""
    a, b = np.eye(40, dtype="f4"), np.arange(1600, dtype="f4").reshape(40, 40)
    plan = hwkit.plan("gemm", a, b, device="abacus")
    assert plan.kernel.name == "abacus_rows"
    np.testing.assert_array_equal(plan(a, b), b)
