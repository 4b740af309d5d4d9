"""A problem as a network of ncnn, one layer and its epilogue, for images and for products."""

from __future__ import annotations

from collections.abc import Iterator

from ..op import Problem
from .libraries import POOLS, Array, to_nchw
from .ncnn_model import FUSED, LAYERS, Network, Parameter, activation_values

__all__ = ["of_image", "of_product"]


def of_image(problem: Problem, named: dict[str, Array], packed: bool) -> Network | None:
    """Return a convolution or a pool of one image, or ``None`` if ncnn has none such.

    Args:
        problem: what to compute.
        named: its operands by name.
        packed: whether weights are part of the network, as a convolution of ncnn has them.
    """
    name = problem.op.name
    if name not in ("conv2d", *POOLS) or named["x"].shape[0] != 1:
        return None
    if name == "conv2d":
        return _convolution(problem, named) if packed else None
    return _pool(problem, named)


def _convolution(problem: Problem, named: dict[str, Array]) -> Network:
    network = Network()
    for name in ("x", "residual"):
        if name in named:
            network.input(name, to_nchw(problem, named[name]))
    w = to_nchw(problem, named["w"])
    top, bottom, left, right = problem["pad"]
    (down, across), (tall, wide) = problem["stride"], problem["dilation"]
    numbers: dict[int, Parameter] = {
        0: w.shape[0], 1: w.shape[3], 11: w.shape[2], 2: wide, 12: tall, 3: across, 13: down,
        4: left, 15: right, 14: top, 16: bottom, 5: int("bias" in named), 6: w.size,
    }  # fmt: skip
    fused = "residual" not in named and _fused(problem, numbers)
    grouped = problem["groups"] > 1
    if grouped:
        numbers[7] = problem["groups"]
    network.layer("ConvolutionDepthWise" if grouped else "Convolution", ["x"], numbers)
    network.weights(w)
    if "bias" in named:
        network.weights(named["bias"], tagged=False)
    _finish(network, problem, named, fused)
    return network


def _fused(problem: Problem, numbers: dict[int, Parameter]) -> bool:
    """Add the activation to a layer's numbers; say whether that can be."""
    if problem.activation is None:
        return True
    name, parameters = problem.activation
    if name not in FUSED:
        return False
    numbers[9] = FUSED[name]
    values = activation_values(name, parameters)
    if values:
        numbers[10] = values
    return True


def _finish(network: Network, problem: Problem, named: dict[str, Array], fused: bool) -> None:
    if "residual" in named:
        network.layer("BinaryOp", [network.output, "residual"], {0: 0})
    if fused or problem.activation is None:
        return
    name, parameters = problem.activation
    values = activation_values(name, parameters)
    network.layer(LAYERS[name], [network.output], dict(enumerate(values)))


def of_product(
    problem: Problem, named: dict[str, Array], packed: bool
) -> Iterator[tuple[str, Network]]:
    """Yield the layers that compute a matrix product, each with its name.

    Args:
        problem: what to compute.
        named: its operands by name.
        packed: whether the second operand is part of the network.
    """
    if problem.op.name == "matmul":
        network = Network()
        network.input("a", named["a"])
        network.input("b", named["b"])
        network.layer("MatMul", ["a", "b"], {})
        yield "MatMul", network
        return
    if problem["alpha"] != 1.0 or "c" in named:
        return
    yield "Gemm", _gemm(problem, named, packed)
    if packed and problem.layout[0] == "n":
        yield "InnerProduct", _inner_product(problem, named)


def _gemm(problem: Problem, named: dict[str, Array], packed: bool) -> Network:
    network = Network()
    network.input("a", named["a"])
    if not packed:
        network.input("b", named["b"])
    for name in ("bias", "residual"):
        if name in named:
            network.input(name, named[name])
    # 5: the second operand is constant; 10: there is no third one.
    numbers: dict[int, Parameter] = {
        2: int(problem.layout[0] == "t"), 3: int(problem.layout[1] == "t"), 5: int(packed), 6: 1,
        10: -1,
    }  # fmt: skip
    if packed:
        numbers |= {8: problem["n"], 9: problem["k"]}
    network.layer("Gemm", ["a"] if packed else ["a", "b"], numbers)
    if packed:
        network.weights(named["b"])
    if "bias" in named:
        network.layer("BinaryOp", [network.output, "bias"], {0: 0})
    _finish(network, problem, named, fused=False)
    return network


def _inner_product(problem: Problem, named: dict[str, Array]) -> Network:
    network = Network()
    for name in ("a", "residual"):
        if name in named:
            network.input(name, named[name])
    b = named["b"] if problem.layout[1] == "t" else named["b"].T
    numbers: dict[int, Parameter] = {0: problem["n"], 1: int("bias" in named), 2: b.size}
    fused = "residual" not in named and _fused(problem, numbers)
    network.layer("InnerProduct", ["a"], numbers)
    network.weights(b)
    if "bias" in named:
        network.weights(named["bias"], tagged=False)
    _finish(network, problem, named, fused)
    return network


def _pool(problem: Problem, named: dict[str, Array]) -> Network | None:
    network = Network()
    network.input("x", to_nchw(problem, named["x"]))
    name = problem.op.name
    average = int("avg" in name)
    if name.startswith("global"):
        network.layer("Pooling", ["x"], {0: average, 4: 1})
        return network
    if problem.attributes.get("dilation", (1, 1)) != (1, 1):
        return None
    top, bottom, left, right = problem["pad"]
    down, across = problem["stride"]
    # 5: 0 pads as far as the last window reaches (ceil), 1 only as far as is told (floor).
    network.layer("Pooling", ["x"], {
        0: average, 1: problem["s"], 11: problem["r"], 2: across, 12: down,
        3: left, 14: right, 13: top, 15: bottom, 5: int(not problem["ceil_mode"]),
        6: int(bool(average and problem["count_include_pad"])),
    })  # fmt: skip
    return network
