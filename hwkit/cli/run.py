"""``hwkit run``: one run of an ONNX model, on given or random inputs."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import click

from .model_inputs import ModelPath, arrays_for, inputs_options
from .options import (
    device_option,
    json_option,
    read_tolerance,
    require_writable,
    tolerance_option,
    writing,
)
from .output import deliver, duration, line, nbytes

if TYPE_CHECKING:
    from ..graph import Model

__all__ = ["run"]


@click.command(short_help="Run an ONNX model.")
@click.argument("model", type=ModelPath(), metavar="MODEL")
@inputs_options
@click.option(
    "--save", metavar="FILE", type=click.Path(dir_okay=False),
    help="Write the outputs by name into an .npz file.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(1), default=5, metavar="N",
    help="Runs that are timed; 5 by default.",
)  # fmt: skip
@click.option("--explain", is_flag=True, help="Also tell what each node runs, and why.")
@device_option
@tolerance_option
@json_option
def run(
    model: str,
    inputs: tuple[str, ...],
    shapes: tuple[str, ...],
    save: str | None,
    rounds: int,
    explain: bool,
    device: str | None,
    tolerance: str | None,
    as_json: bool,
) -> int:
    """Load an ONNX model, run it, and say what comes out and how long it takes."""
    from ..graph import load

    if save is not None:
        require_writable(save)
    start = time.perf_counter()
    loaded = load(model, device, tolerance=read_tolerance(tolerance))
    given = arrays_for(loaded, inputs, shapes)
    found = loaded.run(given)
    first = time.perf_counter() - start
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = loaded.run(given)
        times.append(time.perf_counter() - start)
    if save is not None:
        _save(save, found)
    payload = _payload(loaded, found, first, times)
    if explain:
        payload["explain"] = loaded.explain()
    if not deliver("run", payload, as_json):
        line(f"{loaded.name} on {loaded.device}", "bold")
        for name, facts in payload["outputs"].items():
            line(f"  {name}  {facts['dtype']} {tuple(facts['shape'])}", hang=4)
        line(f"  {duration(payload['seconds'])} a run, {duration(first)} to load and run first")
        if payload["emulated"]:
            line(f"  {loaded.device} is emulated: these are times of this machine, not of it")
        line(f"  {nbytes(loaded.memory.arena)} between nodes")
        if explain:
            click.echo(payload["explain"])
    return 0


def _save(path: str, outputs: dict[str, Any]) -> None:
    """Write outputs by name.

    Raises:
        ArgumentError: the file cannot be written.
    """
    from ..graph.archive import save_arrays

    with writing(path):
        save_arrays(path, outputs)


def _payload(
    model: Model, found: dict[str, Any], first: float, times: list[float]
) -> dict[str, Any]:
    from ..registry import registry

    return {
        "model": model.name,
        "device": model.device,
        "emulated": registry().device(model.device).emulated,
        "outputs": {n: {"dtype": a.dtype.name, "shape": list(a.shape)} for n, a in found.items()},
        "seconds": statistics.median(times),
        "load_seconds": first,
        "arena_bytes": model.memory.arena,
        "arena_bound_bytes": model.memory.bound,
    }
