"""Devices that are not there: answers from a real OpenCL device, limits and times from a profile.

Three layers. The kernel runs, so its answer is right or wrong; what the device would refuse is
refused with its error code; and a model says how long it might take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import hwkit
from hwkit import Fingerprint

from .device import OpenclDevice
from .failures import Refused
from .models import Estimate, Work, estimate
from .profiles import profile
from .run import Launch, OpenclRun

__all__ = ["EmulatedDevice"]


class EmulatedDevice(OpenclDevice):
    """A device of a profile.

    Args:
        found: the ``pyopencl.Device`` that computes the answers.
        name: of the profile.
    """

    emulated = True

    def __init__(self, found: Any, name: str) -> None:
        self.profile = profile(name)
        self._estimates: list[Estimate] | None = None
        super().__init__(found, name)
        self.arch = f"emulated-{name}"
        self.limits = self.profile.limits(self.limits.alignment)
        self.fingerprint = self._emulated_facts()

    def _emulated_facts(self) -> Fingerprint:
        # What computes the answers does not matter to an estimate.
        numbers = {key: number.value for key, number in self.profile.numbers.items()}
        return Fingerprint(
            identity={
                "backend": self.backend, "arch": self.arch, "emulated": True,
                "model": self.profile.model, **numbers,
            },
            environment={"hwkit": hwkit.__version__},
        )  # fmt: skip

    def describe(self) -> str:
        """Return the profile, with the standing and source of every number."""
        return self.profile.describe()

    def estimate(self, work: Work) -> Estimate:
        """Return what the model expects of this work."""
        return estimate(self.profile, work)

    def refuse(self, launch: Launch) -> None:
        """Refuse a launch as the device would.

        Raises:
            Refused: with the code that the device would return.
        """
        limits = self.limits
        if launch.threads > limits.work_group:
            what = f"a group of {launch.threads} is larger than the {limits.work_group} of {self}"
            raise Refused("launch", -54, what)
        local = _local_memory(launch.kernel, self.found)
        if local > limits.local_memory:
            what = (
                f"{local} bytes of local memory are more than the {limits.local_memory} of {self}"
            )
            raise Refused("launch", -5, what)

    def refuse_image(self, texels: int) -> None:
        """Refuse an image over a buffer as the device would.

        Raises:
            Refused: with the code that the device would return.
        """
        if texels > self.limits.texels:
            what = f"{texels} texels are more than the {self.limits.texels} of an image of {self}"
            raise Refused("memory", -40, what)

    def launched(self, run: OpenclRun) -> None:
        """Note the estimate of a run while one is timed."""
        if self._estimates is not None and run.estimate is not None:
            self._estimates.append(run.estimate)

    def _new(self, shape: tuple[int, ...], dtype: Any, flags: int, host: Any) -> Any:
        self._check_size(shape, dtype)
        return super()._new(shape, dtype, flags, host)

    def _wrap(self, host: Any) -> Any:
        self._check_size(host.shape, host.dtype)
        return super()._wrap(host)

    def _check_size(self, shape: tuple[int, ...], dtype: Any) -> None:
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if size > self.limits.allocation:
            what = f"{size} bytes are more than the {self.limits.allocation} of a buffer of {self}"
            raise Refused("memory", -61, what)

    def time(self, run: Callable[[], Any]) -> float:
        """Return the sum of the estimates of what ``run()`` runs; nothing is measured."""
        with self.lock:
            self._estimates = []
            try:
                run()
                seconds = sum(each.seconds for each in self._estimates)
            finally:
                self._estimates = None
        return seconds or float(self.profile["launch_seconds"])

    def ceilings(self) -> Mapping[str, float]:
        """Return nothing: no ceiling was measured."""
        return {}


def _local_memory(kernel: Any, found: Any) -> int:
    import pyopencl as cl

    return int(kernel.get_work_group_info(cl.kernel_work_group_info.LOCAL_MEM_SIZE, found))
