"""Products and convolutions of 8-bit integers, ``cython/int8.c``: exact in every dtype mix."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from hwkit import Config, Kernel, KernelFailure, Problem, Run, Space

from . import tiles
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
                **_shape(problem),
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
        shape = _shape(problem)
        deep = tiles.covering(KC, _depth(shape))
        many = tiles.covering(self._PIXELS, _pixels(shape))
        wide = tiles.covering(CHANNELS, _channels(shape))
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
        shape, known = _shape(problem), tiles.facts(False)
        threads = tiles.threads_for(problem, False)
        pixels, channels = _pixels(shape), _channels(shape)
        others = _images(shape)
        # Pixels of a chunk, as int16, have half of the second cache.
        _, c, *_ = shape["sizes"]
        stride_y, stride_x = shape["stride"] if _taps(shape) > 1 else (1, 1)
        pixel_bytes = 2 * c // shape["groups"] * stride_y * stride_x
        block = tiles.balanced(self._PIXELS, pixels, others, threads, known.l2 / 2 / pixel_bytes)
        chunks = -(-pixels // block) * others
        width = tiles.covering(CHANNELS, channels)
        while chunks * -(-channels // width) < threads and width > CHANNELS[0]:
            width = CHANNELS[CHANNELS.index(width) - 1]
        values: dict[str, Value] = {
            "tile": self._text(self._shapes().shapes[0]),
            "narrow": True,
            "kc": min(1024, tiles.covering(KC, _depth(shape))),
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
        return (unavailable() or True) if found is True else found

    def _shapes(self) -> _Tiles:
        return _amx_tiles()

    def _tunables(self, config: Config) -> dict[str, Any]:
        return {**super()._tunables(config), "tiles": True}

    def rank(self, problem: Problem) -> int:
        """First where rows and depth fill a tile."""
        shape = _shape(problem)
        return 2 if _pixels(shape) >= 16 and _depth(shape) >= 64 else 0


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
        shape = _shape(problem)
        many = tiles.covering(PIXELS, _pixels(shape))
        wide = tiles.covering(CHANNELS, problem["c"])
        return Space(
            {"pixels": PIXELS, "channels": CHANNELS, "threads": tiles.thread_ladder(False)},
            [
                (lambda pixels: pixels <= many, "pixels beyond the image change nothing"),
                (lambda channels: channels <= wide, "channels beyond those there are do nothing"),
            ],
        )

    def default(self, problem: Problem) -> Config:
        """Return many rows of as many channels as leave the strip in the second cache."""
        shape, known = _shape(problem), tiles.facts(False)
        threads = tiles.threads_for(problem, False)
        pixels, images = _pixels(shape), problem["n"]
        stride_y, stride_x = problem["stride"]
        channels = min(tiles.covering(CHANNELS, problem["c"]), 256)
        most = known.l2 / 2 / (2 * channels * stride_y * stride_x)
        columns = -(-problem["c"] // channels)
        block = tiles.balanced(PIXELS, pixels, images * columns, threads, most)
        values: dict[str, Value] = {"pixels": block, "channels": channels, "threads": threads}
        return Config(values)

    def _tunables(self, config: Config) -> dict[str, Any]:
        return {**config, "depthwise": True}

    def rank(self, problem: Problem) -> int:
        """First where it can run."""
        return 3


def _shape(problem: Problem) -> dict[str, Any]:
    """Return the problem as a convolution: a matrix product is one of 1 x 1."""
    if problem.op.name.endswith("conv2d"):
        nhwc = problem.layout == "nhwc"
        out = problem.output.shape
        top, _, left, _ = problem["pad"]
        return {
            "sizes": [problem[name] for name in ("n", "c", "h", "w", "k", "r", "s")],
            "out_size": out[1:3] if nhwc else out[2:4],
            "pad": (top, left),
            "stride": problem["stride"],
            "dilation": problem["dilation"],
            "groups": problem["groups"],
            "x_planes": not nhwc,
            "y_planes": not nhwc,
            "w_order": "krsc" if nhwc else "kcrs",
        }
    m, n, k = (problem[name] for name in "mnk")
    layout = problem.layout or "nn"
    shape = {
        "sizes": [1, k, 1, m, n, 1, 1],
        "out_size": (1, m),
        "stride": (1, 1),
        "groups": 1,
        "x_planes": layout[0] == "t",
        "y_planes": False,
        "w_order": "ck" if layout[1] == "n" else "krsc",
    }
    if problem.op.name != "gemm":
        shared = problem["shared"]
        shape |= {"batch": problem["b"], "x_shared": shared == "a", "w_shared": shared == "b"}
    return shape


def _depth(shape: dict[str, Any]) -> int:
    return int(shape["sizes"][1] // shape["groups"] * _taps(shape))


def _taps(shape: dict[str, Any]) -> int:
    return int(shape["sizes"][5] * shape["sizes"][6])


def _channels(shape: dict[str, Any]) -> int:
    return int(shape["sizes"][4] // shape["groups"])


def _pixels(shape: dict[str, Any]) -> int:
    """Return the output pixels of an image; those of a batch with one matrix are one image."""
    p, q = shape["out_size"]
    return int(p * q) * (shape["batch"] if shape.get("w_shared") else 1)


def _images(shape: dict[str, Any]) -> int:
    batch = 1 if shape.get("w_shared") else shape.get("batch", 1)
    return int(shape["sizes"][0] * shape["groups"] * batch)
