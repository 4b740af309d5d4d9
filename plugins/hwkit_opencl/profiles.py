"""Profiles of devices that are emulated: every number with its standing and its source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from .limits import Limits

__all__ = ["NAMES", "Number", "Profile", "profile"]

NAMES = ("mali-g52", "mali-g76", "mali-g78", "adreno-640", "fpga-arria10", "fpga-stratix10")
"""What can be emulated, by the name behind ``opencl:``."""


@dataclass(frozen=True)
class Number:
    """One number of a profile.

    Attributes:
        value: the number; sizes in bytes, rates a second or a clock of one core.
        standing: ``"published"`` or ``"unverified"``.
        source: where it is from.
    """

    value: Any
    standing: str
    source: str


@dataclass(frozen=True)
class Profile:
    """A device that is not there.

    Attributes:
        name: as in ``opencl:mali-g76``.
        title: what it is, for people.
        family: ``"mobile"`` or ``"fpga"``.
        model: name and version of the model that estimates times.
        numbers: by name.
    """

    name: str
    title: str
    family: str
    model: str
    numbers: dict[str, Number]

    def __getitem__(self, name: str) -> Any:
        """Return the value of a number."""
        return self.numbers[name].value

    def limits(self, alignment: int) -> Limits:
        """Return what the device would refuse beyond; the memory is the host device's."""
        return Limits(
            work_group=self["work_group"],
            local_memory=self["local_memory"],
            allocation=self["allocation"],
            alignment=alignment,
            float64=self["float64"],
            registers=self["registers"],
            texels=self["texels"],
        )

    def describe(self) -> str:
        """Return a line for each number: value, standing and source."""
        rows = [f"{self.title} (emulated; times are estimates of the model {self.model})"]
        for name, number in sorted(self.numbers.items()):
            rows.append(f"{name} = {number.value}  [{number.standing}: {number.source}]")
        return "\n".join(rows)


@cache
def profile(name: str) -> Profile:
    """Return the profile of that name."""
    text = (files(__package__) / "profiles" / f"{name}.json").read_text("utf-8")
    data = json.loads(text)
    numbers = {key: Number(**number) for key, number in data["numbers"].items()}
    return Profile(data["name"], data["title"], data["family"], data["model"], numbers)
