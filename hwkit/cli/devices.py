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
_CACHES = ("l1d", "l2", "l3")

_LEFT = ("device", "arch")


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
        "emulated": device.emulated,
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
        rows = [_row(facts) for facts in opened]
        # What no device here knows takes no column.
        kept = [name for name in rows[0] if any(row[name] != "-" for row in rows)]
        table(
            [name if name in _LEFT else f">{name}" for name in kept],
            [[row[name] for name in kept] for row in rows],
        )
    if opened and missing:
        line()
    if missing:
        table(["backend", "not available"], list(missing.items()))
    if not opened and not missing:
        line("no plugin brings a backend: type 'hwkit doctor'")


def _row(facts: dict[str, Any]) -> dict[str, str]:
    ceilings = facts["ceilings"]
    caches = [facts["identity"][name] for name in _CACHES if name in facts["identity"]]
    return {
        "device": facts["name"],
        "arch": facts["arch"],
        "units": _text(facts["compute_units"]),
        "threads": _text(facts["threads"]),
        "caches": ", ".join(map(nbytes, caches)) or "-",
        "memory": nbytes(facts["memory_bytes"]),
        "float32": rate(ceilings.get("float32 flop/s")),
        "float64": rate(ceilings.get("float64 flop/s")),
        "bandwidth": rate(ceilings.get("byte/s"), "B/s"),
    }


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
