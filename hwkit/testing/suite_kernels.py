"""The part of the conformance suite that asks what every Kernel of a Device promises."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np

from ..backend import Kernel, Run
from ..dispatch import parse_problem, plan_problem
from ..errors import KernelFailure
from ..op import Problem, relative_error
from ..registry import registry
from .cases import allowed_error, empty_problems, execute, float64_answer, small_problems
from .suite_base import Suite

__all__ = ["KernelTests"]

# An error bound above this is no promise.
_WORST_BOUND = 0.1


class KernelTests(Suite):
    """Legal defaults, right answers, nothing written elsewhere, and every way to run."""

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
            # What a kernel in numpy says of such operands differs from processor to processor.
            with np.errstate(all="ignore"):
                answer = execute(self._device(), kernel.build(problem, config), problem, operands)
            error = relative_error(answer, problem.reference(*wide))
            assert error <= allowed_error(kernel, problem, config), f"'{problem}'"

    def test_two_runs_at_once_are_right(self, op_name: str, kernel_name: str) -> None:
        """One run called from two threads at once gives both their own answers."""
        kernel = self._kernel(op_name, kernel_name)
        for problem in self._small(op_name, kernel)[:2]:
            config = kernel.default(problem)
            run = kernel.build(problem, config)
            errors = self._two_threads(run, problem)
            assert len(errors) == 20, f"a run of '{problem}' raised in a thread"
            assert max(errors) <= allowed_error(kernel, problem, config), f"'{problem}'"

    def _two_threads(self, run: Run, problem: Problem) -> list[float]:
        errors: list[float] = []

        def work(seed: int) -> None:
            for _ in range(10):
                given = problem.random_operands(seed)
                answer = execute(self._device(), run, problem, given, poison=False)
                errors.append(relative_error(answer, float64_answer(problem, seed)))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors

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
            answer = execute(self._device(), packed, problem, given)
            error = relative_error(answer, float64_answer(problem))
            assert error <= allowed_error(kernel, problem, config), f"'{problem}'"

    def test_fast_path_declines_what_it_cannot_take(self, op_name: str, kernel_name: str) -> None:
        """``direct`` answers right, or NotImplemented; for odd arguments always the latter."""
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
                operands = [np.array(a, order="F") for a in problem.random_operands()]
                shape = problem.output.shape
                out = np.zeros((*shape, 2), problem.output.dtype)[..., 0]
                assert made(*operands, out=out) is out
                allowed = allowed_error(made.kernel, problem, made.config)
                for answer in (out, made(*operands)):
                    error = relative_error(answer, float64_answer(problem))
                    assert error <= allowed, f"'{problem}'"
