"""The table of ``hwkit bench``: a line for each problem as it comes, and the means below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .output import digits, duration, line, ratio, share

if TYPE_CHECKING:
    from ..bench.sets import Layer
    from ..bench.suite import Row, Suite

__all__ = ["Screen", "Silent", "say_busy"]

_GAP = "  "

# Width of the longest name of a library and its ratio.
_BEST = 18

# Beyond this share of the CPUs for other processes, figures are not to be relied on.
_BUSY = 0.1


class Silent:
    """Shows nothing: the JSON document says it all."""

    def start(self, suite: Suite) -> None:
        """The libraries are running."""

    def row(self, row: Row) -> None:
        """A problem is done."""

    def finish(self, suite: Suite) -> None:
        """All of one number of threads is done."""


class Screen(Silent):
    """Prints a line per problem as they come, and the means below."""

    def __init__(self, layers: list[Layer]) -> None:
        self._common, self._labels = _split([layer.problem for layer in layers])
        self._width = max(map(len, [*self._labels.values(), "geometric mean"]))
        self._counts = any(layer.times > 1 for layer in layers)
        self._others: list[str] = []

    def start(self, suite: Suite) -> None:
        """Print what runs, what does not, and the headings."""
        self._others = [name for name in suite.versions if name != "hwkit"]
        threads = f"{suite.threads} thread{'s' * (suite.threads > 1)}"
        line("  ".join(filter(None, [self._common, threads])), "bold")
        versions = [f"{n} {v}" for n, v in suite.versions.items() if n != "hwkit-default"]
        line("  ".join(versions), "dim")
        for name, reason in suite.skipped.items():
            line(f"without {name}: {reason}", "yellow")
        line()
        self._print("problem", ["x" * self._counts, "hwkit", "GFLOP/s", "roofline"],
                    [name.removeprefix("hwkit-") for name in self._others], "best other", "dim",
                    )  # fmt: skip

    def row(self, row: Row) -> None:
        """Print the times of one problem."""
        giga = row.flops / row.seconds / 1e9 if row.seconds else 0.0
        speed = digits(giga) if giga else "-"
        cells = [
            str(row.layer.times) * self._counts,
            duration(row.seconds),
            speed,
            share(row.roofline_share),
        ]
        best = row.best()
        self._print(
            self._labels[row.layer.problem],
            cells,
            [ratio(row.ratio(n)) for n in self._others],
            "-" if best is None else f"{best[0]} {ratio(best[1])}",
        )
        for name, reason in row.race.failed.items():
            line(f"  {name}: {reason}", "yellow")

    def finish(self, suite: Suite) -> None:
        """Print the geometric means and the totals."""
        if len(suite.rows) > 1:
            means = [ratio(suite.mean(name)) for name in self._others]
            self._print("geometric mean", [""] * 4, means, ratio(suite.best_mean), "bold")
            totals = [duration(suite.total(name)) for name in self._others]
            cells = ["", duration(suite.total("hwkit")), "", ""]
            self._print("all together", cells, totals, "", "dim")
            counts = {n: sum(row.ratio(n) is not None for row in suite.rows) for n in self._others}
            fewer = [
                f"{n} {k} of {len(suite.rows)}"
                for n, k in counts.items()
                if 0 < k < len(suite.rows)
            ]
            if fewer:
                line("means over fewer problems:  " + "  ".join(fewer), "yellow")
        errors = [(name, suite.largest_error(name)) for name in suite.versions]
        known = [f"{name} {error:.0e}" for name, error in errors if error is not None]
        if known:
            line("largest errors:  " + "  ".join(known), "dim")
        rejected = {name for row in suite.rows for name, b in row.race.built.items() if b.rejected}
        if rejected:
            names = ", ".join(sorted(rejected))
            line(f"failed or too far off, so not timed, were variants of {names} (--json)", "dim")
        say_busy(suite.others)
        line()

    def _print(
        self,
        label: str,
        cells: list[str],
        others: list[str],
        best: str,
        style: str | None = None,
    ) -> None:
        widths = [3 * self._counts, 7, 7, 8]
        texts = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True) if width]
        texts += [
            f"{cell:>{max(7, len(name.removeprefix('hwkit-')))}}"
            for cell, name in zip(others, self._others, strict=True)
        ]
        line(_GAP.join([f"{label:<{self._width}}", *texts, f"{best:>{_BEST}}"]).rstrip(), style)


def say_busy(others: float | None) -> None:
    """Say so if other processes took so much of the CPUs that figures are not to be relied on.

    Args:
        others: their share; ``None`` if it is not known.
    """
    if others is not None and others > _BUSY:
        line(
            f"other processes took {share(others)} of the CPUs: "
            "time again on a quiet machine before you rely on this",
            "bold yellow",
        )


def _split(texts: list[str]) -> tuple[str, dict[str, str]]:
    """Return the words that all problems begin with, and what is left of each."""
    words = [text.split() for text in dict.fromkeys(texts)]
    if len(words) < 2:
        return "", {text: text for text in texts}
    same = 0
    while all(len(w) > same + 1 and w[same] == words[0][same] for w in words):
        same += 1
    return " ".join(words[0][:same]), {" ".join(w): " ".join(w[same:]) for w in words}
