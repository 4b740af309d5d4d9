"""The blocks of code in a document, and the commands in a block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A block of code in a document."""

    kind: str
    line: int
    code: str


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document."""
    found, text = [], document.read_text("utf-8")
    for match in re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1].strip(), line, match[2]))
    return found


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield each command behind ``$``, and the lines that it is shown to print."""
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield command, lines
