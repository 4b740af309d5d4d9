"""Seconds of one call: op x device x problem, with the default config and with the tuned one."""

from __future__ import annotations

from .common import DEVICES, PROBLEMS, ready


class _Calls:
    """One call, planned, on buffers that are there."""

    param_names = ("device", "problem", "config")
    warmup_time = 0.1

    def setup(self, device: str, problem: str, config: str) -> None:
        self.call = ready(problem, device, config)

    def time_call(self, device: str, problem: str, config: str) -> None:
        self.call()


class Conv2d(_Calls):
    params = (DEVICES, PROBLEMS["conv2d"], ["default", "tuned"])


class Gemm(_Calls):
    params = (DEVICES, PROBLEMS["gemm"], ["default", "tuned"])


class Matmul(_Calls):
    params = (DEVICES, PROBLEMS["matmul"], ["default", "tuned"])


class MaxPool2d(_Calls):
    params = (DEVICES, PROBLEMS["max_pool2d"], ["default", "tuned"])


class AvgPool2d(_Calls):
    params = (DEVICES, PROBLEMS["avg_pool2d"], ["default", "tuned"])


class GlobalPool2d(_Calls):
    params = (
        DEVICES,
        PROBLEMS["global_avg_pool2d"] + PROBLEMS["global_max_pool2d"],
        ["default", "tuned"],
    )


class Elementwise(_Calls):
    params = (DEVICES, PROBLEMS["elementwise"], ["default", "tuned"])


class Transpose(_Calls):
    params = (DEVICES, PROBLEMS["transpose"], ["default", "tuned"])


class LocalResponseNorm(_Calls):
    params = (DEVICES, PROBLEMS["local_response_norm"], ["default", "tuned"])


class Planning:
    """The first call of a kind: checks, records, build."""

    params = ([p for texts in PROBLEMS.values() for p in texts[:1]],)
    param_names = ("problem",)

    def setup(self, problem: str) -> None:
        from hwkit.dispatch import plan_problem

        self.plan = plan_problem
        plan_problem(problem)

    def time_plan(self, problem: str) -> None:
        self.plan(problem)
