"""From kernel text to a cubin, kept by content in memory and on disk."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path

from hwkit import KernelFailure, Unavailable
from hwkit_opencl.programs import keep, source

from .compilers import Usage, compiler, usage_of

__all__ = ["Cubin", "Text", "cache_folder"]

_lock = threading.Lock()
_made: dict[str, Cubin] = {}
_running: dict[str, threading.Lock] = {}


@dataclass(frozen=True)
class Cubin:
    """A compiled kernel file.

    Attributes:
        data: the image that the driver loads.
        usage: of each kernel in it.
    """

    data: bytes
    usage: Mapping[str, Usage]


@dataclass(frozen=True)
class Text:
    """A kernel file with macros, for an architecture.

    Attributes:
        file: name of the kernel file.
        function: the kernel in it that is launched.
        arch: ``"sm_90"``.
        defines: macros, sorted by name.
    """

    file: str
    function: str
    arch: str
    defines: tuple[tuple[str, int], ...]

    @property
    def source(self) -> str:
        """The text that is compiled."""
        return _source(self.file)

    @cached_property
    def key(self) -> str:
        """A name made of all that the cubin depends on but the compiler."""
        content = repr((self.source, self.arch, self.defines))
        return blake2b(content.encode(), digest_size=16).hexdigest()

    def cubin(self) -> Cubin:
        """Return the compiled file: from memory, from disk, or from a compiler.

        Raises:
            KernelFailure: class ``compile``.
            Unavailable: it is nowhere, and there is no compiler.
        """
        with _lock:
            running = _running.setdefault(self.key, threading.Lock())
        with running:
            if self.key not in _made:
                _made[self.key] = _load(self)
            return _made[self.key]

    @property
    def usage(self) -> Usage:
        """What the launched kernel takes."""
        return self.cubin().usage[self.function]


@cache
def _source(name: str) -> str:
    """Return a text of our own, or one that OpenCL compiles as well, with its headers."""
    own = Path(str(files(__package__) / "kernels" / name))
    if not own.is_file():
        return source(name)
    shared = files("hwkit_opencl") / "kernels"
    parts = [(shared / part).read_text("utf-8") for part in ("dialect.h", "epilogue.h")]
    # One text, for what it was made from is its name; no compiler is told of folders.
    text = re.sub(
        r'^#include "(.*)"$',
        lambda found: (own.parent / found[1]).read_text("utf-8"),
        own.read_text("utf-8"),
        flags=re.MULTILINE,
    )
    return "\n".join([*parts, text])


def cache_folder() -> Path:
    """Return where cubins are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("hwkit", appauthor=False), "cuda")


def _load(text: Text) -> Cubin:
    try:
        made_by = compiler()
    except Unavailable:
        # What another compiler made is as right.
        for file in sorted(cache_folder().glob(f"*/{text.key}.cubin")):
            found = _read(file)
            if found is not None:
                return found
        raise
    file = cache_folder() / made_by.name.replace(" ", "-") / f"{text.key}.cubin"
    found = _read(file)
    if found is not None:
        return found
    try:
        data, log = made_by.compile(text.source, text.arch, dict(text.defines))
    except KernelFailure as error:
        what = f"{text.file} was not compiled for {text.arch}: {error}"
        raise KernelFailure("compile", what) from error
    found = Cubin(data, usage_of(log))
    _keep(file, found)
    return found


def _read(file: Path) -> Cubin | None:
    """Return what :func:`_keep` wrote; ``None`` if it is not there or damaged."""
    try:
        head, _, data = file.read_bytes().partition(b"\n")
        facts = json.loads(head)
        usage = {name: Usage(**values) for name, values in facts["usage"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Cubin(data, usage) if facts.get("checksum") == _checksum(data) else None


def _keep(file: Path, cubin: Cubin) -> None:
    usage = {name: asdict(values) for name, values in cubin.usage.items()}
    head = json.dumps({"usage": usage, "checksum": _checksum(cubin.data)})
    keep(file, head.encode() + b"\n" + cubin.data)


def _checksum(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()
