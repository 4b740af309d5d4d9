"""Emulated devices: what they refuse, and estimates that are never taken for measurements."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit import Config
from hwkit.cli import main
from hwkit.dispatch import parse_problem
from hwkit.errors import ArgumentError
from hwkit.measure import Measurement
from hwkit.op import relative_error
from hwkit.records import Database
from hwkit.registry import registry
from hwkit.testing import unavailable
from hwkit_opencl.failures import Refused
from hwkit_opencl.models import Work, estimate
from hwkit_opencl.profiles import NAMES, profile

needs_opencl = pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0"))
SOME = Work(fma=1e7, loads=1e6, load_bytes=16, bytes=1e6, groups=4096, threads=64, registers=24)
MOBILE = NAMES[:4]


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_profile_has_a_standing_and_a_source(name: str) -> None:
    """No number without where it is from, and the description shows both."""
    found = profile(name)
    assert found.name == name
    for key, number in found.numbers.items():
        assert number.standing in ("published", "unverified")
        assert number.source
        assert f"{key} = {number.value}  [{number.standing}: " in found.describe()
    # An FPGA has no registers to run out of, and says so.
    assert found["registers"] > 0 or "private memory" in found.numbers["registers"].source


def test_estimates_and_measurements_do_not_mix() -> None:
    """Comparing or dividing the two is a type error, either way round; so is another model."""
    guess = estimate(profile("mali-g76"), SOME)
    measured = Measurement(1e-3)
    for action in (
        lambda: guess < measured,
        lambda: measured < guess,  # type: ignore[operator]
        lambda: guess / measured,
        lambda: measured / guess,  # type: ignore[operator]
        lambda: 1.0 / guess,
        lambda: min([guess, 1e-3]),  # type: ignore[type-var]
        lambda: guess < estimate(profile("mali-g78"), SOME),
    ):
        with pytest.raises(TypeError):
            action()
    slower = estimate(profile("mali-g76"), replace(SOME, fma=1e9))
    assert guess < slower
    assert slower / guess > 1
    assert (guess.source, guess.confidence) == ("model", "unvalidated")


@pytest.mark.parametrize("name", MOBILE)
def test_more_work_never_takes_less_time(name: str) -> None:
    """The model grows with bytes, accesses, multiply-adds, barriers and registers."""
    known = profile(name)
    base = estimate(known, SOME).seconds
    for field in ("bytes", "loads", "fma", "barriers", "local_loads"):
        for factor in (2, 100):
            more = replace(SOME, **{field: max(getattr(SOME, field), 1e5) * factor})
            assert estimate(known, more).seconds >= base, field
    registers = [estimate(known, replace(SOME, registers=r)).seconds for r in range(16, 300, 7)]
    assert registers == sorted(registers)
    assert registers[-1] > registers[0]


@pytest.mark.parametrize("name", MOBILE[:3])
def test_half_is_faster_and_staging_never_wins_on_mali(name: str) -> None:
    """Arithmetic in half has twice the rate; local memory is main memory, so copying costs."""
    known = profile(name)
    bound = replace(SOME, loads=1e3, bytes=1e3)
    assert estimate(known, replace(bound, half=True)) < estimate(known, bound)
    plain = replace(SOME, bytes=1e3)
    staged = replace(plain, local_loads=SOME.loads, barriers=float(SOME.groups))
    assert estimate(known, plain) < estimate(known, staged)


@pytest.mark.parametrize("name", NAMES[4:])
def test_fpga_model_knows_interval_and_clock(name: str) -> None:
    """Interleaved sums take fewer clocks, and a full device has a slower one."""
    known = profile(name)
    work = replace(SOME, trips=1e7, ports=1, load_bytes=0.0, bytes=1e3)
    times = [estimate(known, replace(work, interleave=i)).seconds for i in (1, 2, 4)]
    assert times == sorted(times, reverse=True)
    crowded = replace(work, parallel=int(known["dsp"] * 0.9))
    assert estimate(known, crowded).inputs["clock"] < estimate(known, work).inputs["clock"]


@needs_opencl
@pytest.mark.parametrize("name", NAMES)
def test_launches_beyond_a_limit_are_refused_with_the_code_of_the_device(name: str) -> None:
    """A group one larger than allowed is INVALID_WORK_GROUP_SIZE; at the limit it runs."""
    device: Any = registry().device(f"opencl:{name}")
    run: Any = _run(device)
    launch = run.launches[-1]
    device.refuse(replace(launch, threads=device.limits.work_group))
    with pytest.raises(Refused, match="INVALID_WORK_GROUP_SIZE") as caught:
        device.refuse(replace(launch, threads=device.limits.work_group + 1))
    assert (caught.value.code, caught.value.failure) == (-54, "launch")


@needs_opencl
def test_local_memory_and_buffers_beyond_the_limit_are_refused() -> None:
    """Local memory is OUT_OF_RESOURCES, a buffer that is too large INVALID_BUFFER_SIZE."""
    from hwkit_opencl.emulated import EmulatedDevice
    from hwkit_opencl.gemm import LocalGemm

    real: Any = registry().device("opencl:0")
    device = EmulatedDevice(real.found, "mali-g52")
    problem = parse_problem("gemm float32 nn m=32 n=32 k=32")
    kernel = LocalGemm(device, "gemm")
    config = kernel.default(problem)
    needed = kernel.local_memory(problem, config)
    (launch,) = kernel.build(problem, config).launches  # type: ignore[attr-defined]
    device.limits = replace(device.limits, local_memory=needed)
    device.refuse(launch)
    assert kernel.static_check(problem, config) is None
    device.limits = replace(device.limits, local_memory=needed - 1, allocation=1024)
    assert "local memory" in str(kernel.static_check(problem, config))
    with pytest.raises(Refused) as caught:
        device.refuse(launch)
    assert caught.value.code == -5
    assert device.empty((1024,), np.dtype(np.uint8)).nbytes == 1024
    with pytest.raises(Refused) as caught:
        device.empty((1025,), np.dtype(np.uint8))
    assert caught.value.code == -61


@needs_opencl
def test_no_double_where_the_profile_has_none() -> None:
    """Every kernel declines float64, with the reason."""
    device = registry().device("opencl:mali-g76")
    problem = parse_problem("gemm float64 nn m=8 n=8 k=8")
    answers = [kernel.supports(problem) for kernel in registry().kernels(device, "gemm")]
    assert answers
    assert all("float64" in str(answer) for answer in answers)


@needs_opencl
def test_an_fpga_config_beyond_the_budget_is_ruled_out() -> None:
    """On the smaller device, a tile with too many ports to memory does not fit."""
    device = registry().device("opencl:fpga-arria10")
    (kernel,) = registry().kernels(device, "gemm")
    problem = parse_problem("gemm float32 nn m=64 n=64 k=64")
    small = Config({"rows": 1, "columns": 1, "interleave": 1})
    assert kernel.static_check(problem, small) is None
    huge = Config({"rows": 64, "columns": 64, "interleave": 4})
    assert "more than the budget of 80%" in str(kernel.static_check(problem, huge))


@needs_opencl
def test_tuning_an_emulated_device_keeps_records_of_their_own_origin(tmp_path: Path) -> None:
    """The records say estimated, are of another device than any real one, and explain says so."""
    database = Database(tmp_path / "tuning.db")
    text = "gemm float32 nn m=32 n=32 k=32"
    (result,) = hwkit.tune(text, device="opencl:mali-g76", trials=4, database=database)
    assert result.best is not None
    assert result.best.origin == "estimated"
    assert result.best.arch == "emulated-mali-g76"
    real = registry().device("opencl:0")
    matches = database.candidates(parse_problem(text), real.arch, real.fingerprint)
    assert not any(match.same_device for match in matches)


@needs_opencl
def test_the_command_says_with_each_time_that_it_is_estimated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What tuning prints of an emulated device cannot be misread."""
    text = "gemm float32 nn m=32 n=32 k=32"
    where = ["--device", "opencl:mali-g76", "--db", str(tmp_path / "tuning.db")]
    assert main(["tune", "--problem", text, "--trials", "2", *where]) == 0
    tuned, said = capfd.readouterr()
    assert "opencl:mali-g76 is emulated" in said
    against = r"(\S+x default|\S+x the default \(|the default, which nothing beat)"
    assert re.search(rf"\d [um]s estimated +{against}", tuned), tuned
    assert re.search(r"best \S+ [um]s estimated +\S+x default", said), said
    assert main(["tune", "--problem", text, "--trials", "2", "--json", *where]) == 0
    for event in json.loads(capfd.readouterr()[0])["events"]:
        assert event["origin"] == "estimated"
    kept = where[2:]
    for words in (["db", "show", text, *kept], ["db", "ls", *kept]):
        assert main(words) == 0
        printed = capfd.readouterr()[0]
        times = re.findall(r".*\d [um]s.*", printed)
        assert times
        assert all("estimated" in row for row in times), printed


