"""``hwkit explain``: why a problem runs as it does."""

from __future__ import annotations

import click

from ..errors import ArgumentError
from .options import device_option, json_option, read_tolerance, tolerance_option
from .output import deliver, line

__all__ = ["explain"]


@click.command(short_help="Why a problem runs as it does.")
@click.argument("problem", nargs=-1, required=True)
@device_option
@tolerance_option
@json_option
def explain(
    problem: tuple[str, ...], device: str | None, tolerance: str | None, as_json: bool
) -> int:
    """Say which kernel runs PROBLEM, from which record, and why not another.

    \b
    hwkit explain "gemm float32 nn m=512 n=512 k=512"

    Shown are the record's age, its ties, its share of the roofline, who declined and why.
    """
    from ..explanation import explain as why

    if len(problem) == 1 and problem[0].endswith(".onnx"):
        raise ArgumentError(
            f"'{problem[0]}' is a model, not a problem: type 'hwkit run {problem[0]} --explain'"
        )
    found = why(" ".join(problem), device, read_tolerance(tolerance))
    if not deliver("explain", found.to_json(), as_json):
        line(str(found))
    return 0
