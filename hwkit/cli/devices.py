"""``hwkit devices``: where work can run, and how fast it could."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import json_option
from .output import deliver, line, nbytes, rate, table

if TYPE_CHECKING:
    from ..backend import Device

__all__ = ["devices"]

# The names by which fingerprints may give the same fact.
_UNITS = ("compute_units", "cores", "multiprocessors")
_MEMORY = ("memory", "memory_bytes")
_THREADS = ("threads",)


@click.command(short_help="Where work can run, and how fast it could.")
@json_option
def devices(as_json: bool) -> int:
    """List the devices, their measured ceilings, and what is missing for others.

    The exit code is 3 if there is no device at all.
    """
    from ..errors import Unavailable
    from ..registry import registry

    found = registry().devices()
    opened = [_facts(d) for d in found.values() if not isinstance(d, Unavailable)]
    missing = {name: str(d) for name, d in found.items() if isinstance(d, Unavailable)}
    if not deliver("devices", {"devices": opened, "unavailable": missing}, as_json):
        _show(opened, missing)
    return 0 if opened else 3


def _facts(device: Device) -> dict[str, Any]:
    identity = dict(device.fingerprint.identity)
    return {
        "name": repr(device),
        "backend": device.backend,
        "arch": device.arch,
        "compute_units": _first(identity, _UNITS),
        "threads": _first(identity, _THREADS),
        "memory_bytes": _first(identity, _MEMORY),
        "ceilings": dict(device.ceilings()),
        "identity": identity,
        "environment": dict(device.fingerprint.environment),
    }


def _first(facts: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((facts[name] for name in names if name in facts), None)


def _show(opened: list[dict[str, Any]], missing: dict[str, str]) -> None:
    if opened:
        table(
            [
                "device",
                "arch",
                ">units",
                ">threads",
                ">memory",
                ">float32",
                ">float64",
                ">bandwidth",
            ],
            [_row(facts) for facts in opened],
        )
    if opened and missing:
        line()
    if missing:
        table(["backend", "not available"], list(missing.items()))
    if not opened and not missing:
        line("no plugin brings a backend: type 'hwkit doctor'")


def _row(facts: dict[str, Any]) -> list[str]:
    ceilings = facts["ceilings"]
    return [
        facts["name"],
        facts["arch"],
        _text(facts["compute_units"]),
        _text(facts["threads"]),
        nbytes(facts["memory_bytes"]),
        rate(ceilings.get("float32 flop/s")),
        rate(ceilings.get("float64 flop/s")),
        rate(ceilings.get("byte/s"), "B/s"),
    ]


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
