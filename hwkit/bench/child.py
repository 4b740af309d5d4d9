"""The child's side of PeerProcess: reads orders, answers in JSON lines, times one library."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..dispatch import parse_problem
from ..errors import HwkitError, KernelFailure, cause
from ..graph.archive import restored
from ..op import Problem, relative_error
from .libraries import Library, Variant, load
from .quantised import ROUNDING, operands_of

__all__ = ["Child", "main"]

# A sample is at least this long, and as much goes before it uncounted: a library that was stopped
# has to fetch code and data back into the caches, and to wake its threads.
_SAMPLE_SECONDS = 1e-3
# Other libraries are asked for the same answer, not for hwkit's budget of rounding.
_SLACK = 10.0
# A variant is judged by the best of at least so many runs, over at least so many seconds.
_TRIES, _TRY_SECONDS = 7, 0.02


class _Best(NamedTuple):
    seconds: float
    error: float
    variant: Variant


class Child:
    """One library, and the problem that it has been told to run."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self._run: Callable[[], Any] | None = None
        self._runs = 1

    def build(self, problem: str, reference: str | None, packed: bool) -> dict[str, Any]:
        """Keep the fastest of the variants that answer right."""
        self._run = None
        asked = parse_problem(problem)
        operands = operands_of(asked)
        want = _reference(asked, reference)
        budget = asked.error_budget()
        if not self.library.ours:
            narrow = asked.dtypes.output in ("int8", "uint8")
            budget = ROUNDING if narrow else budget * _SLACK
        found = self.library.variants(asked, operands, packed)
        best, failures = self._fastest(found, want, budget)
        reply = self._keep(best, failures, f"{asked.op.name} of this kind")
        return {**reply, "roofline": self.library.roofline(asked)}

    def _fastest(
        self, variants: Iterator[Variant], want: np.ndarray[Any, Any], budget: float
    ) -> tuple[_Best | None, list[KernelFailure]]:
        best: _Best | None = None
        failures: list[KernelFailure] = []
        for variant in _until_failure(variants, failures):
            try:
                error = self._check(variant, budget, want)
                seconds = _quick(variant.run)
            except KernelFailure as failure:
                failures.append(failure)
                continue
            if best is None or seconds < best.seconds:
                best = _Best(seconds, error, variant)
        return best, failures

    def _keep(self, best: _Best | None, failures: list[KernelFailure], what: str) -> dict[str, Any]:
        if best is None:
            none = KernelFailure("launch", f"{self.library.name} has no {what}")
            raise failures[0] if failures else none
        self._run = best.variant.run
        self._runs = 1
        return {
            "variant": best.variant.name,
            "error": best.error,
            "rejected": [str(failure) for failure in failures],
            "roofline": None,
        }

    def network(
        self, model: str, inputs: str, reference: str, budget: float, options: dict[str, Any]
    ) -> dict[str, Any]:
        """Do so with a whole model; the answer is compared as one row of all outputs.

        Args:
            model: path of the file.
            inputs: of an ``.npz`` file.
            reference: of an ``.npy`` file.
            budget: relative error that an answer may have.
            options: of :func:`hwkit.load`.
        """
        self._run = None
        with np.load(Path(inputs), allow_pickle=False) as held:
            arrays = {name: restored(held[name]) for name in held.files}
        want = np.load(Path(reference), allow_pickle=False)
        found = self.library.networks(Path(model), arrays, options)
        best, failures = self._fastest(found, want, budget)
        return self._keep(best, failures, "way to run this network")

    def _check(self, variant: Variant, budget: float, want: np.ndarray[Any, Any]) -> float:
        try:
            # The second answer counts: what is timed later is a call like it.
            variant.run()
            answer = variant.result(variant.run())
        except (HwkitError, MemoryError):
            raise
        except Exception as raised:
            reason = str(raised).strip().splitlines() or [type(raised).__name__]
            raise KernelFailure("launch", f"{variant.name}: {reason[0][:200]}") from None
        error = relative_error(answer, want)
        if not error <= budget:
            raise KernelFailure(
                "wrong", f"{variant.name}: relative error {error:.1e} exceeds {budget:.1e}"
            )
        return error

    def warm(self, seconds: float) -> dict[str, Any]:
        """Run for a while, and choose how many runs make a sample."""
        run = self._built()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            times.append(_time(run, 1))
        once = sorted(times)[len(times) // 2]
        self._runs = max(1, math.ceil(_SAMPLE_SECONDS / max(once, 1e-9)))
        return {"seconds": once}

    def time(self, samples: int) -> dict[str, Any]:
        """Time, after as many runs as a sample has that are not counted."""
        run = self._built()
        _time(run, self._runs)
        return {"samples": [_time(run, self._runs) for _ in range(samples)]}

    def _built(self) -> Callable[[], Any]:
        if self._run is None:
            raise KernelFailure("launch", "nothing has been built")
        return self._run


def _until_failure(variants: Iterator[Variant], failures: list[KernelFailure]) -> Iterator[Variant]:
    """Yield variants; one that cannot be made ends them, without those before it being lost."""
    try:
        yield from variants
    except KernelFailure as failure:
        failures.append(failure)
    except (HwkitError, MemoryError):
        raise
    except Exception as error:
        failures.append(KernelFailure("launch", cause(error)))


def _reference(problem: Problem, path: str | None) -> np.ndarray[Any, Any]:
    if path is not None:
        loaded: np.ndarray[Any, Any] = np.load(Path(path), allow_pickle=False)
        return loaded
    return problem.reference(*[a.astype(np.float64) for a in operands_of(problem)])


def _time(run: Callable[[], Any], runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        run()
    return (time.perf_counter() - start) / runs


def _quick(run: Callable[[], Any]) -> float:
    times: list[float] = []
    while len(times) < _TRIES or sum(times) < _TRY_SECONDS:
        times.append(_time(run, 1))
    return min(times)


def _answer(child: Child, order: dict[str, Any]) -> dict[str, Any]:
    orders: dict[str, Callable[..., dict[str, Any]]]
    orders = {
        "build": child.build, "network": child.network, "warm": child.warm, "time": child.time,
    }  # fmt: skip
    try:
        reply = orders[order.pop("do")](**order)
    except KernelFailure as error:
        return {"failure": error.failure, "reason": str(error)}
    except MemoryError:
        return {"failure": "memory", "reason": "not enough memory"}
    except HwkitError as error:
        return {"failure": "launch", "reason": str(error)}
    except Exception as error:
        return {"failure": "launch", "reason": cause(error)}
    return reply


def _send(stream: BinaryIO, reply: dict[str, Any]) -> None:
    stream.write(json.dumps(reply).encode() + b"\n")
    stream.flush()


def main(name: str, threads: int) -> None:
    """Serve orders from standard input until it closes."""
    # Ctrl-C is for the parent, which ends its children. A process group of its own, in the same
    # session, also makes the kernel end this process if the parent dies while it is stopped.
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    # Libraries print; what they print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        library = load(name, threads)
    except Exception as error:
        _send(answers, {"failure": "launch", "reason": cause(error)})
        return
    _send(answers, {"version": library.version})
    child = Child(library)
    for order in sys.stdin.buffer:
        _send(answers, _answer(child, json.loads(order)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
