"""What a command runs a model with: arrays from files, and random ones of given sizes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..graph import Model

__all__ = ["ModelPath", "arrays_for", "inputs_options"]

F = TypeVar("F", bound=Callable[..., Any])


class ModelPath(click.Path):
    """The path of a model; a problem in its place is told how to be given."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            ArgumentError: it is no file, and its first word is an operator.
        """
        from ..registry import registry

        text = str(value)
        if (
            " " in text
            and not os.path.exists(text)
            and text.split(maxsplit=1)[0] in registry().ops()
        ):
            command = "tune" if ctx is not None and ctx.info_name == "tune" else "bench peers"
            raise ArgumentError(
                f"'{text}' is a problem, not a model: type 'hwkit {command} --problem \"{text}\"'"
            )
        return super().convert(value, param, ctx)


def inputs_options(function: F) -> F:
    """Add ``--input`` and ``--shape``."""
    shape = click.option(
        "--shape", "shapes", multiple=True, metavar="NAME=SIZES",
        help="Sizes of an input that the model leaves open, as images=1x3x640x640; 1 for those not "
        "given. Repeatable.",
    )  # fmt: skip
    array = click.option(
        "--input", "inputs", multiple=True, metavar="NAME=FILE",
        help="An input, from a .npy file; random numbers for those not given. Repeatable.",
    )  # fmt: skip
    return array(shape(function))


def arrays_for(model: Model, inputs: tuple[str, ...], shapes: tuple[str, ...]) -> dict[str, Any]:
    """Return the inputs of a model: those named as ``name=file.npy``, and random ones.

    Open sizes that nobody gave are said on stderr: what holds for a size of 1 is of little use.

    Raises:
        ArgumentError: an input is not known, does not fit, or its file cannot be read.
    """
    import numpy as np

    from ..graph.archive import restored

    sizes = dict(_sizes(model, text) for text in shapes)
    files = dict(_named(model, "--input", text, "file.npy") for text in inputs)
    twice = next((name for name in sizes if name in files), None)
    if twice is not None:
        raise ArgumentError(f"input {twice!r} has its sizes from its file: leave --shape out")
    found = model.random_inputs(shapes=sizes)
    for name, file in files.items():
        try:
            found[name] = restored(np.load(Path(file), allow_pickle=False))
        except (OSError, ValueError) as error:
            raise ArgumentError(
                f"input file '{file}' cannot be read ({error}): write it with numpy.save"
            ) from None
    _say_open(model, {*sizes, *files})
    return found


def _named(model: Model, option: str, text: str, what: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name not in model.inputs or not value:
        raise ArgumentError(
            f"{option} {text!r} must be name={what}; the model takes {', '.join(model.inputs)}"
        )
    return name, value


def _sizes(model: Model, text: str) -> tuple[str, tuple[int, ...]]:
    name, value = _named(model, "--shape", text, "sizes, as 1x3x224x224")
    parts = value.replace(",", "x").split("x")
    if not all(part.isdecimal() for part in parts):
        raise ArgumentError(f"--shape {text!r} must end in sizes: write them as 1x3x224x224")
    return name, tuple(map(int, parts))


def _say_open(model: Model, given: set[str]) -> None:
    """Say which sizes are 1 for want of a better; one image or sentence at once is what it is."""
    for name, shape in model.input_shapes.items():
        if name in given:
            continue
        if shape is None:
            click.echo(
                f"hwkit: note: the model leaves the whole shape of {name!r} open, one number is "
                f"taken: give it, as --shape {name}=1x3x224x224",
                err=True,
            )
            continue
        if all(isinstance(n, int) for n in shape[1:]):
            continue
        declared = ", ".join("?" if n is None else str(n) for n in shape)
        better = "x".join(
            str(n) if isinstance(n, int) else "1" if i == 0 else "224" for i, n in enumerate(shape)
        )
        click.echo(
            f"hwkit: note: open sizes of {name!r} ({declared}) are taken as 1: give others, as "
            f"--shape {name}={better}",
            err=True,
        )
