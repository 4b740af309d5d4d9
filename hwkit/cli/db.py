"""``hwkit db``: what has been learnt, and how it travels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .commands import Group
from .db_keep import export, gc, import_, merge, revalidate, verify
from .options import (
    complete_op,
    database_option,
    json_option,
    read_tolerance,
    tolerance_option,
)
from .output import age, deliver, line, nbytes, ratio, table, timed
from .progress import count

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


@db.command("ls", short_help="Winners by device and problem.")
@click.option(
    "--op", "op_name", metavar="NAME", shell_complete=complete_op, help="Only this operator."
)
@click.option("--arch", metavar="NAME", help="Only devices of this arch, as x86-64-avx2.")
@click.option("--shipped", is_flag=True, help="Also the records that hwkit ships.")
@tolerance_option
@database_option
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
    from ..records.ranking import is_check
    from ..registry import registry
    from .database import opened
    from .winners import gathered

    named = {"op": op_name, "arch": arch}
    wanted = {name: value for name, value in named.items() if value is not None}
    found = opened(path, there=True).records(None if shipped else "user", **wanted)
    tuned = (record for record in found if not is_check(record))
    groups = gathered(tuned, read_tolerance(tolerance))
    if not groups and op_name is not None:
        registry().op(op_name)  # records of an operator whose plugin is not here can be listed
    if not deliver("db ls", {"problems": [group.to_json() for group in groups]}, as_json):
        _list(groups, wanted)
    return 0 if groups else 1


def _list(groups: list[Gathered], wanted: dict[str, str]) -> None:
    if not groups:
        which = "".join(f" with {name} {value}" for name, value in wanted.items())
        op = wanted.get("op", "conv2d")
        line(f"nothing{which} has been tuned yet: type 'hwkit tune --op {op}'")
    before = None
    for group in groups:
        if before != (group.arch, group.identity):
            if before is not None:
                line()
            line(group.device, "bold")
        before = (group.arch, group.identity)
        line(group.problem)
        line("  " + _standing(group), "dim", hang=4)
        _say_unused(group)


def _say_unused(group: Gathered) -> None:
    from .winners import unused

    why = None if group.winner is None else unused(group.winner)
    if why is not None:
        line(f"  {why}", "yellow")


def _standing(group: Gathered) -> str:
    winner = group.winner
    if winner is None:
        return f"no candidate is right ({count(len(group.records), 'trial')})"
    parts = [
        f"{timed(winner.measurement.seconds, winner.origin):>8}",
        winner.against_default
        or (f"{ratio(group.speedup):>6} default" if group.speedup else " " * 14),
        f"{count(len(group.records), 'trial'):>12}",
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
@database_option
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

    kept, text = opened(path, there=True), " ".join(problem)
    # Records of an operator whose plugin is not here can be shown, by the text that 'ls' prints.
    if next(kept.records("user", problem=text), None) is None:
        text = str(parse_problem(text))
    groups = gathered(kept.records(problem=text), read_tolerance(tolerance))
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
    from ..records.ranking import is_check

    line()
    line(group.device)
    best = group.winner.measurement.seconds if group.winner else 1.0
    rows = []
    for record in group.standing[:top]:
        measured = record.measurement
        mark = "best" if record is group.winner else "tie" if record in group.ties else ""
        mark += " default" if record.default else ""
        mark += f" {record.race}" if record.race and record.race.base != record.name else ""
        rows.append(
            [
                timed(measured.seconds, record.origin),
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
        _say_unused(group)
    more = len(group.standing) - top
    if more > 0:
        line(f"  and {more} more", "dim")
    loose = len(group.records) - len(group.admitted)
    if loose:
        line(f"  outside the tolerance: {count(loose, 'trial')}", "dim")
    for record in (r for r in group.records if r.ok and is_check(r)):
        error = f"relative error {record.measurement.error:.1e}, {age(record.created)} ago"
        name = f"{record.kernel} {record.config}".strip()
        line(f"  compared only: {name}: {error}", "dim")
    failed = [r for r in group.records if not r.ok]
    for record in failed[:_FAILURES_SHOWN]:
        measured = record.measurement
        line(f"  {measured.failure}: {record.kernel} {record.config}: {measured.reason}", "yellow")
    if len(failed) > _FAILURES_SHOWN:
        line(f"  and {len(failed) - _FAILURES_SHOWN} more failures", "yellow")


for command in (export, import_, merge, verify, gc, revalidate):
    db.add_command(command)
