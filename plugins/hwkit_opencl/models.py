"""Analytical models of devices that are not there. Their answer is an Estimate, never a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .profiles import Profile

__all__ = ["Estimate", "Work", "estimate", "fpga_use"]


@dataclass(frozen=True)
class Estimate:
    """Seconds that a model expects. Compared only with Estimates of the same model and device.

    Attributes:
        seconds: of one run.
        device: name of the profile.
        model: name and version of the model.
        inputs: what it was made of.
        confidence: ``"unvalidated"``: no such device has confirmed it.
        source: always ``"model"``.
    """

    seconds: float
    device: str
    model: str
    inputs: Mapping[str, float] = field(default_factory=dict)
    confidence: str = "unvalidated"
    source: str = "model"

    def _other(self, other: object, action: str) -> Estimate:
        if not isinstance(other, Estimate):
            raise TypeError(
                f"an Estimate cannot be {action} {type(other).__name__}: it was not measured"
            )
        if (self.device, self.model) != (other.device, other.model):
            raise TypeError(
                f"an Estimate of {self.model} for {self.device} cannot be {action} one of "
                f"{other.model} for {other.device}"
            )
        return other

    def __lt__(self, other: object) -> bool:
        return self.seconds < self._other(other, "compared with").seconds

    def __gt__(self, other: object) -> bool:
        return self.seconds > self._other(other, "compared with").seconds

    def __truediv__(self, other: object) -> float:
        return self.seconds / self._other(other, "divided by").seconds

    def __rtruediv__(self, other: object) -> float:
        raise TypeError(
            f"{type(other).__name__} cannot be divided by an Estimate: it was not measured"
        )


@dataclass(frozen=True)
class Work:
    """What a kernel does, counted from its text for a Problem and Config.

    Attributes:
        fma: multiply-adds, those of padding included.
        loads: accesses to global memory, each of ``load_bytes``.
        load_bytes: bytes of one access.
        texels: of four floats, read through the texture unit.
        local_loads: accesses to local memory.
        barriers: of all groups together.
        bytes: that must come from memory at least.
        groups: number of groups.
        threads: work-items of a group.
        registers: 32-bit registers of a work-item.
        half: whether elements are stored in 16 bits.
        trips: of the pipelined loop of a single work-item kernel, its unrolled part left out.
        parallel: multiply-adds of the unrolled part.
        ports: elements that one trip reads from memory.
        interleave: sums between two additions to the same one.
        channel_blocks: RAM blocks that hold what is in channels.
    """

    fma: float
    loads: float
    load_bytes: float
    bytes: float
    groups: int = 1
    threads: int = 1
    texels: float = 0.0
    local_loads: float = 0.0
    barriers: float = 0.0
    registers: int = 16
    half: bool = False
    trips: float = 0.0
    parallel: int = 1
    ports: int = 1
    interleave: int = 1
    channel_blocks: int = 0


def estimate(profile: Profile, work: Work) -> Estimate:
    """Return what the model of a profile expects of this work."""
    model = _fpga if profile.family == "fpga" else _mobile
    seconds, inputs = model(profile, work)
    return Estimate(seconds + profile["launch_seconds"], profile.name, profile.model, inputs)


def _mobile(profile: Profile, work: Work) -> tuple[float, dict[str, float]]:
    """The slowest of arithmetic, load/store and memory, less occupied where registers are many.

    Arithmetic at the published rate; one access of up to 128 bits a clock for a work-item of each
    lane of a warp; a texel of four floats takes the texture unit four times as long as one of four
    bytes; local memory is global memory where the profile says so, and then staging costs accesses
    and barriers and saves nothing.
    """
    rate = profile["float16_per_clock"] if work.half else profile["float32_per_clock"]
    cores, clock = profile["cores"], profile["clock_hz"]
    spilled = max(0, work.registers - profile["registers"])
    items = work.groups * work.threads
    loads = work.loads * math.ceil(work.load_bytes / profile["vector_bytes"])
    local = work.local_loads * (1.0 if profile["local_is_global"] else 0.25)
    # What does not fit is written and read again, once for every multiply-add of a register.
    spills = 2.0 * spilled / max(work.registers, 1) * work.fma
    arithmetic = work.fma * 2 / (rate * cores)
    access = (loads + local + spills) / (profile["warp"] * cores)
    access = max(access, 4.0 * work.texels / (profile["texels_per_clock"] * cores))
    memory = (work.bytes + 4.0 * spills) / profile["bandwidth"] * clock
    # Up to 32 registers all threads of a core are there to hide latency, beyond that half of them.
    present = profile["threads_per_core"] / (1 if 2 * work.registers <= profile["registers"] else 2)
    occupied = min(1.0, items / (cores * present))
    whole = work.threads / (math.ceil(work.threads / profile["warp"]) * profile["warp"])
    hidden = 0.5 + 0.5 * min(1.0, occupied * present / profile["threads_per_core"])
    drain = work.barriers * work.threads / (profile["warp"] * cores)
    cycles = max(arithmetic, access) / (hidden * whole) / max(occupied, 1e-3) ** 0.5 + drain
    cycles = max(cycles, memory)
    parts = {"arithmetic": arithmetic, "access": access, "memory": memory, "barriers": drain}
    return cycles / clock, {**parts, "registers": work.registers, "occupied": occupied}


def fpga_use(profile: Profile, work: Work) -> dict[str, float]:
    """Return the share of DSP blocks, RAM blocks and logic that a kernel would take."""
    ram = work.ports * profile["port_ram_blocks"] + (work.parallel if work.interleave > 1 else 0)
    ram += work.channel_blocks
    logic = work.ports * profile["port_logic"] + work.parallel * profile["pe_logic"]
    return {
        "dsp": work.parallel * profile["dsp_per_fma"] / profile["dsp"],
        "ram": ram / profile["ram_blocks"],
        "logic": logic / profile["logic"],
    }


def _fpga(profile: Profile, work: Work) -> tuple[float, dict[str, float]]:
    """Trips of the pipelined loop times its initiation interval, at a clock that use brings down.

    The interval is the latency of an addition over the sums in between; memory gives the share of
    its bandwidth that long bursts reach.
    """
    use = fpga_use(profile, work)
    interval = max(1, math.ceil(profile["add_latency"] / work.interleave))
    clock = profile["clock_hz"] * (1 - 0.5 * max(0.0, max(use.values()) - 0.6))
    pipeline = work.trips * interval / clock
    memory = work.trips * work.ports * work.load_bytes
    memory = max(memory, work.bytes) / (profile["bandwidth"] * profile["bandwidth_share"])
    inputs: dict[str, Any] = {**use, "interval": interval, "clock": clock, "memory": memory}
    return max(pipeline, memory), inputs
