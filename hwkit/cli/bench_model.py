"""``hwkit bench model.onnx``: a network step by step, tuned and default, and beside onnxruntime."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ..errors import ArgumentError
from .options import device_option, json_option, read_tolerance, tolerance_option
from .output import deliver, duration, line, ratio

__all__ = ["bench_model"]


@click.command(name="bench", short_help="A network, step by step.")
@click.argument("model", type=click.Path(), metavar="MODEL")
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=FILE",
    help="An input, from a .npy file; random numbers for those not given. Repeatable.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1), default=15, metavar="N", help="Turns; 15 by default."
)
@click.option("--report", metavar="FILE", type=click.Path(), help="Write a page for a browser.")
@click.option("--trace", metavar="FILE", type=click.Path(), help="Write a trace for Chrome.")
@device_option
@tolerance_option
@json_option
def bench_model(
    model: str,
    inputs: tuple[str, ...],
    rounds: int,
    report: str | None,
    trace: str | None,
    device: str | None,
    tolerance: str | None,
    as_json: bool,
) -> int:
    """Time a network step by step, with its records, without any, and in onnxruntime.

    All of them run in this process, in turns, with the same number of threads.
    """
    from ..graph import load
    from ..graph.profile import profile
    from .run import arrays_for

    wanted = read_tolerance(tolerance)
    loaded = load(model, device, tolerance=wanted)
    arrays = arrays_for(loaded, inputs)
    runs: dict[str, Callable[[], Any]] = {"hwkit": lambda: loaded.run(arrays)}
    plain = load(model, device, tolerance=wanted, records=False)
    runs["hwkit-default"] = lambda: plain.run(arrays)
    peer = _onnxruntime(model, arrays)
    if peer is not None:
        runs["onnxruntime"] = peer
    seconds = _turns(runs, rounds)
    found, before = profile(loaded, arrays, rounds), profile(plain, arrays, rounds)
    payload = {**found.to_json(), "medians": seconds, "default_steps": before.to_json()["steps"]}
    if report is not None:
        from ..graph.report import page

        _write(report, page(found, before, seconds))
    if trace is not None:
        _write(trace, found.trace())
    if not deliver("bench", payload, as_json):
        click.echo(str(found))
        for name, value in seconds.items():
            line(f"{name:<16} {duration(value):>10}  {ratio(value / seconds['hwkit'])} hwkit")
    return 0


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArgumentError(
            f"'{path}' cannot be written ({error.strerror}): choose another place"
        ) from None


def _turns(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each, run in turns, the order turned round each time."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for call in runs.values():
        call()
        call()
    for turn in range(rounds):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            runs[name]()  # what another left in the caches is not counted
            start = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def _onnxruntime(model: str, arrays: dict[str, Any]) -> Callable[[], Any] | None:
    """Return a run of onnxruntime, or ``None`` if it is missing or declines the model."""
    from ..registry import registry

    try:
        onnxruntime: Any = import_module("onnxruntime")
    except ImportError:
        return None
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    identity = registry().device("cpu:0").fingerprint.identity
    options.intra_op_num_threads = int(identity.get("threads", 1))
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        session.run(None, arrays)
    except Exception as error:
        line(f"onnxruntime does not run it: {str(error).splitlines()[0][:120]}", "dim")
        return None
    return lambda: session.run(None, arrays)