@needs_opencl
def test_device_names_that_do_not_exist_list_those_that_do() -> None:
    """A misspelt profile is answered with the names."""
    with pytest.raises(ArgumentError, match="emulated mali-g52, mali-g76"):
        registry().device("opencl:mali-g99")


@needs_opencl
def test_sampled_configs_are_right_on_poisoned_scratch() -> None:
    """Random Configs of every kernel, odd tiles and groups among them, give right answers."""
    device: Any = registry().device("opencl:0")
    rng = random.Random(4)
    texts = (
        "gemm float32 nn m=37 n=41 k=29 +bias",
        "conv2d float32 nchw n=1 c=6 h=9 w=11 k=12 r=3 s=3 pad=1 stride=2 +relu",
        "max_pool2d float32 nhwc n=1 c=9 h=9 w=7 r=3 s=3 pad=1 stride=2",
    )
    checked = 0
    for problem in map(parse_problem, texts):
        for kernel in registry().kernels(device, problem.op.name):
            if kernel.supports(problem) is not True:
                continue
            config = kernel.space(problem).sample(rng)
            run: Any = kernel.build(problem, config)
            for scratch in run.scratch:
                scratch.view(np.uint8)[...] = 0xFF
            operands = problem.random_operands()
            out = device.put(np.full(problem.output.shape, np.nan, np.float32))
            run(*map(device.put, operands), out=out)
            want = problem.reference(*(a.astype(np.float64) for a in operands))
            assert relative_error(device.get(out), want) < 2e-6, (str(problem), str(config))
            checked += 1
    assert checked == 8


def _run(device: Any) -> Any:
    problem = parse_problem("gemm float32 nn m=8 n=8 k=8")
    kernel = registry().kernels(device, "gemm")[0]
    return kernel.build(problem, kernel.default(problem))
