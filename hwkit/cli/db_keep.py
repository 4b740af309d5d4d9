"""``hwkit db export|import|merge|verify|gc|revalidate``: how records travel and stay sound."""

from __future__ import annotations

from typing import Any

import click

from ..errors import ArgumentError, DatabaseError
from ..settings import expanded
from .options import complete_op, database_option, device_option, json_option
from .output import deliver, line
from .progress import count

__all__ = ["export", "gc", "import_", "merge", "revalidate", "verify"]

_SHOWN = 5


@click.command("export", short_help="Write records as JSON lines.")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--winners", is_flag=True, help="Only the winner of each problem and device.")
@click.option(
    "--op", "op_name", metavar="NAME", shell_complete=complete_op, help="Only this operator."
)
@database_option
@json_option
def export(file: str, winners: bool, op_name: str | None, path: str | None, as_json: bool) -> int:
    """Write the user's records to FILE, one JSON line each, to import elsewhere or to ship."""
    from ..registry import registry
    from .database import opened

    named: dict[str, Any] = {} if op_name is None else {"op": op_name}
    kept, target = opened(path, there=True), expanded(file, "FILE")
    if op_name is not None and next(kept.records("user", op=op_name), None) is None:
        registry().op(op_name)  # records of an operator whose plugin is not here can be exported
    if kept.refusal is not None:
        raise DatabaseError(f"{kept.path} cannot be exported, {kept.refusal}: type 'hwkit doctor'")
    number = kept.export(target, winners=winners, layer="user", **named)
    if not deliver("db export", {"file": file, "records": number}, as_json):
        line(f"{count(number, 'record')} written to {file}")
    return 0


@click.command("import", short_help="Read records from JSON lines.")
@click.argument("file", type=click.Path(dir_okay=False))
@database_option
@json_option
def import_(file: str, path: str | None, as_json: bool) -> int:
    """Add the records of FILE, as 'hwkit db export' writes it; those that are there are skipped."""
    return _add("db import", file, path, as_json)


@click.command("merge", short_help="Take over another database.")
@click.argument("file", type=click.Path(dir_okay=False))
@database_option
@json_option
def merge(file: str, path: str | None, as_json: bool) -> int:
    """Add the records of another database FILE; several in any order, as often as you like."""
    return _add("db merge", file, path, as_json)


def _add(command: str, file: str, path: str | None, as_json: bool) -> int:
    from .database import existing, opened

    kept = opened(path)
    number = kept.import_(existing(file))
    if kept.counts()["not_kept"]:
        raise DatabaseError(
            f"{file} was not taken over into {kept.path}, {kept.unwritten}: mend that, or name "
            "another database with --db"
        )
    if not deliver(command, {"file": file, "records": number}, as_json):
        line(f"{count(number, 'new record')} from {file}")
    return 0


@click.command("verify", short_help="Check every row.")
@database_option
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
        line(f"{count(counts['trials'], 'record')} in {where}, {counts['shipped']} shipped")
        # What is wrong with the file as a whole no removal of rows mends.
        whole = "file" in found["wrong"]
        hint = "'hwkit doctor'" if whole else "'hwkit db gc --bad' to drop what cannot be read"
        _wrong(found["wrong"], f"wrong: type {hint}")
        if not found["wrong"]:
            line("all are sound", "green")
    return 1 if found["wrong"] else 0


def _wrong(found: dict[str, str], words: str) -> None:
    for where, why in list(found.items())[:_SHOWN]:
        line(f"  {where}: {why}", "yellow")
    if found:
        line(f"{len(found)} {words}", "bold red")


@click.command("gc", short_help="Remove what is of no use any more.")
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
@database_option
@json_option
def gc(days: float | None, quarantine: bool, bad: bool, path: str | None, as_json: bool) -> int:
    """Remove what is asked for from the user's file; winners and their ties always stay."""
    from .database import opened

    if days is None and not quarantine and not bad:
        raise ArgumentError("there is nothing to remove: add --days 90, --quarantine or --bad")
    removed = opened(path, there=True).gc(days, quarantine=quarantine, bad=bad)
    if not deliver("db gc", {"removed": removed}, as_json):
        line("removed: " + ", ".join(f"{number} {name}" for name, number in removed.items()))
    return 0


@click.command("revalidate", short_help="Measure stale winners again.")
@device_option
@click.option(
    "--budget", metavar="TIME", default="2s", help="Time for each problem; 2s by default."
)
@click.option(
    "--all", "every", is_flag=True, help="Measure all winners again, not stale ones only."
)
@database_option
@json_option
def revalidate(
    device: str | None, budget: str, every: bool, path: str | None, as_json: bool
) -> int:
    """Measure winners again whose driver, compiler or hwkit has changed since.

    A stale record is a good start, but is not trusted until it has been measured here. The exit
    code is 1 if a problem has nothing that runs any more.
    """  # fmt: skip
    from ..settings import settings
    from ..tuner import parse_budget
    from .database import problems_to_measure

    device = device or settings().device
    parse_budget(budget)
    problems = problems_to_measure(device, path, every=every)
    if not problems:
        if not deliver("db revalidate", {"device": device, "problems": []}, as_json):
            line(f"nothing is stale on {device}")
        return 0
    from .tune import show_summary
    from .tuning import ended, run

    session = run(problems, device, quiet=as_json, db=path, budget=budget)
    if not deliver("db revalidate", session.to_json(), as_json):
        show_summary(session)
    return ended(
        session.not_kept, session.database, session.why,
        interrupted=session.interrupted, ok=session.ok,
    )  # fmt: skip
