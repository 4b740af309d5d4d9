"""``hwkit ops``: the operators, what they accept, and which kernels do them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import complete_op, device_option, json_option
from .output import deliver, line, table

if TYPE_CHECKING:
    from ..backend import Device, Kernel
    from ..op import Op, Problem

__all__ = ["ops"]


@click.command(short_help="The operators, their kernels and samples.")
@click.argument("name", required=False, shell_complete=complete_op)
@device_option
@json_option
def ops(name: str | None, device: str | None, as_json: bool) -> int:
    """List the operators; with NAME, all about one: sizes, attributes, sample problems, kernels.

    The exit code is 1 if the device has no kernel for any of them.
    """
    from ..answers import sampled
    from ..registry import registry

    known = registry()
    opened = _open(device)
    if name:
        op = known.op(name)
        chosen = {op: [op.parse(text) for text in op.samples]}
    else:
        chosen = sampled(known.ops().values())
    found = [_facts(op, problems, opened, count=bool(name)) for op, problems in chosen.items()]
    where = repr(opened) if opened else None
    if not deliver("ops", {"device": where, "ops": found}, as_json):
        if name:
            _show_one(found[0], where)
        else:
            _show_all(found, where)
    return 0 if any(op["kernels"] for op in found) else 1


def _open(name: str | None) -> Device | None:
    """Return the device that is asked for, or the default one if there is one."""
    from ..errors import ArgumentError, HwkitError
    from ..registry import registry
    from ..settings import settings

    if name:
        return registry().device(name)
    try:
        return registry().device(settings().device)
    except ArgumentError:
        raise  # a misspelt name, which is no missing device
    except HwkitError:
        # Operators are worth listing on a machine that cannot run them.
        return None


def _facts(op: Op, problems: list[Problem], device: Device | None, count: bool) -> dict[str, Any]:
    from ..registry import registry

    kernels = registry().kernels(device, op.name) if device else ()
    return {
        "name": op.name,
        "layouts": list(op.layouts),
        "sizes": list(op.sizes),
        "attributes": dict(op.attributes),
        "fusable": op.fusable,
        "constants": list(op.constants),
        "samples": [str(problem) for problem in problems],
        "kernels": [_kernel(k, problems, count) for k in kernels],
    }


def _kernel(kernel: Kernel, problems: list[Problem], count: bool) -> dict[str, Any]:
    from ..answers import asked

    takes = [problem for problem in problems if asked(kernel, problem) is True]
    return {
        "name": kernel.name,
        "version": kernel.version,
        "takes_samples": len(takes),
        # Counting enumerates the spaces, which takes a moment.
        "configs": max((kernel.space(p).size for p in takes), default=0) if count else None,
    }


def _show_all(found: list[dict[str, Any]], device: str | None) -> None:
    table(
        ["op", "layouts", ">samples", f"kernels on {device}" if device else "kernels"],
        [
            [
                op["name"],
                " ".join(op["layouts"]) or "-",
                str(len(op["samples"])),
                " ".join(k["name"] for k in op["kernels"]) or ("none" if device else "no device"),
            ]
            for op in found
        ],
    )
    line()
    line("'hwkit ops NAME' shows an operator's attributes and sample problems.", "dim")


def _show_one(op: dict[str, Any], device: str | None) -> None:
    line(op["name"], "bold")
    attributes = " ".join(f"{n}={_value(v)}" for n, v in op["attributes"].items())
    table(
        ["", ""],
        [
            ["layouts", " ".join(op["layouts"]) or "none"],
            ["sizes", " ".join(op["sizes"])],
            ["attributes", attributes or "none"],
            ["fuses", "bias, residual, activation" if op["fusable"] else "nothing"],
            ["prepacks", ", ".join(op["constants"]) or "nothing"],
        ],
        indent=2,
    )
    line()
    count = len(op["samples"])
    if device is None:
        line("no device to run on: type 'hwkit devices'", "yellow")
    elif not op["kernels"]:
        line(f"no kernel on {device}", "yellow")
    else:
        table(
            [f"kernel on {device}", ">version", ">samples", ">configs"],
            [
                [k["name"], str(k["version"]), f"{k['takes_samples']}/{count}", str(k["configs"])]
                for k in op["kernels"]
            ],
        )
    line()
    line("sample problems", "dim")
    for text in op["samples"]:
        line(text)


def _value(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
