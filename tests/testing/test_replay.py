"""ReplayBackend: recorded files as devices, and the tuner on them."""

from __future__ import annotations

import gzip
import json
import math
import random
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import ArgumentError, Config, KernelFailure, Space
from hwkit.records import Database
from hwkit.registry import registry
from hwkit.testing import ReplayBackend
from hwkit.testing.expression import constraint
from hwkit.testing.recording import Recording
from hwkit.testing.replay import RECORDED, ReplayDevice, ReplayKernel
from hwkit.tuner import tune

DATA = Path(__file__).parents[1] / "data" / "replay"
FILES = sorted(DATA.glob("*.json.gz"))
SPACE = DATA / "convolution_space.json"


def content(**changes: Any) -> dict[str, Any]:
    """Return a small cache file, as Python values."""
    rows = [
        {"BX": 16, "mode": "a b", "time": 2.0, "times": [1.0, 2.0, 4.0]},
        {"BX": 32, "mode": "a b", "time": 3.0},
        {"BX": 16, "mode": "c", "time": "CompilationFailedConfig"},
        {"BX": 32, "mode": "c", "time": 1e20},
    ]
    return {
        "device_name": "Some GPU",
        "kernel_name": "add",
        "problem_size": [64, 64],
        "tune_params_keys": ["BX", "mode"],
        "tune_params": {"BX": [16, 32], "mode": ["a b", "c", "d"]},
        "cache": {str(i): row for i, row in enumerate(rows)},
        **changes,
    }


def written(path: Path, text: str) -> Path:
    """Write a text and return its path."""
    path.write_text(text)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Recording:
    """Return the small recording."""
    return Recording(written(tmp_path / "some.json", json.dumps(content())))


def test_recording_is_read(small: Recording) -> None:
    """Milliseconds become seconds, words become legal, failures keep their class."""
    fast = Config({"bx": 16, "mode": "a_b"})
    assert (small.device, small.kernel) == ("Some_GPU", "add-64x64")
    assert small.samples == {fast: (1e-3, 2e-3, 4e-3), fast.replace(bx=32): (3e-3,)}
    assert [*small.failures.values()] == ["compile", "launch"]
    assert small.default == fast
    assert small.best == small.table[fast] == 2e-3
    assert small.table[Config({"bx": 32, "mode": "c"})] == math.inf


def test_recorded_space_holds_what_was_recorded(small: Recording) -> None:
    """A combination that was not recorded is not legal, and says so."""
    missing = Config({"bx": 16, "mode": "d"})
    assert small.space.size == 4
    assert small.space.combinations == 6
    assert {*small.space} == {*small.samples, *small.failures}
    assert missing not in small.space
    assert "not recorded" in str(small.space.why_not(missing))
    assert all(small.space.sample(random.Random(s)) in small.space for s in range(20))
    rows = small.space.rows()
    assert rows is not None
    assert [small.space.config(row) for row in rows] == [*small.space]


