"""elementwise: each element on its own, ``activation(x op other)``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..arrays import host_view
from ..errors import ArgumentError, shown
from ..op import Attribute, Dtypes, Op, Operand, Problem, numpy_dtype
from .activations import activation_word, formula
from .checks import check_rank, check_shape, common_dtype
from .epilogue import Activation, compute_dtype, result_dtype
from .reshaped import call_reshaped

__all__ = ["ELEMENTWISE", "OPERATORS", "Elementwise", "elementwise", "folded"]

Array = np.ndarray[Any, Any]
Folded = tuple[int, int, int, int]

OPERATORS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "prelu": lambda x, slope: np.where(x < 0, x * slope, x),
}
"""What joins x and the other operand."""

_SAMPLES = (
    # The scores of MobileNet-SSD, an image of MobileNetV3, a layer of a transformer.
    "float32 b=1 n=1 c=183360 l=1 activation=sigmoid",
    "float32 b=1 n=1 c=200704 l=1 activation=hard_swish",
    "float32 b=1 n=1 c=393216 l=1 activation=gelu",
    # Two images; gates of channels, last and first; factors of channels.
    "float32 b=1 n=1 c=200704 l=1 operator=add activation=relu",
    "float32 b=1 n=784 c=120 l=1 operator=multiply",
    "float32 b=1 n=1 c=120 l=784 operator=multiply",
    "float32 b=2 n=49 c=33 l=1 operator=add activation=leaky_relu:0.1",
    "float64 b=2 n=3 c=5 l=17 operator=subtract activation=tanh",
    "float32 b=1 n=1 c=1000 l=1 activation=mish",
    "float32 b=1 n=1 c=1000 l=1 activation=elu:1.5",
    "float16 b=1 n=1 c=4099 l=1 activation=silu",
)


class Elementwise(Op):
    """The contract of :func:`elementwise`.

    Sizes: x is ``(b, n, c, l)`` and the other operand ``(b, 1, c, 1)``, which is what numpy's
    broadcasting comes to in networks: equal shapes are all in ``c``, a value for each channel has
    the pixels in ``n`` or in ``l``, and gates of a batch of images have their batch in ``b``.
    """

    name = "elementwise"
    sizes = ("b", "n", "c", "l")
    attributes: Mapping[str, Attribute] = {"operator": "none", "activation": "none"}
    arguments = ("operator", "activation")
    samples = tuple(f"elementwise {rest}" for rest in _SAMPLES)

    def problem(
        self,
        x: Any,
        other: Any = None,
        *,
        operator: str = "add",
        activation: Activation = None,
    ) -> Problem:
        """Return the Problem of a call whose operands have the shapes of the contract."""
        dtypes = common_dtype(x=x, other=other)
        if other is not None:
            _check_operator(operator)
        shape = check_rank("x", x, self.sizes)
        check_shape("other", other, (shape[0], 1, shape[2], 1), "as x has (b, n, c, l)")
        return self.make(
            dtypes,
            "",
            dict(zip(self.sizes, shape, strict=True)),
            {"operator": "none" if other is None else operator, "activation": activation},
        )

    def make(
        self,
        dtypes: Dtypes | str,
        layout: str,
        sizes: Mapping[str, int],
        attributes: Mapping[str, Any] | None = None,
        epilogue: tuple[str, ...] = (),
        packed: bool = False,
    ) -> Problem:
        """Return a Problem whose activation is written in one way."""
        given = dict(attributes or {})
        given["activation"] = activation_word(given.get("activation"))
        return super().make(dtypes, layout, sizes, given, epilogue, packed)

    def check(self, problem: Problem) -> None:
        """Check that there is an operator of that name."""
        super().check(problem)
        if problem["operator"] != "none":
            _check_operator(problem["operator"])

    def operands(self, problem: Problem) -> tuple[Operand, ...]:
        """Return x, and the other operand if there is an operator."""
        b, n, c, length = problem.sizes.values()
        dtype = numpy_dtype(problem.dtypes.input)
        x = Operand("x", (b, n, c, length), dtype)
        other = Operand("other", (b, 1, c, 1), dtype)
        return (x,) if problem["operator"] == "none" else (x, other)

    def output(self, problem: Problem) -> Operand:
        """Return y, of the shape of x."""
        shape = tuple(problem.sizes.values())
        return Operand("y", shape, numpy_dtype(problem.dtypes.output))

    def flops(self, problem: Problem) -> int:
        """Return one for each element, and one for the operator."""
        steps = 1 if problem["operator"] == "none" else 2
        return steps * math.prod(problem.sizes.values())

    def reference(self, problem: Problem, *operands: Array) -> Array:
        """Compute with numpy's broadcasting."""
        wide = [a.astype(compute_dtype(*operands)) for a in operands]
        with np.errstate(all="ignore"):
            y = OPERATORS[problem["operator"]](*wide) if len(wide) > 1 else wide[0]
            return np.asarray(formula(problem["activation"], y)).astype(result_dtype(*operands))


