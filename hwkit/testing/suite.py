"""BackendSuite: the conformance tests of a backend. Subclass it, name the device, run pytest::

    from hwkit.testing import BackendSuite

    class TestAbacus(BackendSuite):
        device = "abacus:0"

Nothing in here is skipped: a device that cannot be opened, or that supports nothing, fails.
"""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import threading
from typing import Any, ClassVar

import numpy as np

from ..backend import Device, Kernel
from ..dispatch import parse_problem, plan_problem
from ..errors import KernelFailure, Unavailable
from ..op import Op, Problem, relative_error
from ..registry import registry
from .cases import (
    allowed_error,
    empty_problems,
    execute,
    float64_answer,
    is_jsonable_fact,
    round_trip_arrays,
    small_problems,
)

__all__ = ["BackendSuite", "unavailable"]

# Packages that reach hardware or take seconds to import: not before a device is asked for.
_DRIVERS = ("pycuda", "pyopencl", "triton", "torch", "cupy", "numba", "jax", "tensorflow")

# An error bound above this is no promise.
_WORST_BOUND = 0.1

_IMPORT = """\
import importlib, sys
sys.path[:] = {path!r}
importlib.import_module({module!r})
from hwkit.registry import registry
registry().backends()
found = [name for name in {drivers!r} if name in sys.modules]
assert not found, f"importing the plugin imports {{found}}"
"""


def unavailable(device: str) -> str:
    """Return why a device cannot be opened here, or ``""``.

    For machines without the hardware: ``pytest.mark.skipif(unavailable("cuda:0"), reason=...)``.
    """
    try:
        registry().device(device)
    except Unavailable as reason:
        return str(reason)
    return ""


