"""Whole networks: how many times longer another library takes, and what loading costs.

One process per library, in turns; see ``peers``. The networks have seeded random weights; nothing
is downloaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

NETWORKS = ["mobilenetv1", "mobilenet-ssd", "resnet50", "vgg16"]
LIBRARIES = ["torch", "onnxruntime", "openvino", "xnnpack", "ncnn", "mnn"]

# What a process that ran a model once has needed: seconds from the import on, and bytes.
_FIRST = """\
import sys, time
start = time.perf_counter()
library, path = sys.argv[1:]
if library == "hwkit":
    import hwkit
    model = hwkit.load(path)
    model.run(model.random_inputs())
else:
    import numpy, onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (x,) = session.get_inputs()
    session.run(None, {x.name: numpy.zeros(x.shape, numpy.float32)})
print(time.perf_counter() - start)
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(1024 * int(line.split()[1]))
"""


def _write(name: str) -> Path:
    from hwkit.testing.networks import network

    folder = Path(tempfile.mkdtemp(prefix="hwkit-asv-"))
    path = folder / f"{name}.onnx"
    path.write_bytes(network(name).SerializeToString())
    return path


class _Models:
    """A file of the network, for as long as it is measured."""

    def setup(self, name: str, *rest: object) -> None:
        self.path = _write(name)

    def teardown(self, name: str, *rest: object) -> None:
        self.path.unlink()
        self.path.parent.rmdir()


class Ratio(_Models):
    """One network and one other library."""

    params = (NETWORKS, LIBRARIES, [1, 2])
    param_names = ("network", "library", "threads")
    unit = "times hwkit's time"
    timeout = 600
    number = 1

    def setup(self, name: str, library: str, threads: int) -> None:  # type: ignore[override]
        from hwkit.bench import missing

        reason = missing(library)
        if reason is not None:
            raise NotImplementedError(reason)
        if threads > len(os.sched_getaffinity(0)):
            raise NotImplementedError(f"there are fewer than {threads} CPUs")
        super().setup(name)

    def track_ratio(self, name: str, library: str, threads: int) -> float:
        import hwkit
        from hwkit.bench.networks import compare_network

        inputs = hwkit.load(self.path).random_inputs()
        race = compare_network(self.path, inputs, ["hwkit", library], threads=threads, rounds=9)
        if race.failed:
            raise RuntimeError(str(race.failed))
        return race.ratio(library)


class Start(_Models):
    """A fresh process: import, load, first run; and the most memory that it ever had."""

    params = (NETWORKS, ["hwkit", "onnxruntime"])
    param_names = ("network", "library")
    timeout = 300
    number = 1

    def _run(self, library: str) -> tuple[float, float]:
        words = [sys.executable, "-c", _FIRST, library, str(self.path)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        seconds, most = map(float, done.stdout.split()[:2])
        return seconds, most

    def track_seconds(self, name: str, library: str) -> float:
        return self._run(library)[0]

    def track_peak_bytes(self, name: str, library: str) -> float:
        return self._run(library)[1]


Start.track_seconds.unit = "seconds"  # type: ignore[attr-defined]
Start.track_peak_bytes.unit = "bytes"  # type: ignore[attr-defined]
