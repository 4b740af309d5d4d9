"""The group of commands, and the one place where an error becomes a sentence and an exit code."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from ..errors import ArgumentError, DatabaseError, DtypeError, HwkitError, HwkitWarning, Unavailable

__all__ = ["COMMANDS", "EXIT_CODES", "group", "main"]

COMMANDS = ("devices", "doctor", "ops", "tune", "explain", "run", "db", "bench", "completion")
"""The commands in the order of a first session, each a module of this package."""

OK, NOT_FOUND, USAGE, UNAVAILABLE, DATABASE, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130

EXIT_CODES = {
    OK: "done",
    NOT_FOUND: "a check failed, or nothing usable was found",
    USAGE: "an option or argument is wrong",
    UNAVAILABLE: "hardware or a dependency is missing",
    DATABASE: "the tuning database cannot be read or written as asked",
    INTERNAL: "a bug in hwkit or a plugin, with its traceback",
    INTERRUPTED: "interrupted; all that was finished is kept",
}
"""What the exit codes of every command mean."""

_EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:<4} {text}" for code, text in EXIT_CODES.items()
)


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Group(click.Group):
    """A group that prints its help if no command follows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words behind the group's name."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names.

        Raises:
            click.UsageError: there is none; the message has the nearest.
        """
        if args and self.get_command(ctx, args[0]) is None and args[0][:1].isalpha():
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if close:
                ctx.fail(f"no such command {args[0]!r}, did you mean {close[0]!r}")
        return super().resolve_command(ctx, args)


class _ReaderGone(Exception):
    """A broken pipe, by a name that click does not take for a failure of its own."""


class _LateGroup(Group):
    """A group whose commands are imported when they are asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, SystemExit) as error:
            # rich ends the process where it meets a broken pipe.
            if BrokenPipeError in (type(error), type(error.__context__)):
                raise _ReaderGone from None
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{name}", __package__), name)
        return command


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from .. import __version__

        click.echo(f"hwkit {__version__}")
        ctx.exit()


@click.group(
    cls=_LateGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Print the version and exit.",
)  # fmt: skip
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")
@click.pass_context
def group(ctx: click.Context, traceback: bool) -> None:
    """The fastest kernel that is proved right, on any device.

    Begin with 'hwkit devices', then 'hwkit tune --op conv2d', then 'hwkit explain "..."'.
    """
    ctx.obj = traceback


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what went wrong is one sentence on stderr.

    Args:
        arguments: the words behind ``hwkit``; those of the process if ``None``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_what_is_closed()
    with warnings.catch_warnings():
        warnings.simplefilter("default", HwkitWarning)
        show = warnings.showwarning
        warnings.showwarning = lambda *given, **named: _warn(show, *given, **named)
        try:
            code = group.main(words, prog_name="hwkit", standalone_mode=False)
            sys.stdout.flush()
        except (BrokenPipeError, _ReaderGone):
            return _leave_pipe()
        except click.Abort:
            # What click makes of Ctrl-C.
            return _fail(KeyboardInterrupt(), words)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                return _full(error)
            return _fail(error, words)
    return int(code or OK)


def _open_what_is_closed() -> None:
    """Give the process the streams that its caller has closed: hwkit >&-."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _leave_pipe() -> int:
    """The reader of a pipe (head, less) has seen enough; Python must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _full(error: OSError) -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    click.echo(
        f"hwkit: the answer cannot be written ({error.strerror}): make room, or write it elsewhere",
        err=True,
    )
    return NOT_FOUND


def _warn(show: Any, message: Any, category: type[Warning], *given: Any, **named: Any) -> None:
    if issubclass(category, HwkitWarning):
        click.echo(f"hwkit: warning: {message}", err=True)
    else:
        show(message, category, *given, **named)


def exit_code(error: BaseException) -> int:
    """Return the exit code that an exception stands for."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, (ArgumentError, DtypeError, click.ClickException)):
        return USAGE
    if isinstance(error, Unavailable):
        return UNAVAILABLE
    if isinstance(error, DatabaseError):
        return DATABASE
    return NOT_FOUND if isinstance(error, HwkitError) else INTERNAL


def _fail(error: BaseException, words: list[str]) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else NOT_FOUND
    code = exit_code(error)
    wanted = "--traceback" in words or os.environ.get("HWKIT_TRACEBACK", "") not in ("", "0")
    if wanted or code == INTERNAL:
        traceback.print_exception(error)
    if "--json" in words:
        from .output import document

        # Where stdout is full or gone, the sentence on stderr is all that can be done.
        with contextlib.suppress(OSError):
            click.echo(document("error", {"exit_code": code, "message": _sentence(error)}))
    click.echo(f"hwkit: {_sentence(error)}", err=True)
    return code


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "hwkit"
        message = " ".join(error.format_message().split()).rstrip(".?")
        message = message.replace(". Did you mean", ", did you mean")
        return f"{message[:1].lower()}{message[1:]}: type '{path} --help'"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, HwkitError):
        return str(error)
    return f"internal error, {type(error).__name__}: {error}; please report it with the traceback"
