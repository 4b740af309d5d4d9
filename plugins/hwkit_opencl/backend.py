"""The backend ``opencl``: which platforms and devices there are."""

from __future__ import annotations

import os
import re
from functools import cached_property
from typing import Any

from hwkit import Backend, Device, Unavailable

from .failures import INSTALL

__all__ = ["OpenclBackend", "PLATFORM_VARIABLE"]

PLATFORM_VARIABLE = "HWKIT_OPENCL_PLATFORM"
"""Variable with parts of the names of the platforms to use, with commas; all if unset."""

# Checkers of programs and emulators pose as platforms; they are used only if named.
_ONLY_IF_NAMED = ("oclgrind", "fpga emulation")


class OpenclBackend(Backend):
    """Every device of every OpenCL platform: GPUs first, CPUs last."""

    name = "opencl"

    def count(self) -> int:
        """Return the number of devices.

        Raises:
            Unavailable: pyopencl, a platform or a device is missing.
        """
        return len(self._devices)

    def emulated(self) -> tuple[str, ...]:
        """Return the names of the profiles."""
        from .profiles import NAMES

        return NAMES

    def open(self, index: int | str) -> Device:
        """Return device number ``index``, or the emulated device of that name."""
        import pyopencl as cl

        from .device import CpuClockDevice, OpenclDevice

        if isinstance(index, str):
            from .emulated import EmulatedDevice
            from .profiles import profile

            # A CPU is what is there everywhere, and it computes like any other; channels only
            # the emulator of FPGAs has, if that is installed.
            cpus = [d for d in self._devices if d.type & cl.device_type.CPU]
            best = _with_channels() if profile(index).family == "fpga" else []
            return EmulatedDevice((best or cpus or self._devices)[0], index)
        found = self._devices[index]
        kind = CpuClockDevice if found.type & cl.device_type.CPU else OpenclDevice
        return kind(found, index)

    @cached_property
    def _devices(self) -> list[Any]:
        try:
            import pyopencl as cl
        except ImportError as error:
            raise Unavailable(f"pyopencl cannot be imported ({error}): {INSTALL}") from error
        try:
            platforms = _chosen(cl.get_platforms())
        except cl.Error as error:
            raise Unavailable(f"there is no OpenCL platform ({error}): {INSTALL}") from error
        found = [device for platform in platforms for device in _devices_of(platform)]
        if not found:
            raise Unavailable(f"no OpenCL platform has a device: {INSTALL}")
        first = (cl.device_type.GPU, cl.device_type.ACCELERATOR)
        return sorted(found, key=lambda device: [not device.type & kind for kind in first])


def _chosen(platforms: list[Any]) -> list[Any]:
    """Return the platforms to use, by name; of those with one name the newest."""
    wanted = os.environ.get(PLATFORM_VARIABLE, "").lower()
    words = [word.strip() for word in wanted.split(",") if word.strip()]
    newest: dict[str, Any] = {}
    for platform in sorted(platforms, key=lambda p: (p.name, _numbers(p.version))):
        name = f"{platform.name} {platform.version}".lower()
        if words and not any(word in name for word in words):
            continue
        if not words and any(word in name for word in _ONLY_IF_NAMED):
            continue
        newest[platform.name] = platform
    if words and not newest:
        names = ", ".join(p.name for p in platforms) or "none"
        raise Unavailable(
            f"{PLATFORM_VARIABLE}={wanted} fits no OpenCL platform, there are {names}: "
            f"unset {PLATFORM_VARIABLE}"
        )
    return list(newest.values())


def _with_channels() -> list[Any]:
    """Return the devices of emulators of FPGAs, used or not."""
    import pyopencl as cl

    from .fpga import CHANNELS

    found = [d for platform in cl.get_platforms() for d in _devices_of(platform)]
    return [d for d in found if CHANNELS in d.extensions.split()]


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)][:4]


def _devices_of(platform: Any) -> list[Any]:
    import pyopencl as cl

    try:
        return [device for device in platform.get_devices() if device.available]
    except cl.Error:  # a platform whose hardware is not there
        return []
