"""``hwkit tune``: find the fastest kernel and config for problems, and keep what was learnt."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .model_inputs import ModelPath, inputs_options
from .options import (
    check_kernels,
    complete_op,
    device_option,
    json_option,
    problems,
    read_tolerance,
    tolerance_option,
)
from .output import deliver, duration, line, ratio, share, timed
from .progress import count, failures
from .tuning import ended, say_interrupted

if TYPE_CHECKING:
    from ..events import TuneResult
    from ..op import Problem
    from ..shortlist import Shortlist
    from .tuning import Session

__all__ = ["show_summary", "tune"]


@click.command(short_help="Find the fastest kernel and config.")
@click.argument("model", required=False, type=ModelPath(), metavar="[MODEL]")
@click.option(
    "--op",
    "op_names",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_op,
    help="Operator; its sample problems if no problem is given. Repeatable.",
)
@click.option(
    "--problem",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="A problem, as 'hwkit ops NAME' prints them. Repeatable.",
)
@click.option(
    "--problems",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help="A file with one problem a line, - for standard input. Repeatable.",
)
@inputs_options
@device_option
@click.option(
    "--budget",
    metavar="TIME",
    default="30s",
    help="Time for each problem, as 20s or 5m, or none; 30s by default.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    metavar="N",
    help="Most trials for each problem; as many as the budget allows by default.",
)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar="NAME",
    help="Only this kernel, as 'hwkit ops' names it. Repeatable.",
)
@click.option(
    "--strategy",
    metavar="NAME",
    default="evolutionary",
    help="exhaustive, random, evolutionary or model; evolutionary by default.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Seed of the strategy's random choices; 0 by default.",
)
@tolerance_option
@click.option(
    "--db",
    metavar="PATH",
    type=click.Path(dir_okay=False),
    help="Database to keep the records in; HWKIT_DB or the user's own by default.",
)
@click.option(
    "--compile-only",
    is_flag=True,
    help="Only compile candidates for --arch, without the device, and keep what can be launched.",
)
@click.option(
    "--arch", metavar="NAME", help="Architecture to compile for, as sm_90; with --compile-only."
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Where --compile-only keeps its shortlist; shortlist-ARCH.jsonl by default.",
)
@click.option(
    "--shortlist",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="A shortlist of --compile-only, which is tried first.",
)
@click.option(
    "--cold",
    is_flag=True,
    help="Empty the device's caches before each timed run; such records are kept apart.",
)
@json_option
def tune(
    model: str | None,
    op_names: tuple[str, ...],
    texts: tuple[str, ...],
    files: tuple[str, ...],
    inputs: tuple[str, ...],
    shapes: tuple[str, ...],
    device: str | None,
    budget: str,
    trials: int | None,
    kernels: tuple[str, ...],
    strategy: str,
    seed: int,
    tolerance: str | None,
    db: str | None,
    compile_only: bool,
    arch: str | None,
    output: str | None,
    shortlist: str | None,
    cold: bool,
    as_json: bool,
) -> int:
    """Try kernels and configs on a device, check each answer, keep the times.

    \b
    hwkit tune --op conv2d
    hwkit tune --problem "gemm float32 nn m=512 n=512 k=512" --budget 20s
    hwkit tune model.onnx --budget 60s

    With MODEL, an ONNX file, the budget is for all problems of the network together; it is measured
    before and after.

    Without MODEL, --op, --problem and --problems: the sample problems of every operator. Ctrl-C
    keeps everything that was tried, and the same command goes on from there.
    """  # fmt: skip
    from ..settings import settings

    _check_together(model, bool(texts or files or op_names), compile_only, arch, output, cold)
    device = device or settings().device
    if model is None and (inputs or shapes):
        raise click.UsageError("--input and --shape are for a model: name its file, too")
    if compile_only:
        from .compile_only import shortlisted

        _refuse_given("--compile-only", ("strategy", "tolerance", "db", "shortlist", "cold"))
        return shortlisted(
            problems(texts, files, op_names), device, str(arch), output, budget, trials, seed,
            kernels, as_json,
        )  # fmt: skip
    search: dict[str, Any] = {
        "db": db, "trials": trials, "kernels": kernels or None, "strategy": strategy, "seed": seed,
        "tolerance": read_tolerance(tolerance), "shortlist": _shortlist(shortlist),
    }  # fmt: skip
    if model is not None:
        from .tune_model import tune_network

        return tune_network(model, device, budget, as_json, inputs=inputs, shapes=shapes, **search)
    from .tuning import run

    session = run(
        _asked(texts, files, op_names, device, kernels), device, quiet=as_json,
        budget=None if budget == "none" else budget, cold=cold, **search,
    )  # fmt: skip
    if not deliver("tune", session.to_json(), as_json):
        show_summary(session)
    return ended(
        session.not_kept, session.database, session.why,
        interrupted=session.interrupted, ok=session.ok,
    )  # fmt: skip


def _check_together(
    model: str | None,
    problems_given: bool,
    compile_only: bool,
    arch: str | None,
    output: str | None,
    cold: bool,
) -> None:
    """Refuse options that do not go together."""
    if compile_only and model is not None:
        raise click.UsageError("--compile-only takes problems or operators, not a model")
    if compile_only and not arch:
        raise click.UsageError("--compile-only needs an architecture: add --arch, as sm_90")
    if not compile_only and (arch or output):
        raise click.UsageError("--arch and --output are for --compile-only: add it")
    if model is not None and problems_given:
        raise click.UsageError("give a model, or problems and operators, not both")
    if model is not None and cold:
        raise click.UsageError("--cold takes problems or operators, not a model")


def _refuse_given(what: str, names: tuple[str, ...]) -> None:
    """Refuse options that would have no effect."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} has no effect with {what}: leave it out")


