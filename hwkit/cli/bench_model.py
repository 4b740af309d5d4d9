"""``hwkit bench model.onnx``: a network step by step, tuned and default, and beside others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ArgumentError
from .bench_table import say_busy
from .model_inputs import arrays_for, inputs_options
from .options import (
    device_option,
    json_option,
    peers_named,
    read_tolerance,
    require_writable,
    tolerance_option,
    writing,
)
from .output import deliver, duration, line, ratio

if TYPE_CHECKING:
    from ..bench.race import Race
    from ..graph.profile import Profile

__all__ = ["bench_model"]


@click.command(name="bench", short_help="A network, step by step.")
@click.argument("model", type=click.Path(), metavar="MODEL")
@inputs_options
@click.option(
    "--rounds", type=click.IntRange(1), default=15, metavar="N", help="Turns; 15 by default."
)
@click.option(
    "--peers", metavar="LIST",
    help="Libraries to compare with, with commas: torch,onnxruntime,openvino,xnnpack,ncnn,mnn, or "
    "none; by default all that are installed.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1), metavar="N",
    help="Threads of each library in turns; as many as hwkit has by default. The steps have "
    "HWKIT_THREADS.",
)  # fmt: skip
@click.option("--report", metavar="FILE", type=click.Path(), help="Write a page for a browser.")
@click.option("--trace", metavar="FILE", type=click.Path(), help="Write a trace for Chrome.")
@device_option
@tolerance_option
@json_option
def bench_model(
    model: str,
    inputs: tuple[str, ...],
    shapes: tuple[str, ...],
    rounds: int,
    peers: str | None,
    threads: int | None,
    report: str | None,
    trace: str | None,
    device: str | None,
    tolerance: str | None,
    as_json: bool,
) -> int:
    """Time a network step by step, with its records and without any, and beside other libraries.

    The steps are timed in this process; whole runs in turns, a process for each library. An answer
    that differs by more than 1e-4 is not timed; in float16 by 1e-2, in bfloat16 by 1e-1.
    """
    from ..bench.networks import compare_network
    from ..graph import load
    from ..graph.profile import profile, require_clock

    for path in filter(None, (report, trace)):
        require_writable(path)
    wanted = read_tolerance(tolerance)
    loaded = load(model, device, tolerance=wanted)
    require_clock(loaded.device)
    arrays = arrays_for(loaded, inputs, shapes)
    plain = load(model, device, tolerance=wanted, records=False)
    race = compare_network(
        Path(model), arrays, ["hwkit", "hwkit-default", *_names(peers)],
        threads=threads or _threads(), rounds=rounds, device=device, tolerance=wanted,
    )  # fmt: skip
    if "hwkit" in race.failed:
        raise ArgumentError(f"model '{model}' cannot be timed: {race.failed['hwkit']}")
    found, before = profile(loaded, arrays, rounds), profile(plain, arrays, rounds)
    if report is not None:
        from ..graph.report import page

        _write(report, page(found, before, race.seconds))
    if trace is not None:
        _write(trace, found.trace())
    if not deliver("bench", _payload(found, before, race), as_json):
        _show(found, race)
    return 0


def _payload(found: Profile, before: Profile, race: Race) -> dict[str, Any]:
    return {
        **found.to_json(),
        "medians": race.seconds,
        "failed": dict(race.failed),
        "others_cpu": race.others,
        "default_steps": before.to_json()["steps"],
    }


def _show(found: Profile, race: Race) -> None:
    click.echo(str(found))
    for name, value in race.seconds.items():
        line(f"{name:<16} {duration(value):>10}  {ratio(race.ratio(name))} hwkit")
    for name, reason in race.failed.items():
        line(f"{name:<16} {reason}", "dim")
    say_busy(race.others)


def _threads() -> int:
    from ..registry import registry

    return int(registry().device("cpu:0").fingerprint.identity.get("threads", 1))


def _names(text: str | None) -> list[str]:
    from ..bench.networks import OTHERS
    from ..bench.process import missing

    if text is None:
        return [name for name in OTHERS if missing(name) is None]
    return peers_named(text, OTHERS)


def _write(path: str, text: str) -> None:
    with writing(path):
        Path(path).write_text(text, encoding="utf-8")
