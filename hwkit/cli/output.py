"""How things look: units, aligned tables, and one JSON document for machines."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "age", "console", "deliver", "document", "duration", "line", "nbytes", "ratio", "rate",
    "share", "table", "timed",
]  # fmt: skip

# A pipe has no width; nothing is folded there.
_ENDLESS = 100_000
_NONE = "-"


def duration(seconds: float | None) -> str:
    """Return a time with three digits and its unit: ``"412 us"``."""
    if seconds is None or not math.isfinite(seconds):
        return _NONE
    if seconds >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale * 0.9995:
            return f"{digits(seconds / scale)} {unit}"
    return f"{digits(seconds * 1e9)} ns"


def timed(seconds: float | None, origin: str) -> str:
    """Return a record's time, marked where a model gave it and no clock did."""
    return f"{duration(seconds)}{' estimated' * (origin == 'estimated')}"


def digits(value: float) -> str:
    return (
        f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    )


def rate(per_second: float | None, what: str = "FLOP/s") -> str:
    """Return a rate with its unit: ``"98.1 GFLOP/s"``."""
    if per_second is None or not math.isfinite(per_second):
        return _NONE
    for unit, scale in (("T", 1e12), ("G", 1e9)):
        if per_second >= scale:
            return f"{digits(per_second / scale)} {unit}{what}"
    return f"{digits(per_second / 1e6)} M{what}"


def nbytes(count: float | None) -> str:
    """Return a size with its unit: ``"32 KiB"``."""
    if count is None:
        return _NONE
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            amount = count / scale
            # A thousand and more of a unit would come out as 1e+03.
            return f"{amount:.0f} {unit}" if amount >= 100 else f"{amount:.3g} {unit}"
    return f"{count:.0f} B"


def share(part: float | None) -> str:
    """Return a share in per cent: ``"64 %"``."""
    return _NONE if part is None or not math.isfinite(part) else f"{part * 100:.0f} %"


def ratio(times: float | None) -> str:
    """Return a ratio: ``"2.31x"``."""
    return _NONE if times is None or not math.isfinite(times) else f"{times:.2f}x"


def age(created: str, now: datetime | None = None) -> str:
    """Return how long ago an ISO time in UTC was: ``"3 days"``."""
    try:
        then = datetime.fromisoformat(created.replace("Z", "+00:00"))
    except ValueError:
        return "?"
    then = then if then.tzinfo else then.replace(tzinfo=timezone.utc)
    seconds = max(0.0, ((now or datetime.now(timezone.utc)) - then).total_seconds())
    for unit, scale in (("day", 86400), ("hour", 3600), ("min", 60)):
        count = int(seconds // scale)
        if count:
            return f"{count} {unit}{'s' * (count > 1 and unit != 'min')}"
    return f"{int(seconds)} s"


def document(command: str, payload: Mapping[str, Any]) -> str:
    """Return the one JSON document of a command; what is not a finite number is ``null``."""
    from .. import __version__

    whole = {"command": command, "hwkit": __version__, **payload}
    return json.dumps(_plain(whole), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def deliver(command: str, payload: Mapping[str, Any], as_json: bool) -> bool:
    """Print the JSON document if it is wanted; if not, return ``False``: the caller prints."""
    if as_json:
        click.echo(document(command, payload))
    return as_json


def console(*, stderr: bool = False) -> Console:
    """Return a rich console that folds lines on a terminal and nowhere else."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    made = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _ENDLESS
    return made


def line(text: str = "", style: str | None = None, *, hang: int | None = None) -> None:
    """Print one line, in a style on a terminal.

    Args:
        text: the line.
        style: as rich names it.
        hang: fold the line between words on a narrow terminal, and indent what follows by this.
    """
    if hang is not None and sys.stdout.isatty() and len(text) > (width := console().width):
        text = textwrap.fill(
            text, width, subsequent_indent=" " * hang, break_long_words=False,
            break_on_hyphens=False, drop_whitespace=False,
        )  # fmt: skip
    if style is None:
        click.echo(text)
    else:
        console().print(text, style=style, soft_wrap=True)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, indent: int = 0, fold: str = ""
) -> None:
    """Print rows below dim headings; a heading that begins with ``>`` aligns its column right.

    Args:
        columns: headings.
        rows: texts, one a column.
        indent: spaces on the left.
        fold: name of the column that gives way on a narrow terminal; the last one by default.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    names = [name.lstrip(">") for name in columns]
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    made.show_header = any(names)
    for name, given in zip(names, columns, strict=True):
        gives_way = name == (fold or names[-1])
        made.add_column(
            name,
            justify="right" if given.startswith(">") else "left",
            no_wrap=not gives_way,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*[Text(cell) for cell in row])
    out = console()
    with out.capture() as captured:
        out.print(Padding(made, (0, 0, 0, indent), expand=False))
    text = captured.get()
    if not out.is_terminal:
        text = "\n".join(row.rstrip() for row in text.split("\n"))
    click.echo(text, nl=False)
