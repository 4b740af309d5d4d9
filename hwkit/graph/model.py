"""Model: a network that has been loaded; ``load`` makes it from a file."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn, Union

from ..arrays import like
from ..errors import ArgumentError, shown
from ..op import Problem
from ..registry import registry
from ..selection import check_tolerance
from ..settings import settings
from .inference import MOST_DECIDING, deciding_inputs, infer
from .inputs import by_name, checked, random_arrays, shapes_of
from .ir import Array, Graph
from .passes import Pass, rewrite
from .program import LATE, Memory, Program
from .reading import default_limit, read, stamp
from .setting import Setting

__all__ = ["Model", "load"]

# Shapes that never repeat must not fill the memory with packed weights.
_MOST_PROGRAMS = 8

Shape = tuple[int, ...]


def load(
    model: Union[str, Path, bytes, Any],
    device: str | None = None,
    *,
    tolerance: float | str | None = None,
    without: Collection[str] = (),
    memory: int | None = None,
    records: bool = True,
) -> Model:
    """Load an ONNX model, ready to run if its input shapes are fixed.

    Args:
        model: path of the file, its bytes, or an ``onnx.ModelProto``. External data are read from
            the file's own folder only.
        device: device name; the default device if ``None``.
        tolerance: relative error that each operator may have, as of a call.
        without: names of passes to leave out, as ``("layout",)``; one alone may be a text.
        memory: most bytes for constants, and for what lies between nodes; half of the machine's
            memory if ``None``.
        records: whether what tuning learnt counts; else every kernel has its default config.

    Raises:
        ArgumentError: the model is damaged, contradicts itself or is too large, or there is no
            pass of a name.
        NoKernel: nodes are of types that are not supported; the message lists all of them.
        Unavailable: the package ``onnx`` is missing, or the device.
    """
    if memory is not None and not (isinstance(memory, Real) and 1 <= memory < math.inf):
        raise ArgumentError(f"memory={shown(memory)} must be a number of bytes above 0")
    limit = default_limit() if memory is None else int(memory)
    known, without = registry().passes(), (without,) if isinstance(without, str) else without
    if not isinstance(without, Collection):
        raise ArgumentError(f"without={shown(without)} must be names of passes: write ('layout',)")
    unknown = [name for name in without if not isinstance(name, str) or name not in known]
    if unknown:
        raise ArgumentError(
            f"there is no pass {shown(unknown[0])} to leave out: there are {', '.join(known)}"
        )
    name = settings().device if device is None else device
    registry().device(name)
    check_tolerance(tolerance)
    chosen = [p for p in known.values() if p.name not in without]
    return Model(read(model, limit), Setting(name, tolerance, limit, records), chosen)


class Model:
    """A network on a device: ``model(x)``.

    Attributes:
        name: the graph's name, or the file's.
        device: name of the device.
        inputs: names of the inputs, in order.
        outputs: names of the outputs, in order.
    """

    def __init__(self, graph: Graph, setting: Setting, passes: Sequence[Pass]) -> None:
        self._graph: Graph | None = graph
        self._inputs = graph.inputs
        self._setting = setting
        self._passes = sorted(passes, key=lambda p: (p.rank, p.name))
        self._deciding = deciding_inputs(graph)
        self._programs: dict[Any, Program] = {}
        self._last: tuple[tuple[Shape, ...], Program] | None = None
        self._lock = threading.Lock()
        self._files = graph.files
        self.name = graph.name
        self.device = setting.device or settings().device
        self.inputs = [value.name for value in graph.inputs]
        self._names = frozenset(self.inputs)
        self.outputs = [value.name for value in graph.outputs]
        if self.fixed_shapes is not None and not self._deciding:
            self.program(self.fixed_shapes)

    @property
    def fixed_shapes(self) -> tuple[Shape, ...] | None:
        """The input shapes, if the model fixes all of them."""
        shapes = [value.shape for value in self._inputs]
        fixed = all(s is not None and all(isinstance(n, int) for n in s) for s in shapes)
        return tuple(tuple(s or ()) for s in shapes) if fixed else None

    @property
    def input_shapes(self) -> dict[str, tuple[Any, ...] | None]:
        """Shapes as the model has them: open sizes are names or ``None``, as an open rank is."""
        return {value.name: value.shape for value in self._inputs}

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Run.

        Args:
            arrays: inputs in order: numpy arrays, or those of another library by DLPack.
            named: inputs by name.

        Returns:
            The output, as an array of the library of the first input; a dictionary by name if
            there are several.

        Raises:
            ArgumentError: an input is missing, unknown, or of another shape than the model's.
            DtypeError: an input is of another dtype.
        """
        found = self.run(by_name(self.inputs, arrays, named))
        first = arrays[0] if arrays else next(iter(named.values()), None)
        if first is not None and hasattr(first, "dtype"):
            found = {name: like(first, array) for name, array in found.items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Run on inputs by name, and return all outputs by name."""
        if not isinstance(inputs, Mapping):
            raise ArgumentError(f"inputs {shown(inputs)} must be arrays by name: a dictionary")
        arrays, program = self.prepared(inputs)
        return dict(zip(self.outputs, program(arrays), strict=True))

    def prepared(self, inputs: Mapping[str, Any]) -> tuple[list[Array], Program]:
        """Return inputs, checked and in order, and what runs for their shapes."""
        if inputs.keys() != self._names:
            raise ArgumentError(
                f"the model takes {', '.join(self.inputs) or 'no inputs'}, not "
                f"{', '.join(map(str, inputs)) or 'none'}"
            )
        arrays = [checked(value, inputs[value.name]) for value in self._inputs]
        shapes = tuple([a.shape for a in arrays])
        last = self._last
        if last is not None and last[0] == shapes and not self._deciding:
            return arrays, last[1]
        deciding = {
            value.name: array
            for value, array in zip(self._inputs, arrays, strict=True)
            if value.name in self._deciding
        }
        return arrays, self.program(shapes, deciding)

    def program(
        self, shapes: tuple[Shape, ...] | None = None, deciding: Mapping[str, Array] | None = None
    ) -> Program:
        """Return what runs for these input shapes, made on first use.

        Args:
            shapes: of the inputs, in order; those of the last run, or of the model, if ``None``.
            deciding: values of the inputs that decide about other shapes.

        Raises:
            ArgumentError: ``shapes`` is left out, and the model fixes none and was never run.
        """
        if shapes is None and self._programs:
            return next(reversed(self._programs.values()))
        wanted = self.fixed_shapes if shapes is None else shapes
        if wanted is None or (self._deciding and deciding is None):
            raise ArgumentError(
                "the model leaves its input shapes open: run it once, then ask again"
            )
        values = {n: a for n, a in (deciding or {}).items() if a.size <= MOST_DECIDING}
        key = wanted, *((name, array.tobytes()) for name, array in values.items())
        with self._lock:
            found = self._programs.pop(key, None)
            if found is None:
                while len(self._programs) >= _MOST_PROGRAMS:
                    del self._programs[next(iter(self._programs))]
                found = Program(self.rewritten(wanted, values), self._setting)
            self._programs[key] = found  # the one used last is the last
            self._last = wanted, found
            return found

    def rewritten(
        self, shapes: tuple[Shape, ...], deciding: Mapping[str, Array] | None = None
    ) -> Graph:
        """Return the Graph for these input shapes, after all passes."""
        graph = self._own_graph()
        for value in graph.inputs:
            value.data = (deciding or {}).get(value.name)
        names = [value.name for value in graph.inputs]
        infer(graph, dict(zip(names, shapes, strict=True)), self._setting)
        rewrite(graph, self._passes, self._setting)
        return graph

    def _own_graph(self) -> Graph:
        """Return the model as it was read, to be rewritten.

        Where the shapes are fixed one Program is enough, and its Plans hold the weights packed. So
        the weights as they were read are not kept; tuning reads the file again.
        """
        graph = self._graph
        if graph is None:
            if any(not path.exists() or stamp(path) != was for path, was in self._files.items()):
                raise ArgumentError(
                    f"the file of model {self.name!r} has changed since it was loaded: load it "
                    "again"
                )
            return read(next(iter(self._files)), self._setting.limit)
        if self._files and self.fixed_shapes is not None and not self._deciding:
            self._graph = None
            return graph
        return graph.clone()

    def problems(self, shapes: tuple[Shape, ...] | None = None) -> dict[Problem, int]:
        """Return the distinct Problems of a run, and how often each is called."""
        counts: dict[Problem, int] = {}
        for step in self.program(shapes_of(self._inputs, shapes)).steps:
            for plan in step.plans:
                counts[plan.problem] = counts.get(plan.problem, 0) + 1
        return counts

    def explain(self, shapes: tuple[Shape, ...] | None = None) -> str:
        """Return what runs, a line for each step: node, kernel, config and source."""
        program = self.program(shapes_of(self._inputs, shapes))
        steps, memory = len(program.steps), program.memory
        between = f"{memory.arena} bytes between nodes (at least {memory.bound})"
        lines = [f"{self.name} on {self.device}, {steps} steps, {between}"]
        for step in program.steps:
            runs = [f"{p.kernel.name} {p.config} ({p.source}) {p.problem}" for p in step.plans]
            what = "; ".join(runs) or ("numpy" if step.bind is not None else LATE)
            lines.append(f"{step.node.type:<20} {step.node.name:<28} {what}")
        return "\n".join(lines)

    def profile(self, *arrays: Any, rounds: int = 10, **named: Any) -> Any:
        """Run several times and return how long each step took.

        Args:
            arrays: inputs in order; random ones if none is given.
            rounds: runs that count, after two that do not.
            named: inputs by name.

        Returns:
            A :class:`hwkit.graph.profile.Profile`; it prints as a table.
        """
        from .profile import profile

        given = by_name(self.inputs, arrays, named) if arrays or named else self.random_inputs()
        return profile(self, given, rounds)

    def random_inputs(
        self, seed: int = 0, batch: int = 1, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, Array]:
        """Return inputs to try the model with.

        Args:
            seed: of the random numbers.
            batch: first size where the model leaves it open; other open sizes are 1.
            shapes: of inputs by name, instead.

        Raises:
            ArgumentError: a shape is not one that the model takes, or too large.
        """
        return random_arrays(self._inputs, self._setting.limit, seed, batch, shapes or {})

    @property
    def memory(self) -> Memory:
        """Bytes of the program used last."""
        return self.program().memory

    def forget(self) -> None:
        """Drop what has been built, so that the next run asks the records again."""
        with self._lock:
            self._programs.clear()
            self._last = None

    def built(self, inputs: Mapping[str, Any], records: Any) -> Program:
        """Return a Program that asks other records; the model itself goes on with its own.

        Args:
            inputs: by name; they fix the shapes.
            records: a Database, or ``False`` for every kernel's default config.
        """
        arrays, _ = self.prepared(inputs)
        named = {v.name: a for v, a in zip(self._inputs, arrays, strict=True)}
        deciding = {name: a for name, a in named.items() if name in self._deciding}
        graph = self.rewritten(tuple(a.shape for a in arrays), deciding)
        return Program(graph, self._setting._replace(records=records))

    def keep(self, new: Program, old: Program) -> None:
        """Let a Program run from now on in the place of another."""
        with self._lock:
            self._programs = {k: new if p is old else p for k, p in self._programs.items()}
            self._last = None

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: object) -> Model:
        # As of a Plan: what a model computes never changes, so that copies may share it.
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a model cannot be pickled, it holds compiled code and memory of this process: load it "
            "where it is needed, by hwkit.load with the same arguments"
        )

    def __repr__(self) -> str:
        return f"<Model {self.name!r} on {self.device}: {len(self.inputs)} inputs>"
