"""The generated parts of ``README.md`` beside this file; a test compares.

``python -m hwkit.cli.reference hwkit/cli/README.md`` renews them. A part stands between
``<!-- generated: hwkit tune -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent

import click

from .commands import EXIT_CODES, group

__all__ = ["commands", "renew"]

_PART = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_EXIT_CODES = "exit codes"


def renew(text: str) -> str:
    """Return a document with its generated parts as they must be.

    Raises:
        KeyError: a part names a command that does not exist.
    """
    known = commands()

    def part(match: re.Match[str]) -> str:
        name = match[2]
        body = _exit_codes() if name == _EXIT_CODES else _describe(name, known[name])
        return f"{match[1]}{body}\n{match[3]}"

    return _PART.sub(part, text)


def commands() -> dict[str, click.Command]:
    """Return every command that does something, by all its words: ``"hwkit db ls"``."""

    def leaves(name: str, command: click.Command) -> dict[str, click.Command]:
        if not isinstance(command, click.Group):
            return {name: command}
        context = click.Context(command)
        found: dict[str, click.Command] = {}
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            if below is not None:
                found.update(leaves(f"{name} {each}", below))
        return found

    return leaves("hwkit", group)


def _exit_codes() -> str:
    rows = [f"| {code} | {text} |" for code, text in EXIT_CODES.items()]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def _describe(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = [_option(p) for p in command.params if isinstance(p, click.Option)]
    return "\n".join(
        [
            *("```text", usage, "```", ""),
            *(_prose(command.help or ""), ""),
            *(("| option | meaning |", "|---|---|", *rows) if rows else ()),
        ]
    )


def _prose(text: str) -> str:
    """Return a help text as Markdown; a paragraph marked to keep its lines becomes a block."""
    found: list[str] = []
    for paragraph in cleandoc(text).split("\n\n"):
        if "\b" in paragraph:
            lines = dedent(paragraph.partition("\b")[2].strip("\n"))
            found.append(f"```text\n{lines}\n```")
        else:
            found.append(" ".join(paragraph.split()))
    return "\n\n".join(found)


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if not option.is_flag:
        kind = option.type
        choice = "\\|".join(map(str, kind.choices)) if isinstance(kind, click.Choice) else ""
        names += f" `{option.metavar}`" if option.metavar else f" {choice}" if choice else ""
    return f"| {names} | {option.help} |"


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        file.write_text(renew(file.read_text(encoding="utf-8")), encoding="utf-8")
