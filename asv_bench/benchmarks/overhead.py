"""What a call costs beside its arithmetic: problems so small that little else is left.

Budgets: 0.3 microseconds in all for a plan with ``out``, 1.5 for ``hwkit.ops.conv2d``, and for
``hwkit.ops.matmul`` with ``out`` what numpy takes. A method that reads attributes adds its own
time to each, so the least of them, which does nothing else, stands beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import hwkit

from .common import open_device


class MadeOnce:
    """Attributes made when the first of them is read, in the warm-up.

    Not by ``setup``: from asv_runner 0.3 on it runs between any two timed calls, which are then
    timed one by one and cold, and 10,000 of them do not end.
    """

    made: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name not in self.made:
            raise AttributeError(name)
        self.make()
        return self.__dict__[name]

    def make(self) -> None:
        """Set the attributes in ``made``."""
        raise NotImplementedError


class Calls(MadeOnce):
    """conv2d of one 8x8 image with a 1x1 window, and the product of two 8x8 matrices."""

    number = 10_000  # as in a loop: a single call is dominated by what ran before it
    repeat = 9
    made = ("x", "w", "a", "conv", "packed", "gemm", "y", "c")

    def make(self) -> None:
        open_device("cpu:0")
        self.x = np.ones((1, 1, 8, 8), np.float32)
        self.w = np.ones((1, 1, 1, 1), np.float32)
        self.a = np.ones((8, 8), np.float32)
        self.conv = hwkit.plan("conv2d", self.x, self.w)
        self.packed = self.conv.prepack(self.w)
        self.gemm = hwkit.plan("gemm", self.a, self.a)
        self.y = self.conv(self.x, self.w)
        self.c = self.gemm(self.a, self.a)

    def time_method_alone(self) -> None:
        self.conv, self.x, self.w, self.y  # noqa: B018 - what the others read before the call

    def time_plan_conv2d_out(self) -> None:
        self.conv(self.x, self.w, out=self.y)

    def time_plan_conv2d_prepacked_out(self) -> None:
        self.packed(self.x, out=self.y)

    def time_plan_conv2d_allocates(self) -> None:
        self.conv(self.x, self.w)

    def time_plan_gemm_out(self) -> None:
        self.gemm(self.a, self.a, out=self.c)

    def time_ops_conv2d(self) -> None:
        hwkit.ops.conv2d(self.x, self.w)

    def time_ops_matmul(self) -> None:
        hwkit.ops.matmul(self.a, self.a)

    def time_ops_matmul_out(self) -> None:
        hwkit.ops.matmul(self.a, self.a, out=self.c)

    def time_numpy_matmul_out(self) -> None:
        np.matmul(self.a, self.a, out=self.c)

    def time_plan_conv2d_strided(self) -> None:
        self.conv(self.x[:, :, ::-1], self.w)


class OneMultiply(MadeOnce):
    """The same calls with one multiplication in them: what is left is the overhead."""

    number = 10_000  # as in a loop: a single call is dominated by what ran before it
    repeat = 9
    made = ("x", "conv", "y")

    def make(self) -> None:
        open_device("cpu:0")
        self.x = np.ones((1, 1, 1, 1), np.float32)
        self.conv = hwkit.plan("conv2d", self.x, self.x)
        self.y = self.conv(self.x, self.x)

    def time_plan_conv2d_out(self) -> None:
        self.conv(self.x, self.x, out=self.y)

    def time_ops_conv2d(self) -> None:
        hwkit.ops.conv2d(self.x, self.x)

    def time_ops_conv2d_out(self) -> None:
        hwkit.ops.conv2d(self.x, self.x, out=self.y)