def test_a_file_that_was_cut_short_is_read(tmp_path: Path) -> None:
    """A recording run that was stopped leaves its file without the closing braces."""
    text = json.dumps(content())[:-2] + ",\n"
    assert len(Recording(written(tmp_path / "cut.json", text)).table) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '"text"',
        json.dumps(content(cache={})),
        json.dumps(content(cache={"0": {"BX": 16}})),
        json.dumps(content(tune_params={"BX": [16], "bx": [16]})),
        json.dumps(content(tune_params={"BX": [[1]]})),
    ],
)
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, text: str) -> None:
    """The message names the file; nothing else is raised."""
    path = written(tmp_path / "bad.json", text)
    with pytest.raises(ArgumentError):
        Recording(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a damaged archive and bytes that are no text are user mistakes."""
    packed = gzip.compress(json.dumps(content()).encode())
    (tmp_path / "half.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "half.gz", "bytes"):
        with pytest.raises(ArgumentError, match="cannot be read"):
            Recording(tmp_path / name)


def test_constraints_are_parsed() -> None:
    """Arithmetic, comparisons, conditions and a few functions; the parameters are the names."""
    test = constraint("a == 0 or (a * 2**b + max(c, 1)) // 2 % 3 < 12 * 1024 and c in [1, 2]")
    space = Space({"a": [0, 1], "b": [1, 2], "c": [1, 2, 3]}, [test])
    assert space.size == 10
    assert constraint("1 < a <= 3")(a=3)
    assert not constraint("not a % b")(a=3, b=2)
    assert constraint("mode != 'x' if n > 1 else True")(mode="y", n=2)
    assert constraint("-a < +a")(a=1)
    assert constraint("a not in (1, 2)")(a=3)
    assert not constraint("8 / a > 1")(a=0)


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('x')", "a.b", "lambda: 1", "[x for x in y]", "a := 1", "open('x')",
     "a[0]", "f'{a}'", "a is b", "(", "", "1" * 3000, "max(*a)", "max(a, key=b)"],
)  # fmt: skip
def test_constraints_that_are_code_are_refused(text: str) -> None:
    """Nothing but arithmetic and conditions is understood, and nothing is run."""
    with pytest.raises(ArgumentError, match="cannot be read"):
        constraint(text)


def test_companion_gives_constraints_and_default() -> None:
    """The original constraints hold for everything recorded, and give their reasons."""
    recording = Recording(FILES[0], SPACE)
    conditions = recording.space.constraints[:-1]
    assert len(conditions) == 4
    for config in recording.table:
        assert all(c.test(**{n: config[n] for n in c.names}) for c in conditions)
    broken = recording.default.replace(use_padding=1, use_shmem=0)
    assert "use_padding==0 or" in str(recording.space.why_not(broken))
    assert recording.default in recording.samples


def test_device_replays_samples(small: Recording) -> None:
    """Each time is one of the recorded samples; the same seed gives the same times."""
    backend = ReplayBackend(small.path, seed=3)
    times = []
    for _ in range(2):
        device = backend.open(0)
        run = ReplayKernel(device).build(device.problem, small.default)
        out = np.empty(1, np.float32)
        x = np.arange(8, dtype=np.float32)
        times.append([device.time(lambda run=run, x=x, out=out: run(x, out=out)) for _ in range(9)])
        assert out[0] == 28
        assert device.elapsed == pytest.approx(sum(times[-1]))
    assert times[0] == times[1]
    assert {round(t, 6) for t in times[0]} == {1e-3, 2e-3, 4e-3}


def test_parts_of_the_samples_are_disjoint(small: Recording) -> None:
    """Two backends with disjoint parts never see the same sample."""
    seen = []
    for part in (slice(0, 1), slice(1, None)):
        device = ReplayBackend(small.path, part=part).open(0)
        seen.append(
            {round(device.time(lambda d=device: d.run(small.default)), 6) for _ in range(20)}
        )
    assert seen == [{1e-3}, {2e-3, 4e-3}]


def test_failures_are_replayed(small: Recording) -> None:
    """What did not compile fails in build, what did not launch fails in the run."""
    device = ReplayBackend(small.path).open(0)
    kernel = ReplayKernel(device)
    with pytest.raises(KernelFailure) as compile_failure:
        kernel.build(device.problem, Config({"bx": 16, "mode": "c"}))
    run = kernel.build(device.problem, Config({"bx": 32, "mode": "c"}))
    with pytest.raises(KernelFailure) as launch_failure:
        run(np.zeros(8, np.float32), out=np.empty(1, np.float32))
    assert compile_failure.value.failure == "compile"
    assert launch_failure.value.failure == "launch"


def test_kernel_takes_its_own_problem_only(small: Recording) -> None:
    """Another recorded problem is declined with a reason, and problems read back."""
    device = ReplayBackend(small.path).open(0)
    kernel = ReplayKernel(device)
    other = RECORDED.parse("recorded float32 n=8 of=else")
    assert kernel.supports(device.problem) is True
    assert "only recorded float32 n=8 of=add-64x64" in str(kernel.supports(other))
    assert RECORDED.parse(device.problem.text) == device.problem
    assert RECORDED.problem(np.zeros(8, np.float32), of="else") == other


@pytest.fixture
def replayed() -> Iterator[list[ReplayDevice]]:
    """Register the recorded slices, and return their devices."""
    registry().register(ReplayBackend(*FILES, space=SPACE), "test-replay")
    yield [registry().device(f"replay:{i}") for i in range(len(FILES))]  # type: ignore[misc]
    registry().unregister("test-replay")


def test_tuner_runs_on_a_recording(replayed: list[ReplayDevice]) -> None:
    """The tuner's own machinery checks, races and records replayed candidates."""
    device, database = replayed[0], Database(None)
    (result,) = tune(
        device.problem, "replay:0", trials=60, budget=None, database=database, worker=False
    )
    assert result.trials == 60
    assert result.best is not None
    assert result.default is not None
    found = device.recording.table[result.best.config]
    assert found <= device.recording.table[result.default.config]
    assert set(result.failures) <= {"compile", "launch"}
    assert len({r.config for r in database.records()}) == 60


def test_tuner_starts_from_the_records_of_other_devices(replayed: list[ReplayDevice]) -> None:
    """With the trials of two other devices, 50 trials reach 93 % of the third's best."""
    database, shares = Database(None), []
    for index, device in enumerate(replayed):
        trials = 400 if index < len(replayed) - 1 else 50
        (result,) = tune(
            device.problem, f"replay:{index}", trials=trials, budget=None, database=database,
            worker=False, strategy="random" if trials > 50 else "evolutionary",
        )  # fmt: skip
        assert result.best is not None
        shares.append(device.recording.best / device.recording.table[result.best.config])
    assert shares[-1] >= 0.93
    assert statistics.mean(shares[:-1]) >= 0.97
