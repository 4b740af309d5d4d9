"""Whole ONNX models beside other libraries: the same file, in turns, a process for each library."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Unavailable
from ..graph import Graph, Model, load
from ..graph.archive import save_arrays
from .libraries import flat
from .process import LIBRARIES
from .race import Race, raced, started

__all__ = ["OTHERS", "compare_network", "folded"]

OTHERS = tuple(name for name in LIBRARIES if not name.startswith(("hwkit", "numpy")))
"""Libraries that can run whole models."""

# Relative errors that the answer of a whole network may have, by the dtype of what plans give.
_ERROR, _ERRORS = 1e-4, {"float16": 1e-2, "bfloat16": 1e-1}


def compare_network(
    model: Path,
    inputs: Mapping[str, Any],
    libraries: Sequence[str] = ("hwkit", "hwkit-default", *OTHERS),
    *,
    threads: int = 1,
    rounds: int = 15,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Race:
    """Time one run of a model in each library.

    Every answer is compared with the one that hwkit gives with plain fused-multiply-add kernels
    only (``tolerance="strict"``); a relative error above 1e-4 is no answer, in float16 above 1e-2,
    in bfloat16 above 1e-1: every layer rounds once more.

    Args:
        model: the file.
        inputs: by name.
        libraries: of :data:`hwkit.bench.LIBRARIES`; those that are missing here, or do not take
            the model, are named in ``Race.failed``.
        threads: that each may use.
        rounds: turns of each.
        device: hwkit's device.
        tolerance: as of :func:`hwkit.load`.
    """
    options = {"device": device, "tolerance": tolerance}
    with tempfile.TemporaryDirectory(prefix="hwkit-bench-") as folder:
        given, want = Path(folder) / "inputs.npz", Path(folder) / "reference.npy"
        save_arrays(given, inputs)
        strict = load(model, device, tolerance="strict")
        np.save(want, flat(strict.run(inputs).values()))
        budget = _budget(strict)
        with started(libraries, threads) as (peers, absent):
            found = raced(
                peers, lambda p: p.network(model.absolute(), given, want, budget, options), rounds
            )
    return replace(found, failed={**absent, **found.failed})


def _budget(model: Model) -> float:
    """Return the error that answers may have, by the narrowest dtype that a plan gives."""
    return max((_ERRORS.get(p.dtypes.output, _ERROR) for p in model.problems()), default=_ERROR)


def folded(model: Path, inputs: Mapping[str, Any]) -> Graph:
    """Return a model with batch norms folded and activations fused, all else as the file has it.

    For libraries that read no ONNX: their own converters would do as much.
    """
    loaded = load(model, without=("layout", "lift"))
    graph = loaded.rewritten(tuple(np.shape(inputs[name]) for name in loaded.inputs))
    if graph.tail is not None:
        raise Unavailable(
            f"shapes of {loaded.name!r} depend on data, which is not written for others"
        )
    return graph
