"""Importing is free and never fails: proved in child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Whatever is optional, and what the command needs but the library does not.
OPTIONAL = {
    "click", "cupy", "dask", "distributed", "hypothesis", "jax", "jinja2", "ml_dtypes", "onnx",
    "onnxruntime", "pandas", "pycuda", "pyopencl", "pytest", "rich", "scipy", "sklearn",
    "tensorflow", "torch", "triton",
}  # fmt: skip
PLUGINS = {"hwkit_cpu", "hwkit_cuda", "hwkit_opencl", "hwkit_triton", "hwkit_tuning_db"}

_CODE = """\
import json, sys
{code}
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
print(json.dumps(sorted(name for name in sys.modules if name.startswith("hwkit."))))
"""


def modules_after(code: str) -> tuple[set[str], set[str]]:
    """Return the top-level modules, and those of hwkit, that a new process has after ``code``."""
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CODE.format(code=code)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    everything, own = done.stdout.splitlines()[-2:]
    return set(json.loads(everything)), set(json.loads(own))


def test_import_hwkit_imports_nothing_optional_and_no_plugin() -> None:
    """Not even click and rich, nor the modules behind calls and tuning."""
    found, own = modules_after("import hwkit")
    assert not found & (OPTIONAL | PLUGINS)
    late = {"registry", "dispatch", "records", "tuner", "cli", "ops", "testing", "strategies"}
    assert not {name.partition(".")[2] for name in own} & late


def test_import_of_ops_loads_no_plugin() -> None:
    """Plugins are loaded by the first call."""
    found, _ = modules_after("import hwkit; hwkit.ops.conv2d")
    assert not found & (OPTIONAL | PLUGINS)


@pytest.mark.parametrize("plugin", ["hwkit_cpu"])
def test_import_of_a_plugin_imports_no_driver(plugin: str) -> None:
    """Nor its compiled module: that is loaded when a device is counted."""
    code = f"import {plugin}, sys; assert '{plugin}._kernels' not in sys.modules"
    found, _ = modules_after(code)
    assert not found & OPTIONAL


def test_asking_for_backends_imports_no_driver() -> None:
    """A list of backends is data; counting their devices is what may load a driver."""
    found, _ = modules_after("from hwkit.registry import registry; registry().backends()")
    assert not found & OPTIONAL


def test_first_call_imports_nothing_optional() -> None:
    """A call on numpy arrays needs numpy, pluggy and platformdirs only."""
    code = (
        "import numpy as np, hwkit; hwkit.ops.matmul(np.eye(4, dtype='f4'), np.eye(4, dtype='f4'))"
    )
    found, _ = modules_after(code)
    assert not found & OPTIONAL


def test_help_of_the_command_loads_no_plugin() -> None:
    """``hwkit --help`` answers without numpy's help, or anybody's."""
    found, _ = modules_after("from hwkit.cli import main; assert main(['--help']) == 0")
    assert not found & (PLUGINS | (OPTIONAL - {"click", "rich"}))
