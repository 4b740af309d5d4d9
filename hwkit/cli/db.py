"""``hwkit db``: what has been learnt, and how it travels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ArgumentError
from .options import (
    complete_op,
    device_option,
    json_option,
    read_tolerance,
    tolerance_option,
)
from .output import age, deliver, duration, line, nbytes, ratio, table
from .run import Group

if TYPE_CHECKING:
    from .winners import Group as Gathered

__all__ = ["db"]

_FAILURES_SHOWN = 5


@click.group(cls=Group, short_help="What has been learnt, and how it travels.")
def db() -> None:
    """Look into the tuning database, move records between machines, keep it sound.

    The database is the user's file over the records that hwkit ships; a command that writes
    touches the user's file only.
    """


def _path_option(function: Any) -> Any:
    return click.option(
        "--db", "path", metavar="PATH", type=click.Path(dir_okay=False),
        help="Database file; HWKIT_DB or the user's own by default.",
    )(function)  # fmt: skip


@db.command("ls", short_help="Winners by device and problem.")
@click.option(
    "--op", "op_name", metavar="NAME", shell_complete=complete_op, help="Only this operator."
)
@click.option("--arch", metavar="NAME", help="Only devices of this arch, as x86-64-avx2.")
@click.option("--shipped", is_flag=True, help="Also the records that hwkit ships.")
@tolerance_option
@_path_option
@json_option
def ls(
    op_name: str | None,
    arch: str | None,
    shipped: bool,
    tolerance: str | None,
    path: str | None,
    as_json: bool,
) -> int:
    """List the winner of every problem that has been tuned, by device.

    The exit code is 1 if there is none.
    """  # fmt: skip
    from .database import opened
    from .winners import gathered

    named = {"op": op_name, "arch": arch}
    wanted = {name: value for name, value in named.items() if value is not None}
    found = opened(path).records(None if shipped else "user", **wanted)
    groups = gathered(found, read_tolerance(tolerance))
    if not deliver("db ls", {"problems": [group.to_json() for group in groups]}, as_json):
        _list(groups)
    return 0 if groups else 1


def _list(groups: list[Gathered]) -> None:
    if not groups:
        line("nothing has been tuned yet: type 'hwkit tune --op conv2d'")
    before = None
    for group in groups:
        if before != (group.arch, group.identity):
            if before is not None:
                line()
            line(group.device, "bold")
        before = (group.arch, group.identity)
        line(group.problem)
        line("  " + _standing(group), "dim", hang=4)


def _standing(group: Gathered) -> str:
    winner = group.winner
    if winner is None:
        return f"no candidate is right ({len(group.records)} trials)"
    parts = [
        f"{duration(winner.measurement.seconds):>8}",
        f"{ratio(group.speedup):>6} default" if group.speedup else " " * 14,
        f"{len(group.records):>5} trials",
        f"{age(winner.created):>8} old",
        f"{winner.kernel} {winner.config}".strip(),
    ]
    return "  ".join(parts)


@db.command("show", short_help="All about one problem.")
@click.argument("problem", nargs=-1, required=True)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=10,
    metavar="N",
    help="Candidates to show for each device; 10 by default.",
)
@tolerance_option
@_path_option
@json_option
def show(
    problem: tuple[str, ...], top: int, tolerance: str | None, path: str | None, as_json: bool
) -> int:
    """Show the candidates of PROBLEM, the winner first, its ties, and what failed.

    The exit code is 1 if there is no record of it.
    """  # fmt: skip
    from ..dispatch import parse_problem
    from .database import opened
    from .winners import gathered, plain

    text = str(parse_problem(" ".join(problem)))
    groups = gathered(opened(path).records(problem=text), read_tolerance(tolerance))
    payload = {
        "problem": text,
        "devices": [
            {**group.to_json(), "standing": [plain(r) for r in group.standing[:top]]}
            for group in groups
        ],
    }
    if not deliver("db show", payload, as_json):
        line(text, "bold")
        if not groups:
            line(f"no record: type 'hwkit tune --problem \"{text}\"'")
        for group in groups:
            _show(group, top)
    return 0 if groups else 1


def _show(group: Gathered, top: int) -> None:
    line()
    line(group.device)
    best = group.winner.measurement.seconds if group.winner else 1.0
    rows = []
    for record in group.standing[:top]:
        measured = record.measurement
        mark = "best" if record is group.winner else "tie" if record in group.ties else ""
        mark += " default" if record.default else ""
        rows.append(
            [
                duration(measured.seconds),
                ratio(measured.seconds / best),
                f"{measured.error:.1e}",
                str(len(measured.samples)),
                nbytes(record.workspace),
                age(record.created),
                mark.strip(),
                f"{record.kernel} {record.config}".strip(),
            ]
        )
    if rows:
        heads = [">time", ">ratio", ">error", ">samples", ">workspace", ">age", "", "kernel"]
        table(heads, rows, indent=2)
    more = len(group.standing) - top
    if more > 0:
        line(f"  and {more} more", "dim")
    loose = len(group.records) - len(group.admitted)
    if loose:
        line(f"  {loose} trials are outside the tolerance", "dim")
    failed = [r for r in group.records if not r.ok]
    for record in failed[:_FAILURES_SHOWN]:
        measured = record.measurement
        line(f"  {measured.failure}: {record.kernel} {record.config}: {measured.reason}", "yellow")
    if len(failed) > _FAILURES_SHOWN:
        line(f"  and {len(failed) - _FAILURES_SHOWN} more failures", "yellow")


@db.command("export", short_help="Write records as JSON lines.")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--winners", is_flag=True, help="Only the winner of each problem and device.")
@click.option(
    "--op", "op_name", metavar="NAME", shell_complete=complete_op, help="Only this operator."
)
@_path_option
@json_option
def export(file: str, winners: bool, op_name: str | None, path: str | None, as_json: bool) -> int:
    """Write the user's records to FILE, one JSON line each, to import elsewhere or to ship."""
    from .database import opened

    named: dict[str, Any] = {} if op_name is None else {"op": op_name}
    count = opened(path).export(Path(file).expanduser(), winners=winners, layer="user", **named)
    if not deliver("db export", {"file": file, "records": count}, as_json):
        line(f"{_count(count, 'record')} written to {file}")
    return 0


