"""Options that several commands share, and the reading of their values."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..op import Problem

__all__ = [
    "complete_device",
    "complete_op",
    "database_option",
    "device_option",
    "json_option",
    "check_kernels",
    "named_kernels",
    "peers_named",
    "problems",
    "read_tolerance",
    "require_writable",
    "tolerance_option",
    "writing",
]

F = TypeVar("F", bound=Callable[..., Any])


def complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the devices that a shell may complete."""
    from ..registry import registry

    return [name for name in registry().devices() if name.startswith(incomplete)]


def complete_op(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the operators that a shell may complete."""
    from ..registry import registry

    return [name for name in registry().ops() if name.startswith(incomplete)]


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
    )(function)


def device_option(function: F) -> F:
    """Add ``--device``."""
    return click.option(
        "--device",
        metavar="NAME",
        shell_complete=complete_device,
        help="Device, as in 'hwkit devices'; HWKIT_DEVICE or cpu:0 if not given.",
    )(function)


def database_option(function: F) -> F:
    """Add ``--db``."""
    return click.option(
        "--db",
        "path",
        metavar="PATH",
        type=click.Path(dir_okay=False),
        help="Database file; HWKIT_DB or the user's own by default.",
    )(function)


def tolerance_option(function: F) -> F:
    """Add ``--tolerance``."""
    return click.option(
        "--tolerance",
        metavar="ERROR",
        help="Relative error that the answer may have, or 'strict' or 'deterministic'.",
    )(function)


def read_tolerance(text: str | None) -> float | str | None:
    """Return a tolerance as the library takes it.

    Raises:
        ArgumentError: it is neither a positive number nor a policy.
    """
    from ..selection import check_tolerance

    if text is None:
        return None
    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    return check_tolerance(value)


def peers_named(text: str, known: Sequence[str]) -> list[str]:
    """Return the libraries that ``--peers`` names, each once; nothing for ``none``.

    Raises:
        ArgumentError: one is not known.
    """
    words = [] if text == "none" else [word.strip() for word in text.split(",")]
    names = list(dict.fromkeys(filter(None, words)))
    for name in names:
        if name not in known:
            raise ArgumentError(
                f"peer {name!r} is not known: write some of {','.join(known)}, or none"
            )
    return names


def check_kernels(device: str, wanted: Sequence[str]) -> None:
    """Check that a device has the kernels that ``--kernel`` names, of whatever operator.

    Raises:
        ArgumentError: it has not.
    """
    from ..registry import registry

    known = {kernel.name for kernel in registry().kernels(registry().device(device))}
    unknown = next((name for name in wanted if name not in known), None)
    if unknown is not None:
        raise ArgumentError(
            f"kernel {unknown!r} is not known on {device}: type 'hwkit ops --device {device}'"
        )


def named_kernels(
    problem: Problem, device: str, wanted: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Return which of the kernels that ``--kernel`` names can be tuned for a problem.

    ``None`` if none is named: then any may be.
    """
    from ..answers import untunable
    from ..registry import registry

    if not wanted:
        return None
    known = registry().kernels(registry().device(device), problem.op.name)
    return tuple(k.name for k in known if k.name in wanted and untunable(k, problem) is None)


def require_writable(path: str | Path) -> None:
    """Raise if a file cannot be written: before the work whose result it is for, not after.

    Raises:
        ArgumentError: it cannot.
    """
    # Those of os.path answer "no" where a folder may not be looked into; those of Path raise.
    place = path if os.path.exists(path) else Path(path).parent
    with writing(path):
        for amiss, code in (
            (os.path.isdir(path), errno.EISDIR),
            (not os.path.exists(place), errno.ENOENT),
            (place != path and not os.path.isdir(place), errno.ENOTDIR),
            (not os.access(place, os.W_OK), errno.EACCES),
        ):
            if amiss:
                raise OSError(code, os.strerror(code))


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an OSError while a file is written into one sentence.

    Raises:
        ArgumentError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ArgumentError(
            f"'{path}' cannot be written ({error.strerror}): choose another place"
        ) from None


def problems(
    texts: Iterable[str] = (), files: Iterable[str] = (), ops: Iterable[str] = ()
) -> dict[Problem, int]:
    """Return the problems that a command line names, in order, and how often it names each.

    Args:
        texts: problem lines; the name of the operator may be left out if ``ops`` is one name.
        files: files of such lines, ``-`` for standard input; ``#`` begins a comment.
        ops: operators; without any problem their sample problems are taken, of all if there is
            none either.

    Raises:
        ArgumentError: a line cannot be read, or is of an operator that is not asked for.
    """
    from ..answers import sampled
    from ..dispatch import parse_problem
    from ..registry import registry

    names = [registry().op(name).name for name in ops]
    lines = [*((text, "") for text in texts), *(line for file in files for line in _read(file))]
    if not lines:
        if not names:
            samples = sampled(registry().ops().values())
            return {problem: 1 for problems in samples.values() for problem in problems}
        known = registry().ops()
        lines = [(text, "") for name in names for text in known[name].samples]
    found: dict[Problem, int] = {}
    for line, where in lines:
        try:
            problem = parse_problem(_named(line, names))
        except ArgumentError as error:
            raise ArgumentError(f"{where}{error}") from None
        if names and problem.op.name not in names:
            raise ArgumentError(
                f"problem '{line}' is of {problem.op.name}, but --op asks for {', '.join(names)}: "
                "drop one of the two"
            )
        found[problem] = found.get(problem, 0) + 1
    return found


def _named(line: str, names: list[str]) -> str:
    from ..dtypes import FLOATS, INTEGERS

    first = line.partition(" ")[0].partition(",")[0]
    # "float32 nchw n=1 ..." behind --op conv2d means conv2d.
    return f"{names[0]} {line}" if len(names) == 1 and first in FLOATS + INTEGERS else line


def _read(file: str) -> list[tuple[str, str]]:
    """Return the problems of a file, each with where it stands."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ArgumentError(
            f"problems file '{file}' cannot be read ({reason}): give a file with one problem a line"
        ) from None
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    if not any(lines):
        raise ArgumentError(f"problems file '{file}' has no problem: write one a line")
    return [(line, f"{file}:{number}: ") for number, line in enumerate(lines, 1) if line]