class BackendSuite:
    """Conformance tests of one device and of its kernels.

    Attributes:
        device: its name, as ``"abacus:0"``.
        ops: names of the Ops that it must support; whatever its kernels name if empty.
        drivers: modules that importing the plugin must not import.
        configs: random Configs to try for each small problem.
    """

    device: ClassVar[str]
    ops: ClassVar[tuple[str, ...]] = ()
    drivers: ClassVar[tuple[str, ...]] = _DRIVERS
    configs: ClassVar[int] = 2

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Make one test of each kernel and problem; pytest calls this."""
        wanted = [n for n in ("op_name", "kernel_name", "sample", "array") if n in _names(metafunc)]
        if wanted == ["array"]:
            metafunc.parametrize("array", round_trip_arrays())
        elif wanted == ["kernel_name", "sample"]:
            cases = [
                (kernel.name, str(problem))
                for op in self._ops()
                for problem in map(parse_problem, op.samples)
                for kernel in self._kernels(op)
                if kernel.supports(problem) is True
            ]
            ids = [f"{kernel}: {problem}" for kernel, problem in cases]
            metafunc.parametrize(("kernel_name", "sample"), cases, ids=ids)
        elif wanted == ["op_name", "kernel_name"]:
            cases = [(op.name, kernel.name) for op in self._ops() for kernel in self._kernels(op)]
            metafunc.parametrize(("op_name", "kernel_name"), cases)

    def _ops(self) -> list[Op]:
        if unavailable(self.device):
            return []  # the tests without parameters fail, with the reason
        known = registry().ops()
        named = {kernel.op for kernel in registry().kernels(self._device())}
        return [op for name, op in known.items() if name in named | {*self.ops} or "*" in named]

    def _device(self) -> Device:
        return registry().device(self.device)

    def _kernels(self, op: Op | str) -> tuple[Kernel, ...]:
        return registry().kernels(self._device(), str(op))

    def _kernel(self, op: str, name: str) -> Kernel:
        return next(kernel for kernel in self._kernels(op) if kernel.name == name)

    def _small(self, op: str, kernel: Kernel) -> list[Problem]:
        return [p for p in small_problems(registry().op(op)) if kernel.supports(p) is True]

    # -- the backend ------------------------------------------------------------------------------

    def test_backend_is_known_by_its_name(self) -> None:
        """The name is lower-case, and the registry has the backend under it."""
        name = self.device.partition(":")[0]
        backend = registry().backends()[name]
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert backend.name == name

    def test_backend_counts_its_devices(self) -> None:
        """The count is a whole number above zero, and the same when asked again."""
        backend = registry().backends()[self.device.partition(":")[0]]
        count = backend.count()
        assert type(count) is int
        assert count >= 1
        assert backend.count() == count

    def test_importing_the_plugin_imports_no_driver(self) -> None:
        """Drivers are imported by count, open and build, never by import."""
        backend = registry().backends()[self.device.partition(":")[0]]
        code = _IMPORT.format(
            path=sys.path, module=type(backend).__module__, drivers=tuple(self.drivers)
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    # -- the device -------------------------------------------------------------------------------

    def test_device_prints_as_its_name(self) -> None:
        """``str`` gives what a user would type."""
        device = self._device()
        assert str(device) == f"{device.backend}:{device.index}"
        assert str(device) == self.device if ":" in self.device else str(device).startswith("")

    def test_fingerprint_is_plain_and_stable(self) -> None:
        """The fingerprint survives JSON, names the backend, and is the same when opened again."""
        device = self._device()
        backend = registry().backends()[device.backend]
        facts = device.fingerprint
        assert is_jsonable_fact(facts.identity), facts.identity
        assert is_jsonable_fact(facts.environment), facts.environment
        assert facts.identity.get("backend") == device.backend
        assert json.loads(json.dumps(dict(facts.identity))) == facts.identity
        assert not backend.open(device.index).fingerprint.differences(facts)

    def test_arch_is_one_word(self) -> None:
        """Records are shared by arch, and it becomes part of a file name."""
        assert re.fullmatch(r"[A-Za-z0-9_.+-]+", self._device().arch)

    def test_put_and_get_round_trip(self, array: str) -> None:
        """What goes in comes out: values, shape and dtype, from any strides."""
        given = round_trip_arrays()[array]
        device = self._device()
        back = device.get(device.put(given))
        assert back.shape == given.shape
        assert back.dtype == given.dtype
        np.testing.assert_array_equal(back, given)

    def test_empty_has_shape_and_dtype(self) -> None:
        """An uninitialised buffer has the shape and dtype that were asked for."""
        device = self._device()
        for shape in ((), (0,), (3, 5)):
            back = device.get(device.empty(shape, np.dtype(np.float32)))
            assert (back.shape, back.dtype) == (shape, np.float32)

    def test_time_is_positive_seconds_of_one_run(self) -> None:
        """The clock calls the run, and gives finite seconds above zero."""
        calls: list[int] = []
        seconds = self._device().time(lambda: calls.append(sum(range(1000))))
        assert calls
        assert math.isfinite(seconds)
        assert seconds > 0

    def test_ceilings_are_positive(self) -> None:
        """Measured ceilings are finite rates above zero; none at all is allowed."""
        assert all(0 < rate < math.inf for rate in self._device().ceilings().values())

    # -- the kernels ------------------------------------------------------------------------------

    def test_device_supports_something(self) -> None:
        """Some kernel takes a sample problem of every Op in ``ops``, and of at least one Op."""
        wanted = self.ops or tuple(op.name for op in self._ops())
        taken = {
            name
            for name in wanted
            for text in registry().op(name).samples
            for kernel in self._kernels(name)
            if kernel.supports(parse_problem(text)) is True
        }
        assert taken, f"{self._device()} supports no sample problem of {wanted or 'any Op'}"
        assert not {*self.ops} - taken

    def test_supports_answers_with_a_reason(self, op_name: str, kernel_name: str) -> None:
        """``supports`` returns True, False, or a reason of at least one word; versions count."""
        kernel = self._kernel(op_name, kernel_name)
        op = registry().op(op_name)
        for problem in [*map(parse_problem, op.samples), *small_problems(op)]:
            answer = kernel.supports(problem)
            assert isinstance(answer, (bool, str)), f"supports({problem}) returned {answer!r}"
            assert answer != "", f"supports({problem}) gives an empty reason"
        assert type(kernel.version) is int
        assert kernel.version >= 1

    def test_default_is_in_the_space(self, kernel_name: str, sample: str) -> None:
        """The default Config is legal, passes the static check, and its promises are plain."""
        problem = parse_problem(sample)
        kernel = self._kernel(problem.op.name, kernel_name)
        config = kernel.default(problem)
        assert kernel.space(problem).why_not(config) is None
        assert kernel.default(problem) == config
        assert kernel.static_check(problem, config) is None
        assert kernel.workspace(problem, config) >= 0
        assert 0 <= kernel.error_bound(problem, config) <= _WORST_BOUND

    def test_default_is_right(self, kernel_name: str, sample: str) -> None:
        """The default Config is within the budget, fills its output and writes nowhere else."""
        problem = parse_problem(sample)
        kernel = self._kernel(problem.op.name, kernel_name)
        self._check(kernel, problem, kernel.default(problem))

    def test_small_problems_are_right(self, op_name: str, kernel_name: str) -> None:
        """Defaults and sampled Configs are right for small sizes; zero sizes too, if supported."""
        kernel = self._kernel(op_name, kernel_name)
        rng = random.Random(0)
        for problem in self._small(op_name, kernel):
            space = kernel.space(problem)
            self._check(kernel, problem, kernel.default(problem), fill=-77.0)
            for _ in range(self.configs):
                config = space.sample(rng)
                if kernel.static_check(problem, config) is None:
                    self._check(kernel, problem, config)
        for problem in empty_problems(registry().op(op_name)):
            if kernel.supports(problem) is True:
                self._check(kernel, problem, kernel.default(problem))

    def _check(self, kernel: Kernel, problem: Problem, config: Any, fill: float = np.nan) -> None:
        default = config == kernel.default(problem)
        try:
            run = kernel.build(problem, config)
        except KernelFailure:
            assert not default, f"the default Config of {kernel} does not build for '{problem}'"
            return
        answer = execute(self._device(), run, problem, problem.random_operands(), fill=fill)
        error = relative_error(answer, float64_answer(problem))
        allowed = allowed_error(kernel, problem, config)
        assert error <= allowed, f"'{problem}' with '{config}': error {error:.1e} > {allowed:.1e}"

    def test_nan_and_inf_go_where_the_reference_sends_them(
        self, op_name: str, kernel_name: str
    ) -> None:
        """One NaN and one Inf in the first operand reach the same places as in the reference."""
        kernel = self._kernel(op_name, kernel_name)
        for problem in self._small(op_name, kernel):
            config = kernel.default(problem)
            operands = problem.random_operands()
            if not kernel.strict(problem, config) or operands[0].dtype.kind in "iu":
                continue
            flat = operands[0].reshape(-1)
            flat[0], flat[-1] = np.inf, np.nan
            wide = [a.astype(np.float64) for a in operands]
            answer = execute(self._device(), kernel.build(problem, config), problem, operands)
            error = relative_error(answer, problem.reference(*wide))
            assert error <= allowed_error(kernel, problem, config), f"'{problem}'"

    def test_two_runs_at_once_are_right(self, op_name: str, kernel_name: str) -> None:
        """One run called from two threads at once gives both their own answers."""
        kernel = self._kernel(op_name, kernel_name)
        for problem in self._small(op_name, kernel)[:2]:
            config = kernel.default(problem)
            run = kernel.build(problem, config)
            errors: list[float] = []

            def work(seed: int, run: Any = run, problem: Problem = problem) -> None:
                for _ in range(10):
                    answer = execute(self._device(), run, problem, problem.random_operands(seed))
                    errors.append(relative_error(answer, float64_answer(problem, seed)))

            threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(errors) == 20, f"a run of '{problem}' raised in a thread"
            assert max(errors) <= allowed_error(kernel, problem, config), f"'{problem}'"

    def test_prepacked_is_plain(self, op_name: str, kernel_name: str) -> None:
        """Constants packed beforehand, and then overwritten by the user, change no answer."""
        kernel = self._kernel(op_name, kernel_name)
        for problem in self._small(op_name, kernel):
            config = kernel.default(problem)
            run = kernel.build(problem, config)
            if not hasattr(run, "prepack"):
                continue
            operands = problem.random_operands()
            names = [operand.name for operand in problem.operands]
            held = [i for i, name in enumerate(names) if name in problem.op.constants]
            rest = [i for i in range(len(names)) if i not in held]
            constants = {i: operands[i].copy() for i in held}
            packed = run.prepack({i: self._device().put(a) for i, a in constants.items()})
            for array in constants.values():
                array[...] = 99
            given = [operands[i] for i in rest]
            answer = execute(self._device(), packed, problem, given, positions=rest)
            error = relative_error(answer, float64_answer(problem))
            assert error <= allowed_error(kernel, problem, config), f"'{problem}'"

    def test_fast_path_declines_what_it_cannot_take(self, op_name: str, kernel_name: str) -> None:
        """``direct`` answers right or NotImplemented; it never raises and never takes odd arrays."""
        kernel = self._kernel(op_name, kernel_name)
        for problem in self._small(op_name, kernel)[:4]:
            config = kernel.default(problem)
            direct = getattr(kernel.build(problem, config), "direct", None)
            if direct is None:
                continue
            operands = problem.random_operands()
            for odd in ((), operands[1:], (*operands, operands[0]), (operands[0][None],)):
                assert direct(odd, None) is NotImplemented, f"'{problem}'"
            answer = direct(operands, None)
            if answer is not NotImplemented:
                error = relative_error(answer, float64_answer(problem))
                assert error <= allowed_error(kernel, problem, config), f"'{problem}'"

    def test_calls_through_a_plan_are_right(self) -> None:
        """A plan takes any strides and an ``out`` of any strides, on every Op that has a kernel."""
        for op in self._ops():
            for problem in small_problems(op)[:6]:
                if not any(k.supports(problem) is True for k in self._kernels(op)):
                    continue
                made = plan_problem(problem, device=self.device)
                operands = [np.asfortranarray(a) for a in problem.random_operands()]
                shape = problem.output.shape
                out = np.zeros((*shape, 2), problem.output.dtype)[..., 0]
                assert made(*operands, out=out) is out
                for answer in (out, made(*operands)):
                    error = relative_error(answer, float64_answer(problem))
                    allowed = max(made.kernel.error_bound(problem, made.config), 0)
                    allowed = max(allowed, problem.error_budget())
                    assert error <= allowed, f"'{problem}'"


def _names(metafunc: Any) -> frozenset[str]:
    return frozenset(metafunc.fixturenames)
