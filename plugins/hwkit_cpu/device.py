"""The backend ``cpu`` and its one device: memory is numpy's, the facts come from the C side."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

import hwkit
from hwkit import (
    ArgumentError,
    Backend,
    Config,
    Device,
    Fingerprint,
    HwkitWarning,
    Kernel,
    Problem,
    Unavailable,
)

__all__ = ["CompiledKernel", "CpuBackend", "CpuDevice", "compiled"]

ISAS = ("scalar", "avx2", "avx512", "amx", "neon")
_MACHINES = {"x86_64": "x86-64", "amd64": "x86-64", "arm64": "aarch64"}


def compiled() -> ModuleType:
    """Return the compiled module.

    Raises:
        Unavailable: it was not built.
        ArgumentError: ``HWKIT_MAX_ISA`` is not the name of an instruction set.
    """
    wanted = os.environ.get("HWKIT_MAX_ISA", "").strip().lower()
    if wanted and wanted not in ISAS:
        raise ArgumentError(
            f"HWKIT_MAX_ISA is {wanted!r}, but must be one of {', '.join(ISAS)}: "
            "unset HWKIT_MAX_ISA"
        )
    try:
        return import_module("._kernels", __package__)
    except ImportError as error:
        raise Unavailable(
            f"the compiled module hwkit_cpu._kernels cannot be loaded ({error}): "
            "install a C compiler and type 'pip install .' in the checkout of hwkit"
        ) from error


class CompiledKernel(Kernel):
    """A Kernel that builds a compiled run, which knows what scratch memory it takes."""

    def workspace(self, problem: Problem, config: Config) -> int:
        """Return the bytes that all threads of a run take, packing included."""
        found: int = self.build(problem, config).workspace  # type: ignore[attr-defined]
        return found


class CpuBackend(Backend):
    """The host."""

    name = "cpu"

    def count(self) -> int:
        """Return 1: all CPUs that this process may use are one device."""
        compiled()
        return 1

    def open(self, index: int) -> CpuDevice:
        """Return the host."""
        return CpuDevice(compiled(), index)


class CpuDevice(Device):
    """The host. A buffer is a C-contiguous numpy array.

    Args:
        module: the compiled module.
        index: always 0.
    """

    backend = "cpu"

    def __init__(self, module: ModuleType, index: int = 0) -> None:
        self.index = index
        self._module = module
        facts: dict[str, Any] = module.cpu_info()
        _say_fewer(facts["threads"])
        machine = platform.machine().lower()
        self.arch = f"{_MACHINES.get(machine, machine)}-{facts['isa']}"
        self.fingerprint = Fingerprint(
            identity={
                "backend": self.backend,
                "arch": self.arch,
                "isa": facts["features"],
                "cores": facts["cores"],
                "threads": facts["threads"],
                "l1d": facts["l1d"],
                "l2": facts["l2"],
                "l3": facts["l3"],
            },
            environment={"compiler": facts["compiler"], "hwkit": hwkit.__version__},
        )
        self.name: str = facts["model"]
        # Answers are real, times are not those of any hardware.
        self.emulated = facts["isa"].endswith("-emulated")

    def put(self, array: Any) -> np.ndarray[Any, Any]:
        """Return ``array`` as a contiguous, aligned numpy array in native byte order."""
        if not isinstance(array, np.ndarray):
            array = np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
        flags, dtype = array.flags, array.dtype
        if flags.c_contiguous and flags.aligned and dtype.isnative:
            buffer: np.ndarray[Any, Any] = array
            return buffer
        return np.require(array, dtype.newbyteorder("="), ("C", "A"))

    def get(self, buffer: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the buffer: it is a numpy array already."""
        return buffer

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Return an uninitialised array; from 4 KiB on it begins at a boundary of a cache line."""
        made: np.ndarray[Any, Any] = self._module.empty(shape, dtype)
        return made

    def ceilings(self) -> Mapping[str, float]:
        """Return multiply-add and memory rates, measured on first use with all CPUs in use."""
        return self._ceilings

    @cached_property
    def _ceilings(self) -> Mapping[str, float]:
        found: dict[str, float] = self._module.measure_ceilings()
        return found


def _say_fewer(threads: int) -> None:
    """Warn if ``HWKIT_THREADS`` asks for more threads than the pool takes."""
    asked = os.environ.get("HWKIT_THREADS", "").strip()
    if asked.isdecimal() and int(asked) > threads:
        warnings.warn(
            f"HWKIT_THREADS is {asked}, but the CPU backend takes {threads} threads at most: it "
            f"runs with {threads}, set HWKIT_THREADS to no more",
            HwkitWarning,
            stacklevel=2,
        )
