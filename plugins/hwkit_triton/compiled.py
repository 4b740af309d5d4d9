"""Compiling without a device, and what the machine code tells."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hwkit import KernelFailure, Unavailable

from .launch import Launch, signature

__all__ = ["Facts", "compile_launch", "facts", "missing", "threads_of", "version"]

_LEAST = (3, 6)


@lru_cache(maxsize=1)
def missing() -> str | None:
    """Return why Triton cannot be used, with what to type, or ``None``."""
    from importlib.util import find_spec

    spec = find_spec("triton")
    if spec is None or spec.origin is None:  # a folder of that name is no package
        return "Triton is not installed: pip install 'hwkit[triton]'"
    found = _version_of(spec)
    if found and found < _LEAST:
        wanted = ".".join(map(str, _LEAST))
        return (
            f"Triton {found[0]}.{found[1]} is installed, and {wanted} or newer is needed: "
            f"pip install -U 'triton>={wanted}'"
        )
    return None


@lru_cache(maxsize=1)
def version() -> tuple[int, int] | None:
    """Return the version of Triton, as ``(3, 6)``; ``None`` if it is not told."""
    from importlib.util import find_spec

    return _version_of(find_spec("triton"))


def _version_of(spec: Any) -> tuple[int, int] | None:
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    # Read and not imported, which takes a second, and by the file, as its wheels have many names.
    text = Path(spec.origin).read_text("utf-8")
    found = re.search(r"^__version__ = ['\"](\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def compile_launch(launch: Launch, capability: int, aligned: bool = True) -> Any:
    """Return Triton's compiled kernel; of its cache if it has been compiled before.

    Args:
        launch: what to compile.
        capability: of the target, as 90.
        aligned: whether arrays begin at multiples of 16 bytes.

    Raises:
        Unavailable: Triton is not installed.
        KernelFailure: it does not compile.
    """
    reason = missing()
    if reason is not None:
        raise Unavailable(reason)
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    given = signature(launch, aligned)
    source = ASTSource(launch.text, given.types, given.constants, given.attributes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = GPUTarget("cuda", capability, 32)
            return triton.compile(source, target=target, options=launch.options)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        text = lines[-1].strip() if lines else type(error).__name__
        raise KernelFailure("compile", f"Triton cannot compile {launch.function}: {text}") from None


@dataclass(frozen=True)
class Facts:
    """What a compiled kernel needs, read from its machine code.

    Attributes:
        shared: bytes of shared memory of a program.
        registers: of a thread.
        stack: bytes of a thread that do not fit the registers.
        threads: of a program; more than the warps asked for where warps are specialised.
        instructions: how often each of the instructions of :data:`COUNTED` occurs.
    """

    shared: int
    registers: int
    stack: int
    threads: int
    instructions: dict[str, int]

    @property
    def tensor_cores(self) -> str:
        """The instructions that multiply matrices: ``HGMMA``, ``UTCHMMA``, ``HMMA`` .. or none."""
        return " ".join(name for name in MATRIX if self.instructions.get(name))


MATRIX = ("HGMMA", "IGMMA", "QGMMA", "UTCHMMA", "UTCIMMA", "HMMA", "IMMA")
COUNTED = (*MATRIX, "UTMALDG", "LDGSTS", "LDL", "STL", "FFMA", "USETMAXREG")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_OPCODE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", re.MULTILINE)


def facts(kernel: Any) -> Facts:
    """Return the facts of what :func:`compile_launch` returned, by Triton's own cuobjdump."""
    usage = _USAGE.search(_dump(kernel.asm["cubin"], ("-res-usage",)))
    code = _dump(kernel.asm["cubin"], ("-sass",))
    counts: dict[str, int] = {}
    for name in _OPCODE.findall(code):
        if name in COUNTED:
            counts[name] = counts.get(name, 0) + 1
    return Facts(
        int(kernel.metadata.shared),
        int(usage[1]) if usage else 0,
        int(usage[2]) if usage else 0,
        threads_of(kernel),
        counts,
    )


def threads_of(kernel: Any) -> int:
    """Return the threads of a program: specialised warps are added to those that were asked for."""
    size = re.search(r"\.reqntid (\d+)", kernel.asm["ptx"])
    return int(size[1]) if size else 32 * int(kernel.metadata.num_warps)


def _dump(image: bytes, options: Sequence[str]) -> str:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    handle, name = tempfile.mkstemp(suffix=".cubin")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(image)
        found = subprocess.run(
            [str(tool), *options, name], capture_output=True, text=True, check=False
        )
    finally:
        Path(name).unlink(missing_ok=True)
    if found.returncode:
        raise KernelFailure("compile", f"{tool} cannot read what Triton compiled: {found.stderr}")
    return found.stdout
