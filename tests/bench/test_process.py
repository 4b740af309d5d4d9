"""Libraries in processes of their own: they build, check, time; they fail without harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwkit import ArgumentError, KernelFailure, Unavailable
from hwkit.bench import LIBRARIES, PeerProcess, compare, missing, process
from hwkit.bench.child import Child
from hwkit.bench.libraries import Library, Variant
from hwkit.bench.networks import OTHERS
from hwkit.bench.race import reference_file
from hwkit.dispatch import parse_problem
from hwkit.op import Problem

GEMM = "gemm float32 nn m=24 n=40 k=32"

PROBLEMS = [
    GEMM,
    "gemm float32 tt m=17 n=13 k=29 alpha=0.5 beta=-2.0 +bias+residual+leaky_relu:0.1",
    "gemm float32 nt m=5 n=7 k=9 +bias+clip:-0.5,0.5",
    "gemm float32 nn m=5 n=7 k=9 alpha=2.0",
    "gemm float32 tn m=5 n=7 k=9 alpha=0.5 +bias+residual+relu",
    "conv2d float32 nchw n=1 c=6 h=9 w=8 k=4 r=3 s=3 pad=1 stride=1 +bias+relu",
    "conv2d float32 nhwc n=2 c=4 h=9 w=8 k=8 r=3 s=2 pad=1,2,0,3 stride=2,1 groups=2 +silu",
    "conv2d float32 nchw n=1 c=8 h=7 w=7 k=8 r=3 s=3 pad=1 stride=1 groups=8 +bias+residual+relu6",
    "matmul float32 b=3 m=4 n=5 k=6",
    "max_pool2d float32 nhwc n=1 c=4 h=9 w=9 r=3 s=3 pad=1 stride=2",
    "avg_pool2d float32 nchw n=1 c=4 h=9 w=9 r=2 s=2 pad=0 stride=2",
    "global_avg_pool2d float32 nchw n=2 c=4 h=5 w=6",
    "global_max_pool2d float32 nhwc n=2 c=4 h=5 w=6",
]


def test_unknown_library() -> None:
    """A library that nobody knows is an argument error, not a missing one."""
    with pytest.raises(ArgumentError, match="'matlab' is not known"):
        missing("matlab")


def test_missing_library_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed is named with the command that installs it, and stops nobody."""
    monkeypatch.setitem(LIBRARIES, "torch", "no_such_module")
    with pytest.raises(Unavailable, match="pip install no_such_module"):
        PeerProcess("torch")
    race = compare(GEMM, ["numpy", "torch"], rounds=2)
    assert list(race.samples) == ["numpy"]
    assert "no_such_module is not installed" in race.failed["torch"]