def _check_operator(operator: Any) -> None:
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise ArgumentError(
            f"operator={shown(operator)} is not known: choose one of {', '.join(OPERATORS)}"
        )


ELEMENTWISE = Elementwise()


def folded(shape: tuple[int, ...], other: tuple[int, ...] | None) -> Folded | None:
    """Return the sizes b, n, c and l that shapes come to.

    Args:
        shape: of x, and of the result.
        other: of the other operand, ``None`` if there is none.

    Returns:
        ``None`` if numpy's broadcasting makes another shape, or comes to no such sizes.
    """
    if other is None:
        return 1, 1, math.prod(shape), 1
    if len(other) > len(shape):
        return None
    groups: list[tuple[bool, int]] = []
    for size, theirs in zip(shape, (1,) * (len(shape) - len(other)) + other, strict=True):
        if theirs not in (1, size):
            return None
        if size == 1:
            continue
        there = theirs == size
        before = groups.pop()[1] if groups and groups[-1][0] == there else 1
        groups.append((there, before * size))
    # The other operand has b and c, but not n and l.
    patterns = {
        (): (), (True,): (2,), (False,): (3,), (True, False): (2, 3), (False, True): (1, 2),
        (True, False, True): (0, 1, 2), (False, True, False): (1, 2, 3),
        (True, False, True, False): (0, 1, 2, 3),
    }  # fmt: skip
    places = patterns.get(tuple(there for there, _ in groups))
    if places is None:
        return None
    sizes = [1, 1, 1, 1]
    for place, (_, size) in zip(places, groups, strict=True):
        sizes[place] = size
    return sizes[0], sizes[1], sizes[2], sizes[3]


def elementwise(
    x: Any,
    other: Any = None,
    *,
    operator: str = "add",
    activation: Activation = None,
    out: Any = None,
    device: str | None = None,
    tolerance: float | str | None = None,
) -> Any:
    """Return ``activation(x operator other)``, each element on its own.

    Parameters
    ----------
    x : array
        Any shape; float32, float64, float16 or bfloat16. The two narrow types are computed in
        float32 and rounded once.
    other : array, optional
        Of the dtype of ``x``, and of a shape that broadcasts to that of ``x``.
    operator : str
        ``"add"``, ``"subtract"``, ``"multiply"``, ``"divide"``, ``"maximum"``, ``"minimum"``, or
        ``"prelu"`` (``other`` is the slope of what is below 0).
    activation : str, tuple or None
        ``"relu"``, ``"relu6"``, ``("clip", lo, hi)``, ``"leaky_relu:0.01"``, ``"sigmoid"``,
        ``"hard_sigmoid:0.2,0.5"``, ``"hard_swish"``, ``"silu"``, ``"tanh"``, ``"exp"``,
        ``"elu:1"``, ``"erf"``, ``"gelu"``, ``"gelu_tanh"`` or ``"mish"``.
    out : array, optional
        Where to put the result; may overlap an operand.
    device : str, optional
        ``"cpu:0"``; by default that of :func:`hwkit.use`, or the default device.
    tolerance : float or {"strict", "deterministic"}, optional
        As of :func:`hwkit.ops.conv2d`.

    Returns
    -------
    array
        Of the shape, dtype and library of ``x``.

    Raises
    ------
    ArgumentError
        The shapes do not broadcast to that of ``x``, or an option is not known.
    DtypeError
        The dtype is not supported, or the two differ.
    NoKernel
        No kernel of the device takes the problem with this tolerance.

    Examples
    --------
    >>> x = np.array([[-1, 2], [3, -4]], np.float32)
    >>> elementwise(x, np.array([1, 2], np.float32), activation="relu")
    array([[0., 4.],
           [4., 0.]], dtype=float32)
    """
    given, x = x, host_view(x, "x")
    shape = x.shape
    if isinstance(other, str):
        raise ArgumentError(f"other={other!r} must be an array: for a name write activation=")
    other = None if other is None else host_view(other, "other")
    sizes = folded(shape, None if other is None else other.shape)
    if sizes is None:
        other = _spread(other, shape)
        sizes = folded(shape, shape)
        assert sizes is not None
    b, _, c, _ = sizes
    operands = (x.reshape(sizes), None if other is None else other.reshape(b, 1, c, 1))
    arguments = (operator, activation)
    return call_reshaped(
        ELEMENTWISE, operands, arguments, sizes, shape, given, out, device, tolerance
    )


def _spread(other: Array, shape: tuple[int, ...]) -> Array:
    try:
        return np.ascontiguousarray(np.broadcast_to(other, shape))
    except ValueError:
        raise ArgumentError(
            f"other has shape {other.shape}, which does not broadcast to that of x, {shape}"
        ) from None
