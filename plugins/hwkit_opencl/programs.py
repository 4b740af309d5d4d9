"""From kernel text to a built program, kept by content in memory and on disk."""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .failures import translated

if TYPE_CHECKING:
    from .device import OpenclDevice

__all__ = ["DTYPES", "build", "keep", "source"]

DTYPES = {"float32": 32, "float64": 64, "float16": 16, "bfloat16": 17}
"""How the dialect header names the dtypes of elements."""

_lock = threading.Lock()
_built: dict[tuple[int, str, str], Any] = {}
_running: dict[tuple[int, str, str], threading.Lock] = {}


@cache
def source(name: str) -> str:
    """Return the text of a kernel file: the dialect header, the epilogue, the kernels."""
    folder = files(__package__) / "kernels"
    parts = ("dialect.h", "epilogue.h", name)
    return "\n".join((folder / part).read_text("utf-8") for part in parts)


def build(device: OpenclDevice, name: str, defines: Mapping[str, int]) -> Any:
    """Return the program of a kernel file with these macros, built for a device.

    Raises:
        KernelFailure: class ``compile``; the message has the first lines of the compiler's.
    """
    options = "-w " + " ".join(f"-D{macro}={value}" for macro, value in sorted(defines.items()))
    key = id(device), name, options
    with _lock:
        running = _running.setdefault(key, threading.Lock())
    with running:
        if key not in _built:
            with translated(str(device), f"{name} was compiled"):
                _built[key] = _quietly(lambda: _load(device, source(name), options))
        return _built[key]


def _quietly(load: Callable[[], Any]) -> Any:
    """Build without the warnings of a compiler about text that is not the user's."""
    import pyopencl as cl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cl.CompilerWarning)
        return load()


def _load(device: OpenclDevice, text: str, options: str) -> Any:
    """Build from a kept binary, or from the text, whose binary is then kept."""
    import pyopencl as cl

    file = _file(device, text, options)
    if file is not None and file.exists():
        try:
            return cl.Program(device.context, [device.found], [file.read_bytes()]).build(options)
        except (cl.Error, OSError):
            # A driver that has changed without a new version, or a file of another user.
            with suppress(OSError):
                file.unlink(missing_ok=True)
    # pyopencl's own cache would keep a second copy of each.
    program = cl.Program(device.context, text).build(options, cache_dir=False)  # type: ignore[arg-type,unused-ignore]
    if file is not None:
        keep(file, program.binaries[0])
    return program


def _file(device: OpenclDevice, text: str, options: str) -> Path | None:
    """Return where a binary is kept: named by all that it depends on."""
    import platformdirs

    # PoCL keeps its kernels by content itself, and to ask it for a binary compiles all of them.
    if "PoCL" in device.found.version or os.environ.get("PYOPENCL_NO_CACHE"):
        return None
    facts = device.fingerprint
    known = sorted({**facts.identity, **facts.environment}.items())
    content = repr((text, options, known))
    name = blake2b(content.encode(), digest_size=16).hexdigest()
    return Path(platformdirs.user_cache_dir("hwkit", appauthor=False), "opencl", f"{name}.bin")


def keep(file: Path, data: bytes) -> None:
    """Write a file of a cache, whole or not at all.

    A full disk or a read-only home makes the next start slower, not wrong.
    """
    part = ""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
        os.replace(part, file)
        return
    # What a full disk cut short would lie there for ever, under a name that nobody looks for.
    with suppress(OSError):
        os.unlink(part)