def _shortlist(path: str | None) -> Shortlist | None:
    from ..shortlist import Shortlist

    return None if path is None else Shortlist.read(Path(path))


def _asked(
    texts: tuple[str, ...],
    files: tuple[str, ...],
    op_names: tuple[str, ...],
    device: str,
    kernels: tuple[str, ...],
) -> dict[Problem, int]:
    """Return the problems and how often each is called.

    They are those that are named, or the samples that the device has a kernel for, of those that
    ``--kernel`` names if there are any.

    Raises:
        NoKernel: it has one for none of them.
    """
    from ..answers import asked
    from ..errors import NoKernel
    from ..registry import registry

    found = problems(texts, files, op_names)
    if texts or files:
        return found
    check_kernels(device, kernels)
    opened, known = registry().device(device), registry()
    able = {
        problem: times
        for problem, times in found.items()
        if any(
            asked(k, problem) is True and (not kernels or k.name in kernels)
            for k in known.kernels(opened, problem.op.name)
        )
    }
    if not able:
        wanted = ", ".join(op_names) or "any operator"
        none = "none of the kernels named by --kernel" if kernels else f"no kernel of {device}"
        raise NoKernel(
            f"{none} takes a sample problem of {wanted}: type 'hwkit ops --device {device}'"
        )
    return able


def show_summary(session: Session) -> None:
    """Print what each problem runs now, and what the run came to."""
    for result in session.done:
        line(str(result.problem))
        line("  " + _outcome(result), None if result.best else "yellow", hang=4)
    if session.done:
        line()
    parts = [f"{len(session.done)} of {count(session.asked, 'problem')}"]
    parts += [f"in {duration(session.seconds)}", count(session.trials, "trial")]
    parts += [failures(session.failures)] if session.failures else []
    line("   ".join(parts), "bold")
    speedups = [result.speedup for result in session.done if result.speedup is not None]
    if len(speedups) > 1:
        line(f"geometric mean {ratio(statistics.geometric_mean(speedups))} default")
    if session.not_kept:
        return
    line(f"kept in {session.database}" if session.database else "kept in memory only", "dim")
    if session.interrupted:
        say_interrupted()


def _outcome(result: TuneResult) -> str:
    if result.best is None and result.stopped_by == "interrupted" and not result.failures:
        return f"interrupted, and nothing known yet ({count(result.trials, 'trial')})"
    if result.best is None:
        return (
            f"nothing runs ({count(result.trials, 'trial')}): for the reasons type "
            f"'hwkit db show {result.problem}'"
        )
    ties = len(result.ties)
    return "  ".join(
        [
            f"{timed(result.best.measurement.seconds, result.best.origin):>8}",
            result.best.against_default or f"{ratio(result.speedup):>7} default",
            f"{share(result.roofline_share):>5} of roofline",
            f"{ties:>3} {'tie ' if ties == 1 else 'ties'}",
            f"{result.best.kernel} {result.best.config}".strip(),
        ]
    )
