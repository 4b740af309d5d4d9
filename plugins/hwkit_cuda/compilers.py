"""From CUDA C++ to a cubin: NVRTC where it is installed, else nvcc. Neither needs a GPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from hwkit import KernelFailure, Unavailable

__all__ = ["Compiler", "Nvcc", "Nvrtc", "Usage", "compiler", "usage_of"]

INSTALL = "pip install nvidia-cuda-nvrtc"


@dataclass(frozen=True)
class Usage:
    """What the assembler says that a kernel takes.

    Attributes:
        registers: of a thread.
        shared: bytes of static shared memory of a block.
        spills: bytes that a thread stores and loads because registers are short.
        stack: bytes of a thread's stack.
    """

    registers: int
    shared: int
    spills: int
    stack: int


def usage_of(log: str) -> dict[str, Usage]:
    """Return what ``ptxas -v`` said of each kernel."""
    found = {}
    # Each part is about one entry function, and begins with its name.
    for part in re.split(r"Compiling entry function '", log)[1:]:
        name = part.partition("'")[0]
        stack, *spills = _numbers(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        )
        (registers,) = _numbers(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        found[name] = Usage(registers, int(shared[1]) if shared else 0, sum(spills), stack)
    return found


def _numbers(pattern: str, text: str) -> list[int]:
    match = re.search(pattern, text)
    if match is None:
        raise KernelFailure("compile", f"the assembler's report has no {pattern!r}")
    return [int(number) for number in match.groups()]


class Compiler:
    """One way to make a cubin.

    Attributes:
        name: with the version, ``"nvrtc 13.0"``.
    """

    name: str

    def compile(self, text: str, arch: str, defines: Mapping[str, int]) -> tuple[bytes, str]:
        """Return the cubin, and what the assembler said.

        Raises:
            KernelFailure: class ``compile``.
        """
        raise NotImplementedError


class Nvrtc(Compiler):
    """The compiler as a library.

    Args:
        library: path of ``libnvrtc``.
    """

    def __init__(self, library: Path | str) -> None:
        file = Path(library)
        # NVRTC opens it by its bare name, which is found if it is loaded already.
        for builtins in sorted(file.parent.glob("libnvrtc-builtins.so*")):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self._library = ctypes.CDLL(str(library))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "")
        self.name = f"nvrtc {major.value}.{minor.value}"

    def _check(self, code: int, log: str) -> None:
        if code:
            self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
            said = self._library.nvrtcGetErrorString(code).decode()
            raise KernelFailure("compile", f"{said}: {_first_errors(log)}")

    def compile(self, text: str, arch: str, defines: Mapping[str, int]) -> tuple[bytes, str]:
        """Return the cubin, and what the assembler said."""
        options = [f"--gpu-architecture={arch}", "--ptxas-options=-v", "--disable-warnings"]
        options += [f"-D{macro}={value}" for macro, value in sorted(defines.items())]
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        program = ctypes.c_void_p()
        create = self._library.nvrtcCreateProgram
        self._check(
            create(ctypes.byref(program), text.encode(), b"hwkit.cu", 0, None, None), "no program"
        )
        try:
            code = self._library.nvrtcCompileProgram(program, len(options), given)
            log = self._answer("ProgramLog", program)
            self._check(code, log.decode(errors="replace"))
            return self._answer("CUBIN", program), log.decode(errors="replace")
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _answer(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        get_size = getattr(self._library, f"nvrtcGet{what}Size")
        self._check(get_size(program, ctypes.byref(size)), what)
        found = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, found), what)
        return found.raw


class Nvcc(Compiler):
    """The compiler of an installed toolkit.

    Args:
        command: path of ``nvcc``.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        said = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"release (\d+\.\d+)", said.stdout)
        if found is None:
            raise Unavailable(f"{command} does not run: {INSTALL}")
        self.name = f"nvcc {found[1]}"

    def compile(self, text: str, arch: str, defines: Mapping[str, int]) -> tuple[bytes, str]:
        """Return the cubin, and what the assembler said."""
        with tempfile.TemporaryDirectory() as folder:
            source, cubin = Path(folder, "hwkit.cu"), Path(folder, "hwkit.cubin")
            source.write_text(text, "utf-8")
            macros = [f"-D{macro}={value}" for macro, value in sorted(defines.items())]
            options = [f"-arch={arch}", "-cubin", "-Xptxas", "-v", "-w", *macros]
            done = subprocess.run(
                [self._command, *options, "-o", str(cubin), str(source)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise KernelFailure("compile", f"nvcc failed: {_first_errors(done.stderr)}")
            return cubin.read_bytes(), done.stderr + done.stdout


def _first_errors(log: str) -> str:
    lines = [line for line in log.splitlines() if "error" in line.lower()] or log.splitlines()
    return " ".join(" ".join(lines[:3]).split())[:300]


@cache
def compiler() -> Compiler:
    """Return NVRTC, or nvcc.

    Raises:
        Unavailable: there is neither.
    """
    for library in _libraries():
        try:
            return Nvrtc(library)
        except OSError:
            continue
    command = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if command is None:
        raise Unavailable(f"there is no compiler for CUDA, neither NVRTC nor nvcc: {INSTALL}")
    return Nvcc(command)


def _libraries() -> Iterator[Path | str]:
    """Yield where NVRTC may lie: in wheels, newest first, then where the system looks."""
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        wheels = [
            *Path(folder).glob("cu*/lib/libnvrtc.so.*"),
            *Path(folder).glob("cuda_nvrtc/lib/libnvrtc.so.*"),
        ]
        yield from sorted((f for f in wheels if "alt" not in f.name), key=_version, reverse=True)
    for version in (13, 12):
        yield f"libnvrtc.so.{version}"


def _version(file: Path) -> int:
    return int(re.sub(r"\D", "", file.name.rpartition("so.")[2])[:2] or 0)