def test_library_that_does_not_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A broken installation is Unavailable with its own words, not a hang."""
    package = tmp_path / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libfoo.so is missing')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setitem(LIBRARIES, "onnxruntime", None)
    with pytest.raises(Unavailable, match=r"does not start: ImportError: libfoo\.so is missing"):
        PeerProcess("onnxruntime")


def test_a_start_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a library is imported leaves no process behind."""
    started: list[PeerProcess] = []

    def interrupted(peer: PeerProcess, seconds: float) -> None:
        started.append(peer)
        raise KeyboardInterrupt

    monkeypatch.setattr(PeerProcess, "_reply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PeerProcess("numpy")
    assert started[0]._process.poll() is not None


def test_life_of_a_peer(tmp_path: Path) -> None:
    """Build, warm, time; another problem replaces the first; then the process is gone."""
    with PeerProcess("numpy") as peer:
        with pytest.raises(KernelFailure, match="nothing has been built"):
            peer.time(1)
        built = peer.build(GEMM)
        assert built.variant == "matmul"
        assert built.version == np.__version__
        assert built.error < 1e-6
        assert peer.warm(0.01) > 0
        samples = peer.time(4)
        assert len(samples) == 4
        assert all(seconds > 0 for seconds in samples)
        assert (
            peer.build("max_pool2d float32 nchw n=1 c=2 h=4 w=4 r=2 s=2 pad=0 stride=2").error == 0
        )
        pid = peer._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_wrong_answer_is_not_timed(tmp_path: Path) -> None:
    """A library whose answer is not the reference's is refused before it is timed."""
    problem = parse_problem(GEMM)
    with reference_file(problem) as right, PeerProcess("numpy") as peer:
        assert peer.build(GEMM, right).error < 1e-6
        wrong = tmp_path / "wrong.npy"
        np.save(wrong, np.load(right) * 1.01)
        with pytest.raises(KernelFailure, match=r"relative error 9\.9e-03 exceeds") as caught:
            peer.build(GEMM, wrong)
        assert caught.value.failure == "wrong"
        with pytest.raises(KernelFailure, match="nothing has been built"):
            peer.warm()


class _Brittle(Library):
    """A library whose second way of doing a problem cannot be made."""

    name = "brittle"

    def variants(
        self, problem: Problem, operands: tuple[Any, ...], packed: bool
    ) -> Iterator[Variant]:
        """Yield the right answer, then raise."""
        yield Variant("plain", lambda: problem.reference(*operands), np.asarray)
        raise RuntimeError("no such layout")


def test_a_variant_that_cannot_be_made() -> None:
    """It costs a library none of its other variants, and is told with its words."""
    reply = Child(_Brittle()).build(GEMM, None, packed=True)
    assert reply["variant"] == "plain"
    assert reply["rejected"] == ["RuntimeError: no such layout"]


def test_a_killed_peer_is_a_crash() -> None:
    """A library that takes its process down is reported with the signal."""
    with PeerProcess("numpy") as peer:
        os.kill(peer._process.pid, signal.SIGKILL)
        with pytest.raises(KernelFailure, match="signal 9") as caught:
            peer.build(GEMM)
        assert caught.value.failure == "crash"


def test_a_hanging_peer_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that does not answer is ended."""
    with PeerProcess("numpy") as peer:
        peer.build(GEMM)
        monkeypatch.setattr(process, "_REPLY_SECONDS", 0.2)
        with pytest.raises(KernelFailure, match="did not answer within") as caught:
            peer.warm(60.0)
        assert caught.value.failure == "timeout"
        assert peer._process.poll() is not None


def test_what_a_library_prints_does_not_disturb() -> None:
    """Answers have a channel of their own; nonsense on it would not be read as an answer."""
    with PeerProcess("numpy") as peer:
        with pytest.raises(KernelFailure, match="KeyError"):
            peer._ask(do="__init__")
        with pytest.raises(KernelFailure):
            peer._ask(do="build", problem="gemm float32", reference=None, packed=False)
        assert peer.build(GEMM).variant == "matmul"


def _not_of_this_kind(library: str, text: str, packed: bool) -> bool:
    """What a library has no way of saying, or that is not said to it here."""
    plain = text.startswith("conv2d") and not packed
    scaled = "alpha" in text
    several = "n=2" in text
    refused = {"xnnpack": plain or scaled, "ncnn": plain or scaled or several}
    return refused.get(library, False)


@pytest.mark.parametrize("library", [name for name in LIBRARIES if "hwkit" not in name])
def test_libraries_agree_with_the_reference(library: str) -> None:
    """Each library computes every kind of problem that it has, in both layouts, packed or not."""
    reason = missing(library)
    if reason:
        pytest.skip(reason)
    failed: dict[str, str] = {}
    with PeerProcess(library, 2) as peer:
        for text in PROBLEMS:
            for packed in (True, False):
                try:
                    peer.build(text, packed=packed)
                    done = True
                except KernelFailure as error:
                    done = False
                    if not _not_of_this_kind(library, text, packed):
                        failed[text] = f"{error.failure}: {error}"
                assert done != _not_of_this_kind(library, text, packed) or text in failed
    assert failed == {}


@pytest.mark.parametrize("library", [name for name in OTHERS if missing(name) is None])
def test_what_a_library_has_not(library: str) -> None:
    """An operator that is not said to a library is said to be none of its own."""
    with PeerProcess(library) as peer:
        for text in ("elementwise float32 b=1 n=1 c=8 l=1 activation=relu",
                     "transpose float32 b=1 r=6 c=9"):  # fmt: skip
            with pytest.raises(KernelFailure, match=f"{library} has no {text.split()[0]} of this"):
                peer.build(text)


@pytest.mark.parametrize("library", ["hwkit", "hwkit-default"])
def test_hwkit_is_a_peer(library: str) -> None:
    """hwkit runs as its plan says, with its roofline; without records it is the default."""
    with PeerProcess(library) as peer:
        built = peer.build(GEMM)
        assert peer.warm(0.01) > 0
    assert built.error <= parse_problem(GEMM).error_budget()
    if library == "hwkit-default":
        assert built.variant.endswith("(default)")
    json.dumps(built.roofline)


def test_threads_reach_the_child() -> None:
    """The number of threads is a variable of the child, and the parent's is left alone."""
    before = os.environ.get("HWKIT_THREADS")
    with PeerProcess("numpy", 2) as peer:
        environ = Path(f"/proc/{peer._process.pid}/environ")
        if environ.exists():
            assert b"HWKIT_THREADS=2" in environ.read_bytes().split(b"\0")
    assert os.environ.get("HWKIT_THREADS") == before
    with pytest.raises(ArgumentError, match="threads=0"):
        PeerProcess("numpy", 0)


def _state(pid: int) -> str:
    """Return the state letter of a process, ``""`` if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_peer_is_stopped_between_orders() -> None:
    """Only the library whose turn it is runs; the others cannot even spin."""
    with PeerProcess("numpy", 2) as peer:
        peer.build(GEMM)
        states = [_state(peer._process.pid) for _ in range(3) if not time.sleep(0.02)]
        assert states == ["T", "T", "T"]
        assert peer.time(1)[0] > 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_stopped_peer_dies_with_its_parent() -> None:
    """A parent that is killed leaves no stopped process behind."""
    code = (
        "import time\n"
        "from hwkit.bench import PeerProcess\n"
        "peer = PeerProcess('numpy')\n"
        "print(peer._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    end = time.monotonic() + 10
    while _state(child) != "T" and time.monotonic() < end:
        time.sleep(0.02)
    stopped = _state(child)
    parent.kill()
    parent.communicate()
    assert stopped == "T"
    end = time.monotonic() + 10
    while _state(child) not in ("", "Z") and time.monotonic() < end:
        time.sleep(0.02)
    assert _state(child) in ("", "Z")
