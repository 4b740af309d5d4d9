"""``hwkit run``: one run of an ONNX model, on given or random inputs."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ArgumentError
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

__all__ = ["arrays_for", "run"]


@click.command(short_help="Run an ONNX model.")
@click.argument("model", type=click.Path(), metavar="MODEL")
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=FILE",
    help="An input, from a .npy file; random numbers for those not given. Repeatable.",
)  # fmt: skip
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
    given = arrays_for(loaded, inputs)
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


def arrays_for(model: Model, inputs: tuple[str, ...]) -> dict[str, Any]:
    """Return the inputs of a model: those named as ``name=file.npy``, and random ones.

    Raises:
        ArgumentError: an input is not known, or its file cannot be read.
    """
    import numpy as np

    from ..graph.archive import restored

    found = model.random_inputs()
    for text in inputs:
        name, _, file = text.partition("=")
        if name not in found or not file:
            raise ArgumentError(
                f"--input {text!r} must be name=file.npy; the model takes {', '.join(found)}"
            )
        try:
            found[name] = restored(np.load(Path(file), allow_pickle=False))
        except (OSError, ValueError) as error:
            raise ArgumentError(
                f"input file '{file}' cannot be read ({error}): write it with numpy.save"
            ) from None
    return found


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
