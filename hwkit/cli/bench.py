"""``hwkit bench peers``: hwkit against the libraries that are installed here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ArgumentError, Unavailable
from .bench_table import Screen, Silent
from .commands import INTERRUPTED, NOT_FOUND, OK
from .options import complete_op, json_option, peers_named, problems
from .output import deliver

if TYPE_CHECKING:
    from ..bench.sets import Layer
    from ..bench.suite import Suite

__all__ = ["bench"]


_MODEL = "hwkit bench MODEL"
"""Where a context keeps the words of a command that times a network."""


class _Bench(click.Command):
    """``hwkit bench peers ...`` is ``hwkit bench ...``; with a model it is another command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--asv" not in args and any(word.endswith(".onnx") for word in args):
            # All options are that command's, those before the model as well.
            ctx.meta[_MODEL] = args
            args = []
        return super().parse_args(ctx, args[1:] if args[:1] == ["peers"] else args)


@click.command(
    cls=_Bench,
    short_help="hwkit against other libraries.",
    context_settings={"allow_interspersed_args": False},
)
@click.option("--problem", "texts", multiple=True, metavar="TEXT", help="A problem; repeatable.")
@click.option(
    "--op",
    "op_names",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_op,
    help="The sample problems of an operator; repeatable.",
)
@click.option(
    "--set",
    "set_names",
    multiple=True,
    metavar="NAME",
    help="resnet50, mobilenetv1, vgg16, pool, gemm, gemm-skinny or gemm-tiny; repeatable.",
)
@click.option(
    "--peers",
    metavar="LIST",
    help="Libraries to compare with, with commas: "
    "numpy,torch,onnxruntime,openvino,xnnpack,ncnn,mnn, or none; by default all that are "
    "installed.",
)
@click.option("--threads", metavar="LIST", help="Numbers of threads, as 1,2; 1 by default.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=15,
    metavar="N",
    help="Turns of each library per problem; 15 by default.",
)
@click.option(
    "--weights",
    type=click.Choice(["auto", "packed", "plain"]),
    default="auto",
    help="Whether constant operands are packed beforehand; auto: for conv2d and gemm.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64", "float16", "bfloat16", "int8", "uint8"]),
    default="float32",
    metavar="NAME",
    help="Of a set: float32 by default; float64, float16, bfloat16, or int8 and uint8, which are "
    "quantised problems with int8 weights.",
)
@click.option(
    "--layout",
    type=click.Choice(["nchw", "nhwc"]),
    default="nhwc",
    help="Layout of hwkit's images in a set; nhwc by default. The others take what suits them.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Images at once in the convolutions of a set; 1 by default.",
)
@click.option(
    "--epilogue",
    metavar="TEXT",
    default="",
    help="What the problems of a set fuse, as +bias+relu; nothing by default.",
)
@click.option(
    "--asv",
    is_flag=True,
    help="Hand all that follows to asv in asv_bench/, as in 'hwkit bench --asv run'.",
)
@json_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[ASV ARGUMENTS]")
@click.pass_context
def bench(
    ctx: click.Context,
    texts: tuple[str, ...],
    op_names: tuple[str, ...],
    set_names: tuple[str, ...],
    peers: str | None,
    threads: str | None,
    rounds: int,
    weights: str,
    dtype: str,
    layout: str,
    batch: int,
    epilogue: str,
    asv: bool,
    as_json: bool,
    words: tuple[str, ...],
) -> int:
    """Time hwkit, tuned and default, against the libraries that are installed.

    'hwkit bench peers' is the same. Every answer is checked against float64 before it is timed.
    Each library has a process of its own; they take turns, the order flipped each round. A ratio
    is the median over the rounds of their time over hwkit's: above 1, hwkit is the faster. The
    last column has the best of the others for each problem, and the mean over these.

    'hwkit bench model.onnx' times a network instead, step by step; 'hwkit bench model.onnx --help'
    has its options.

    The exit code is 1 if hwkit fails on a problem.
    """  # fmt: skip
    if asv:
        return _asv(words)
    if _MODEL in ctx.meta:
        from .bench_model import bench_model

        code: int = bench_model.main(
            ctx.meta[_MODEL], prog_name="hwkit bench", standalone_mode=False
        )
        return code
    if words:
        raise click.UsageError(f"'{words[0]}' is not expected here", ctx)
    chosen = _layers(texts, op_names, set_names, {
        "dtype": dtype, "layout": layout, "batch": batch, "epilogue": epilogue,
    })  # fmt: skip
    libraries = ["hwkit", "hwkit-default", *_names(peers, chosen)]
    packed = {"auto": None, "packed": True, "plain": False}[weights]
    screen = Silent() if as_json else Screen(chosen)
    suites, interrupted = _run(chosen, libraries, _numbers(threads), rounds, packed, screen)
    deliver("bench", {"runs": [suite.to_json() for suite in suites]}, as_json)
    failed = any(row.seconds is None for suite in suites for row in suite.rows)
    if interrupted:
        return INTERRUPTED
    return NOT_FOUND if failed else OK


