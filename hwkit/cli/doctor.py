"""``hwkit doctor``: what is installed, what is broken, and which settings are in force."""

from __future__ import annotations

from typing import Any

import click

from .checkup import Check, checkup
from .options import json_option
from .output import console, deliver, line

__all__ = ["doctor"]

_SIGNS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "broken": ("broken", "red")}


@click.command(short_help="What is installed, and what is broken.")
@json_option
def doctor(as_json: bool) -> int:
    """Check the installation: versions, plugins, devices, compiled modules, database, settings.

    The exit code is 1 if something is broken. A device that is not there is a note, not a fault.
    """
    checks = checkup()
    broken = [check for check in checks if check.state == "broken"]
    payload: dict[str, Any] = {
        "ok": not broken,
        "checks": [check.to_json() for check in checks],
    }
    if not deliver("doctor", payload, as_json):
        _show(checks)
        line()
        if broken:
            names = ", ".join(f"{check.area} {check.name}".strip() for check in broken)
            line(f"{len(broken)} broken: {names}", "bold red")
        else:
            line("nothing is broken", "bold green")
    return 1 if broken else 0


def _show(checks: list[Check]) -> None:
    from rich.text import Text

    out = console()
    width = max(len(check.name) for check in checks)
    area = ""
    for check in checks:
        if check.area != area:
            if area:
                line()
            area = check.area
            line(area, "bold")
        sign, style = _SIGNS[check.state]
        text = Text(f"  {check.name:<{width}}  ")
        if check.state != "ok":
            text.append(f"{sign}: ", style)
        text.append(check.text)
        out.print(text, soft_wrap=True)
        for detail in check.detail.splitlines():
            out.print(Text(f"    {detail}", "dim"), soft_wrap=True)
