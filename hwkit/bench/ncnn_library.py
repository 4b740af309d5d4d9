"""ncnn: a network of one layer and its epilogue, in float32, with images plain and blocked."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..op import Problem
from .libraries import (
    PRODUCTS,
    Array,
    Library,
    Variant,
    flat,
    float32_only,
    from_nchw,
    nchw_shape,
    to_nchw,
)
from .ncnn_model import Network
from .ncnn_problem import of_image, of_product

__all__ = ["Ncnn"]

ncnn: Any = import_module("ncnn")

# Elements that ncnn's blocked layouts keep side by side, the widest first.
_BLOCKS = (16, 8, 4)


class Ncnn(Library):
    """ncnn on the CPU: one image, Winograd and packing allowed, nothing below float32."""

    name = "ncnn"

    def __init__(self, threads: int) -> None:
        self.version = str(ncnn.__version__)
        self._threads = threads
        ncnn.set_omp_num_threads(threads)

    def variants(
        self, problem: Problem, operands: tuple[Array, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the network with plain images, and with those blocks that divide the channels."""
        named = {o.name: a for o, a in zip(problem.operands, operands, strict=True)}
        if any(array.dtype != np.float32 for array in operands):
            return
        if problem.op.name in PRODUCTS:
            for label, made in of_product(problem, named, packed):
                yield self._variant(label, made, problem, 1)
            return
        network = of_image(problem, named, packed)
        if network is None:
            return
        yield self._variant("plain", network, problem, 1)
        channels = to_nchw(problem, named["x"]).shape[1]
        for block in [b for b in _BLOCKS if channels % b == 0][:2]:
            yield self._variant(f"blocks of {block}", network, problem, block)

    def networks(
        self, model: Path, inputs: dict[str, Array], options: dict[str, Any]
    ) -> Iterator[Variant]:
        """Yield the network; its layers choose between plain and blocked images."""
        if not float32_only(inputs):
            return
        from .ncnn_network import written

        network, outputs = written(model, inputs)
        net = network.load(self._threads)
        given = [(name, _matrix(a, 1, True)) for name, a in network.inputs.items()]

        def run() -> list[Any]:
            extractor = net.create_extractor()
            for name, matrix in given:
                extractor.input(name, matrix)
            return [extractor.extract(name) for name in outputs]

        def result(answers: list[tuple[int, Any]]) -> Array:
            if any(code != 0 for code, _ in answers):
                raise ValueError(f"ncnn ended with codes {[code for code, _ in answers]}")
            return flat(np.array(matrix) for _, matrix in answers)

        yield Variant("packing allowed", run, result)

    def _variant(self, label: str, network: Network, problem: Problem, block: int) -> Variant:
        net = network.load(self._threads)
        images = problem.op.name not in PRODUCTS
        inputs = [(name, _matrix(a, block, images)) for name, a in network.inputs.items()]
        # 0 asks for an answer that is unpacked, 1 for the layout that it has.
        output, kind = network.output, int(block > 1)

        def run() -> Any:
            extractor = net.create_extractor()
            for name, matrix in inputs:
                extractor.input(name, matrix)
            return extractor.extract(output, kind)

        def result(answer: tuple[int, Any]) -> Array:
            code, matrix = answer
            if code != 0:
                raise ValueError(f"ncnn ended with code {code}")
            if matrix.elempack > 1:
                matrix = ncnn.convert_packing(matrix, 1)
            if not images:
                return np.array(matrix).reshape(problem.output.shape)
            return from_nchw(problem, np.array(matrix).reshape(nchw_shape(problem)))

        return Variant(label, run, result)


def _matrix(array: Array, block: int, image: bool) -> Any:
    # A matrix made of an array neither owns it nor keeps it alive. The copy does, and has the
    # alignment between channels that ncnn's kernels expect.
    held = np.ascontiguousarray(array[0] if image else array)
    made = ncnn.Mat(held).clone()
    return ncnn.convert_packing(made, block) if block > 1 else made