def _run(
    layers: list[Layer],
    libraries: list[str],
    threads: list[int],
    rounds: int,
    packed: bool | None,
    screen: Silent,
) -> tuple[list[Suite], bool]:
    from ..bench.suite import Suite, run

    suites: list[Suite] = []
    for number in threads:
        suites.append(Suite(number))
        try:
            run(suites[-1], layers, libraries, rounds=rounds, packed=packed,
                on_start=screen.start, on_row=screen.row)  # fmt: skip
        except KeyboardInterrupt:
            screen.finish(suites[-1])
            kept = "the rows above are complete" if suites[-1].rows else "no row was complete"
            click.echo(f"hwkit: interrupted; {kept}", err=True)
            return suites, True
        screen.finish(suites[-1])
    return suites, False


def _layers(
    texts: Sequence[str],
    op_names: Sequence[str],
    set_names: Sequence[str],
    options: dict[str, Any],
) -> list[Layer]:
    from ..bench.sets import Layer, layers
    from ..dispatch import parse_problem

    found: list[Layer] = []
    for name in set_names:
        found += layers(name, **options)
    if texts or op_names:
        found += [Layer(str(problem)) for problem in problems(texts, (), op_names)]
    if not found:
        raise ArgumentError(
            'there is nothing to time: add --set resnet50, --op conv2d or --problem "..."'
        )
    return [Layer(str(parse_problem(layer.problem)), layer.times) for layer in found]


def _names(text: str | None, chosen: list[Layer]) -> list[str]:
    """Return the peers that are asked for; without a wish, all but those that cannot compete."""
    from ..bench.process import LIBRARIES

    known = [name for name in LIBRARIES if not name.startswith("hwkit")]
    if text is not None:
        return peers_named(text, known)
    # numpy has products (by OpenBLAS); for the rest it would only cost time.
    products = any(layer.problem.startswith(("gemm ", "matmul ")) for layer in chosen)
    return [name for name in known if products or name != "numpy"]


def _numbers(text: str | None) -> list[int]:
    words = (text or "1").split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise ArgumentError(f"--threads {text} must be whole numbers of at least 1, as in 1,2")
    return [int(word) for word in words]


def _asv(words: tuple[str, ...]) -> int:
    """Run asv on the configuration of the clone that this is."""
    here = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    config = next((f for p in here if (f := p / "asv_bench" / "asv.conf.json").is_file()), None)
    if config is None:
        raise Unavailable("asv_bench/ is not here: type this in a clone of hwkit's repository")
    program = shutil.which("asv", path=str(Path(sys.executable).parent)) or shutil.which("asv")
    if program is None:
        raise Unavailable("asv is not installed: pip install 'hwkit[bench]'")
    command: list[Any] = [program, *words[:1], "--config", config.name, *words[1:]]
    done = subprocess.run(command if words else [program, "--help"], cwd=config.parent, check=False)
    return done.returncode