@db.command("import", short_help="Read records from JSON lines.")
@click.argument("file", type=click.Path(dir_okay=False))
@_path_option
@json_option
def import_(file: str, path: str | None, as_json: bool) -> int:
    """Add the records of FILE, as 'hwkit db export' writes it; those that are there are skipped."""
    return _add("db import", file, path, as_json)


@db.command("merge", short_help="Take over another database.")
@click.argument("file", type=click.Path(dir_okay=False))
@_path_option
@json_option
def merge(file: str, path: str | None, as_json: bool) -> int:
    """Add the records of another database FILE; several in any order, as often as you like."""
    return _add("db merge", file, path, as_json)


def _add(command: str, file: str, path: str | None, as_json: bool) -> int:
    from .database import existing, opened

    count = opened(path).import_(existing(file))
    if not deliver(command, {"file": file, "records": count}, as_json):
        line(f"{_count(count, 'new record')} from {file}")
    return 0


@db.command("verify", short_help="Check every row.")
@_path_option
@json_option
def verify(path: str | None, as_json: bool) -> int:
    """Read every record, the shipped ones included, and check it against its checksum.

    The exit code is 1 if something is wrong.
    """
    from .database import facts

    found = facts(path)
    if not deliver("db verify", found, as_json):
        counts = found["counts"]
        where = found["path"] or "memory"
        line(f"{_count(counts['trials'], 'record')} in {where}, {counts['shipped']} shipped")
        _wrong(found["wrong"], "wrong: type 'hwkit db gc --bad' to drop what cannot be read")
        if not found["wrong"]:
            line("all are sound", "green")
    return 1 if found["wrong"] else 0


def _wrong(found: dict[str, str], words: str) -> None:
    for where, why in list(found.items())[:_FAILURES_SHOWN]:
        line(f"  {where}: {why}", "yellow")
    if found:
        line(f"{len(found)} {words}", "bold red")


@db.command("gc", short_help="Remove what is of no use any more.")
@click.option(
    "--days",
    type=click.FloatRange(0),
    metavar="N",
    help="Remove trials older than this that failed or were superseded.",
)
@click.option(
    "--quarantine",
    is_flag=True,
    help="Forget which candidates an interrupted run has left unfinished.",
)
@click.option("--bad", is_flag=True, help="Remove rows that cannot be read.")
@_path_option
@json_option
def gc(days: float | None, quarantine: bool, bad: bool, path: str | None, as_json: bool) -> int:
    """Remove what is asked for from the user's file; winners and their ties always stay."""
    from .database import opened

    if days is None and not quarantine and not bad:
        raise ArgumentError("there is nothing to remove: add --days 90, --quarantine or --bad")
    removed = opened(path).gc(days, quarantine=quarantine, bad=bad)
    if not deliver("db gc", {"removed": removed}, as_json):
        line("removed: " + ", ".join(f"{count} {name}" for name, count in removed.items()))
    return 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


@db.command("revalidate", short_help="Measure stale winners again.")
@device_option
@click.option(
    "--budget", metavar="TIME", default="2s", help="Time for each problem; 2s by default."
)
@click.option(
    "--all", "every", is_flag=True, help="Measure all winners again, not stale ones only."
)
@_path_option
@json_option
def revalidate(
    device: str | None, budget: str, every: bool, path: str | None, as_json: bool
) -> int:
    """Measure winners again whose driver, compiler or hwkit has changed since.

    A stale record is a good start, but is not trusted until it has been measured here.
    """  # fmt: skip
    from ..settings import settings
    from .database import problems_to_measure

    device = device or settings().device
    problems = problems_to_measure(device, path, every=every)
    if not problems:
        if not deliver("db revalidate", {"device": device, "problems": []}, as_json):
            line(f"nothing is stale on {device}")
        return 0
    from .tune import show_summary
    from .tuning import run

    session = run(problems, device, quiet=as_json, db=path, budget=budget)
    if not deliver("db revalidate", session.to_json(), as_json):
        show_summary(session)
    return 130 if session.interrupted else 0
