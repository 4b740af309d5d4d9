"""Products and convolutions of 8-bit integers, ``cython/int8.c``: exact in every dtype mix."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from hwkit import Config, Kernel, KernelFailure, Problem, Run, Space

from . import int8_shape, tiles
from .amx import unavailable
from .device import compiled
from .tiles import Value

__all__ = ["Int8Depthwise", "Int8Product", "Int8Tiles", "kernels"]

BYTES = ("int8", "uint8")
KC = (128, 256, 512, 1024, 2048, 4096)
PIXELS = (1, 12, 24, 48, 96, 192, 384, 768)
TILE_PIXELS = (16, 32, 64, 128, 256, 512, 1024)
CHANNELS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def kernels() -> list[Kernel]:
    """Return the kernels of this module."""
    ops = ("conv2d", "gemm", "matmul", "qconv2d", "qmatmul")
    products = [kind(op) for kind in (Int8Tiles, Int8Product) for op in ops]
    return [*products, *(Int8Depthwise(op) for op in ("conv2d", "qconv2d"))]


class _Tiles(NamedTuple):
    """The tiles of the best table: columns of a vector, widest first, and whether int16 panels."""

    vector: int
    shapes: tuple[tuple[int, int], ...]
    widths: tuple[bool, ...]


@cache
def _tiles() -> _Tiles:
    found, vector, _ = compiled().int8_tiles()
    most: dict[int, int] = {}
    for _, rows, vectors in found:
        most[vectors] = max(rows, most.get(vectors, 0))
    shapes = sorted(((r, v) for v, r in most.items()), key=lambda tile: -tile[0] * tile[1])
    return _Tiles(vector, tuple(shapes), tuple(sorted({narrow for narrow, _, _ in found})))


def _amx_tiles() -> _Tiles:
    """Return blocks of one, two or four tiles of 16 rows and 16 columns."""
    return _Tiles(16, ((32, 2), (32, 1), (16, 2), (16, 1)), (True,))


class _Int8(tiles.ProductKernel):
    """What both kernels have in common.

    Args:
        op: name of the Op.
    """

    def __init__(self, op: str) -> None:
        self.op = op

    def supports(self, problem: Problem) -> bool | str:
        """8-bit operands and int32 sums, nothing empty, nothing fused that leaves the integers."""
        dtypes = problem.dtypes
        if not {dtypes.input, dtypes.weight} <= {*BYTES} or dtypes.accumulate != "int32":
            return f"it multiplies int8 and uint8 with int32 sums, not {dtypes}"
        if dtypes.output not in (*BYTES, "int32", "float32"):
            return f"it makes no {dtypes.output}"
        if "residual" in problem.epilogue:
            return "it adds no residual"
        if problem.op.name == "gemm" and (problem["alpha"], problem["beta"]) != (1.0, 0.0):
            return "it takes alpha=1 and beta=0 only"
        if not all(o.nbytes for o in (problem.output, *problem.operands)):
            return "there is nothing to compute"
        return True

    def build(self, problem: Problem, config: Config) -> Run:
        """Return the compiled run."""
        operands, output = tiles.operand_arguments(problem)
        quantised = "per_channel" in problem.attributes
        try:
            run: Run = compiled().int8_product(
                operands,
                output,
                **int8_shape.as_convolution(problem),
                bias="bias" in problem.epilogue,
                scales=problem.dtypes.output != "int32",
                zeros=quantised,
                per_channel=quantised and problem["per_channel"],
                activation=problem.activation,
                **self._tunables(config),
            )
        except MemoryError as error:
            raise KernelFailure("memory", str(error)) from error
        return run

    def _tunables(self, config: Config) -> dict[str, Any]:
        raise NotImplementedError

    def deterministic(self, problem: Problem, config: Config) -> bool:
        """Sums of integers do not depend on their order."""
        return True

    def error_bound(self, problem: Problem, config: Config) -> float:
        """Return 0: the answer is exact."""
        return 0.0


class Int8Product(_Int8):
    """Pixels (rows) against panels of weights; convolutions without an unfolded image.

    Tunables: ``narrow`` keeps weights as int8 in their panels; ``pixels`` and ``channels`` are a
    chunk, ``kc`` the depth of a part of it.
    """

    name = "int8_product"
    _PIXELS: tuple[int, ...] = PIXELS

    def _shapes(self) -> _Tiles:
        return _tiles()

    def _text(self, tile: tuple[int, int]) -> str:
        return f"{tile[0]}x{tile[1] * self._shapes().vector}"

    def space(self, problem: Problem) -> Space:
        """Return tile, blocks, width of the panels, and threads."""
        shape = int8_shape.as_convolution(problem)
        deep = tiles.covering(KC, int8_shape.depth(shape))
        many = tiles.covering(self._PIXELS, int8_shape.pixels(shape))
        wide = tiles.covering(CHANNELS, int8_shape.channels(shape))
        return Space(
            {
                "tile": [self._text(tile) for tile in self._shapes().shapes],
                "narrow": self._shapes().widths,
                "kc": KC,
                "pixels": self._PIXELS,
                "channels": CHANNELS,
                "threads": tiles.thread_ladder(False),
            },
            [
                (lambda kc: kc <= deep, "kc beyond the depth changes nothing"),
                (lambda pixels: pixels <= many, "pixels beyond the image change nothing"),
                (lambda channels: channels <= wide, "channels beyond those of a group do nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return blocks for the caches found here."""
        shape, known = int8_shape.as_convolution(problem), tiles.facts(False)
        threads = tiles.threads_for(problem, False)
        pixels, channels = int8_shape.pixels(shape), int8_shape.channels(shape)
        others = int8_shape.images(shape)
        # Pixels of a chunk, as int16, have half of the second cache.
        _, c, *_ = shape["sizes"]
        stride_y, stride_x = shape["stride"] if int8_shape.taps(shape) > 1 else (1, 1)
        pixel_bytes = 2 * c * stride_y * stride_x
        most, again = known.l2 / 2 / pixel_bytes, 4.0 + int8_shape.halo(shape)
        block = tiles.balanced(self._PIXELS, pixels, others, threads, most, again)
        chunks = -(-pixels // block) * others
        width = tiles.covering(CHANNELS, channels)
        while chunks * -(-channels // width) < threads and width > CHANNELS[0]:
            width = CHANNELS[CHANNELS.index(width) - 1]
        values: dict[str, Value] = {
            "tile": self._text(self._shapes().shapes[0]),
            "narrow": True,
            "kc": min(1024, tiles.covering(KC, int8_shape.depth(shape))),
            "pixels": block,
            "channels": width,
            "threads": threads,
        }
        return Config(values)

    def _tunables(self, config: Config) -> dict[str, Any]:
        values: dict[str, Any] = dict(config)
        rows, columns = map(int, values.pop("tile").split("x"))
        return {**values, "rows": rows, "vectors": columns // self._shapes().vector}

    def rank(self, problem: Problem) -> int:
        """First, unless every channel is a group."""
        return 1


class Int8Tiles(Int8Product):
    """The same by tiles (AMX). Its speed was not measured by hwkit on hardware with AMX."""

    name = "amx_int8_product"
    _PIXELS = TILE_PIXELS

    def supports(self, problem: Problem) -> bool | str:
        """Where there are tiles, the same."""
        found = super().supports(problem)
        return (unavailable("amx") or True) if found is True else found

    def _shapes(self) -> _Tiles:
        return _amx_tiles()

    def _tunables(self, config: Config) -> dict[str, Any]:
        return {**super()._tunables(config), "tiles": True}

    def rank(self, problem: Problem) -> int:
        """First where rows and depth fill a tile."""
        shape = int8_shape.as_convolution(problem)
        return 2 if int8_shape.pixels(shape) >= 16 and int8_shape.depth(shape) >= 64 else 0


class Int8Depthwise(_Int8):
    """A window over each channel by itself, in vectors of channels."""

    name = "int8_depthwise"

    def supports(self, problem: Problem) -> bool | str:
        """As many groups as input and output channels."""
        if not problem["groups"] == problem["c"] == problem["k"]:
            return f"it needs groups={problem['c']} and as many output channels"
        return super().supports(problem)

    def space(self, problem: Problem) -> Space:
        """Return the chunk and threads."""
        shape = int8_shape.as_convolution(problem)
        many = tiles.covering(PIXELS, int8_shape.pixels(shape))
        wide = tiles.covering(CHANNELS, problem["c"])
        return Space(
            {"pixels": PIXELS, "channels": CHANNELS, "threads": tiles.thread_ladder(False)},
            [
                (lambda pixels: pixels <= many, "pixels beyond the image change nothing"),
                (lambda channels: channels <= wide, "channels beyond those there are do nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return many rows of as many channels as leave the strip in the second cache.

        Bytes are made quads of 32 channels at a time, as many as planes are worth turning for.
        """
        shape, known = int8_shape.as_convolution(problem), tiles.facts(False)
        threads = tiles.threads_for(problem, False)
        pixels, images = int8_shape.pixels(shape), problem["n"]
        stride_y, stride_x = problem["stride"]
        quads = compiled().int8_quads()
        widest = 256 if not quads else 512 if problem.layout == "nhwc" else 32
        channels = min(tiles.covering(CHANNELS, problem["c"]), widest)
        strip = known.l2 if quads else known.l2 / 4
        most = strip / (channels * stride_y * stride_x)
        columns = -(-problem["c"] // channels)
        again = 4.0 + int8_shape.halo(shape)
        block = tiles.balanced(PIXELS, pixels, images * columns, threads, most, again)
        values: dict[str, Value] = {"pixels": block, "channels": channels, "threads": threads}
        return Config(values)

    def _tunables(self, config: Config) -> dict[str, Any]:
        return {**config, "depthwise": True}

    def rank(self, problem: Problem) -> int:
        """First where it can run."""
        return 3
