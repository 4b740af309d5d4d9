"""Plan: Problem + Device + Kernel + Config, built and callable; it knows its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from .arrays import as_operand, check_buffer, check_out, like, writable_view
from .backend import Device, Kernel, Run
from .calls import Call
from .config import Config
from .errors import ArgumentError, HwkitError, KernelFailure, Unavailable
from .op import Operand, Problem
from .records import Match
from .runs import Held, Raised, Watched, built, fast_path

__all__ = ["Plan"]

Array = np.ndarray[Any, Any]


class Plan(Call):
    """A call, planned once: ``plan(x, w, bias, out=y)``.

    It takes arrays as in ``operands``, of any strides, byte order or library. ``out`` is where to
    put the result, which may overlap an operand; a new array of the library of the first operand
    if ``None``. The answer is ``out`` or that array. Numbers, shapes or dtypes of arrays that do
    not fit are an ArgumentError or a DtypeError.

    Attributes:
        problem: what is computed.
        device: where.
        kernel: by what.
        config: with which tunables.
        source: why this one: ``"user record"``, ``"shipped record"``, ``"nearest record"`` or
            ``"default"``.
        match: the record it comes from and how well it fits, or ``None``.
        operands: what a call takes, in order.
    """

    __slots__ = (
        "_instead", "_otherwise", "_replan", "_run", "config", "device", "kernel", "match",
        "operands", "problem", "source",
    )  # fmt: skip

    def __init__(
        self,
        problem: Problem,
        device: Device,
        kernel: Kernel,
        config: Config,
        *,
        run: Run | None = None,
        source: str = "default",
        match: Match | None = None,
        operands: tuple[Operand, ...] | None = None,
        replan: Callable[..., Plan] | None = None,
    ) -> None:
        self.problem = problem
        self.device = device
        self.kernel = kernel
        self.config = config
        self.source = source
        self.match = match
        self.operands = problem.operands if operands is None else operands
        self._replan = replan
        self._otherwise: Callable[[HwkitError], Plan] | None = None
        self._instead: Callable[[HwkitError], Plan | None] | None = None
        self._run: Run = built(kernel, problem, config) if run is None else run
        self._direct = fast_path(self._run)

    def __copy__(self) -> Plan:
        return self

    def __deepcopy__(self, memo: object) -> Plan:
        # A plan never changes; what copies a model with plans in it may share them.
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a plan cannot be pickled, it holds compiled code and memory of this process: make it "
            "where it is needed, by hwkit.plan with the same arguments"
        )

    def fall_back(self, otherwise: Callable[[HwkitError], Plan]) -> None:
        """Say which plan takes over when the device is lost, or has no memory left, in a call.

        Args:
            otherwise: given what went wrong, returns that plan, or raises what is to be raised.
        """
        self._otherwise = otherwise

    def replace_by(self, instead: Callable[[HwkitError], Plan | None], watched: bool) -> None:
        """Say by what the kernel is replaced when its own code fails in a call.

        Args:
            instead: given what went wrong, returns the plan by another kernel of the device, which
                this one is from then on, or ``None`` if there is none.
            watched: whether its fast path may raise as well: that of a stranger's kernel.
        """
        self._instead = instead
        if watched:
            self._direct = Watched(self._direct)

    def _become(self, other: Plan) -> None:
        self._instead = other._instead
        self._run, self._direct = other._run, other._direct
        self.kernel, self.config = other.kernel, other.config
        self.source, self.match = other.source, other.match

    def _general(self, operands: tuple[Any, ...], out: Any) -> Any:
        try:
            return self._answer(operands, out)
        except (KernelFailure, Unavailable) as error:
            if isinstance(error, Raised) and self._instead is not None:
                other = self._instead(error)
                if other is not None:
                    self._become(other)
                    return self._general(operands, out)
            if self._otherwise is None:
                raise
            if isinstance(error, KernelFailure) and error.failure not in ("memory", "launch"):
                raise
            return self._otherwise(error)(*operands, out=out)

    def _answer(self, operands: tuple[Any, ...], out: Any) -> Any:
        if len(operands) != len(self.operands):
            names = ", ".join(o.name for o in self.operands)
            raise ArgumentError(
                f"this plan takes {len(self.operands)} arrays ({names}), not {len(operands)}"
            )
        if operands and self.device.owns(operands[0]):
            return self._on_device(operands, out)
        arrays = [as_operand(a, o) for a, o in zip(operands, self.operands, strict=True)]
        if out is not None:
            view, output = writable_view(out), self.problem.output
            check_out(view, output.shape, output.dtype)
            self._into(view, arrays, operands)
            return out
        result = self._new(arrays)
        return like(operands[0], result) if operands and hasattr(operands[0], "dtype") else result

    def _fill(self, buffer: Any, arrays: Iterable[Any]) -> None:
        """Run into a buffer of the device.

        Raises:
            Raised: the kernel's own code did.
        """
        try:
            self._run(*map(self.device.put, arrays), out=buffer)
        except HwkitError:
            raise
        except (Exception, SystemExit) as error:
            raise Raised.by(self, error) from error

    def _new(self, arrays: list[Array]) -> Array:
        output = self.problem.output
        buffer = self.device.empty(output.shape, output.dtype)
        self._fill(buffer, arrays)
        return self.device.get(buffer)

    def _into(self, out: Array, arrays: list[Array], given: tuple[Any, ...]) -> None:
        output = self.problem.output
        usable = out.flags.carray and out.dtype == output.dtype and out.dtype.isnative
        if usable and not any(np.may_share_memory(out, a) for a in arrays):
            buffer = self.device.put(out)
            if buffer is out:
                self._fill(buffer, arrays)
                return
        np.copyto(out, self._new(arrays), casting="same_kind")

    def _on_device(self, operands: tuple[Any, ...], out: Any) -> Any:
        """Run on buffers that live on the device already; the answer stays there."""
        given = [self._given(a, o) for a, o in zip(operands, self.operands, strict=True)]
        output = self.problem.output
        view = None
        if out is not None and self.device.owns(out):
            check_buffer(out, output._replace(name="out"))
            buffer = out
        else:
            view = None if out is None else writable_view(out)
            if view is not None:
                check_out(view, output.shape, output.dtype)
            buffer = self.device.empty(output.shape, output.dtype)
        self._fill(buffer, given)
        if view is None:
            return buffer
        np.copyto(view, self.device.get(buffer), casting="same_kind")
        return out

    def prepack(self, *constants: Any, storage: str | None = None, **named: Any) -> Plan:
        """Return a plan that keeps its own, packed copy of the operands that do not change.

        Args:
            constants: the Op's constants (``Op.constants``) that this problem has, in order: weight
                and bias of a convolution.
            storage: dtype in which to keep them, for speed where time is memory's: ``"bfloat16"``
                or ``"int8"`` (with scales; for finite numbers). The plan's tolerance must admit the
                rounding: 2.5e-3 and 9e-3 on the CPU. ``None`` for their own dtype.
            named: the same by name.

        Returns:
            A plan that takes the other operands, by the kernel that is fastest when packing takes
            no time. Later changes to the arrays given here are not seen by it.

        Raises:
            ArgumentError: too many, unknown or ill-shaped arrays.
            NoKernel: no kernel keeps them in ``storage`` within the tolerance.
        """
        names = [o.name for o in self.operands if o.name in self.problem.op.constants]
        if len(constants) > len(names) or not set(named) <= set(names[len(constants) :]):
            raise ArgumentError(
                f"prepack takes {', '.join(names) or 'nothing'} of this plan, not "
                f"{len(constants)} arrays{' and ' + ', '.join(named) if named else ''}"
            )
        given = {**dict(zip(names, constants, strict=False)), **named}
        # The first constant is the large one; packing it decides what is fastest.
        whole = bool(names) and names[0] in given
        if self._replan is not None and whole and not self.problem.packed:
            packed = self._replan(self.problem.with_packed(), storage=storage)
            return packed.prepack(*constants, **named)
        if storage not in (None, self.kernel.storage):
            raise ArgumentError(
                f"storage={storage!r}: this plan cannot choose another kernel for it: give prepack "
                f"{names[0] if names else 'constants'}, on a plan that is not packed yet"
            )
        held = {
            position: self._given(given[operand.name], operand)
            for position, operand in enumerate(self.operands)
            if operand.name in given
        }
        rest = tuple(o for o in self.operands if o.name not in given)
        pack = getattr(self._run, "prepack", None)
        if pack is None:
            run: Run = Held(self._run, held, self.device)
        else:
            buffers = {position: self.device.put(array) for position, array in held.items()}
            try:
                run = pack(buffers)
            except HwkitError:
                raise
            except (Exception, SystemExit) as error:
                raise Raised.by(self, error) from error
        return self._with(run, rest)

    def _given(self, array: Any, operand: Operand) -> Any:
        """Return an array of the user's: where it lies, if that is the device already."""
        if not self.device.owns(array):
            return as_operand(array, operand)
        check_buffer(array, operand)
        return array

    def on(self, stream: Any) -> Plan:
        """Return the same plan, all of whose work goes to one stream of the device.

        Args:
            stream: what the device's library calls a stream, or its handle: of CUDA, one of torch,
                CuPy, pycuda or cuda.core.

        Raises:
            ArgumentError: the device has no streams, or it is none.
        """
        on = getattr(self._run, "on", None)
        if on is None:
            raise ArgumentError(f"{self.device} has no streams: leave stream= out")
        replan = self._replan
        again = None if replan is None else lambda *a, **k: replan(*a, **k).on(stream)
        return self._with(on(stream), self.operands, again)

    def _with(
        self, run: Run, operands: tuple[Operand, ...], replan: Callable[..., Plan] | None = None
    ) -> Plan:
        made = Plan(
            self.problem, self.device, self.kernel, self.config,
            run=run, source=self.source, match=self.match, operands=operands, replan=replan,
        )  # fmt: skip
        if isinstance(self._direct, Watched):
            made._direct = Watched(made._direct)
        return made

    @property
    def x_apart(self) -> bool:
        """Whether, if out is given, the first operand may be part of a wider array, uncopied."""
        return bool(getattr(self._run, "x_apart", False))

    @property
    def out_apart(self) -> bool:
        """Whether ``out`` may be part of a wider array, ``wide[..., 8:24]``, without a copy."""
        return bool(getattr(self._run, "out_apart", False))

    @property
    def workspace(self) -> int:
        """Bytes of scratch memory that a run needs."""
        return self.kernel.workspace(self.problem, self.config)

    def __repr__(self) -> str:
        return (
            f"<Plan {self.problem} on {self.device} by {self.kernel.name}"
            f"{' ' + str(self.config) if self.config else ''} ({self.source})>"
        )
