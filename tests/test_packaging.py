"""What is built from the checkout: metadata, contents, and that it works where it is installed."""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fresh import Distributions, Environment

import hwkit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Compiling and installing take minutes on a slow machine.
pytestmark = pytest.mark.timeout(1500)

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MODULES: list[dict[str, Any]] = PROJECT["tool"]["setuptools"]["ext-modules"]
GENERATED = {"cython/_kernels.c", "cython/calls.c"}
DEPENDENCIES = {"numpy", "pluggy", "platformdirs", "click", "rich"}
EXTRAS = {
    "opencl", "cuda", "cuda-core", "triton", "onnx", "tune", "cluster", "report", "bench", "test",
    "peers", "lint", "opencl-intel",
}  # fmt: skip

# Where the wheel's packages come from.
FOLDERS = {
    "hwkit": "hwkit",
    "hwkit_cpu": "plugins/hwkit_cpu",
    "hwkit_cuda": "plugins/hwkit_cuda",
    "hwkit_opencl": "plugins/hwkit_opencl",
    "hwkit_triton": "plugins/hwkit_triton",
    "hwkit_tuning_db": "tuning_db",
}


CARRIED = {".py", ".pyi", ".jsonl", ".json", ".cl", ".cu", ".h"}


def package_files() -> set[str]:
    """Return the files that the wheel must hold, by their paths in it, from the checkout."""
    found = set()
    for package, folder in FOLDERS.items():
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in CARRIED or file.name == "py.typed":
                found.add(f"{package}/{file.relative_to(ROOT / folder).as_posix()}")
    return found


def setup_cfg() -> configparser.ConfigParser:
    """Return setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser


def names(requirements: list[str]) -> set[str]:
    """Return the names of projects in requirements."""
    return {re.split(r"[^A-Za-z0-9_.-]", text, maxsplit=1)[0] for text in requirements}


def test_dependencies_are_these_five() -> None:
    """Whatever is heavier is an extra."""
    assert names(PROJECT["project"]["dependencies"]) == DEPENDENCIES


def test_extras_exist() -> None:
    """Each extra adds dependencies only; every plugin is installed with hwkit."""
    assert set(PROJECT["project"]["optional-dependencies"]) == EXTRAS


def test_version_is_written_once_and_repeated_right() -> None:
    """The metadata and the module agree."""
    assert PROJECT["project"]["version"] == hwkit.__version__


def test_every_package_is_listed() -> None:
    """Discovery would ship tests and C sources, so packages are listed by hand: all of them."""
    listed = set(setup_cfg()["options"]["packages"].split())
    found = {
        ".".join((package, *file.parent.relative_to(ROOT / folder).parts))
        for package, folder in FOLDERS.items()
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert listed == found


def test_every_c_file_is_built_and_every_header_is_carried() -> None:
    """A source archive without a header builds nowhere else."""
    files = {
        f"cython/{file.name}"
        for file in (ROOT / "cython").iterdir()
        if file.suffix in (".c", ".h", ".inc", ".pyx") and f"cython/{file.name}" not in GENERATED
    }
    assert {f for m in MODULES for f in (*m["sources"], *m["depends"])} == files
    assert {f for f in files if f.endswith(".c")} <= {f for m in MODULES for f in m["sources"]}


def test_entry_points_lead_to_our_own_parts() -> None:
    """They come through the same door as a stranger's."""
    assert PROJECT["project"]["entry-points"]["hwkit"] == {
        "ops": "hwkit.ops",
        "graph": "hwkit.graph",
        "cpu": "hwkit_cpu",
        "cuda": "hwkit_cuda",
        "opencl": "hwkit_opencl",
        "triton": "hwkit_triton",
        "tuning_db": "hwkit_tuning_db",
    }


def test_installed_metadata_say_the_same() -> None:
    """The environment of the tests is not out of date."""
    found = importlib.metadata.metadata("hwkit")
    assert found["License-Expression"] == "Apache-2.0"
    assert set(found.get_all("Provides-Extra") or ()) == EXTRAS
    points = {p.name for p in importlib.metadata.entry_points(group="hwkit")}
    assert points >= set(PROJECT["project"]["entry-points"]["hwkit"])


@pytest.mark.slow
def test_wheel_holds_exactly_the_packages(distributions: Distributions) -> None:
    """Every source file of the packages, the compiled modules, and no C, tests or tools."""
    with zipfile.ZipFile(distributions.wheel) as wheel:
        inside = {name for name in wheel.namelist() if not name.endswith("/")}
    info = {name for name in inside if ".dist-info/" in name}
    compiled = {
        name for name in inside if re.fullmatch(r"(hwkit/_calls|hwkit_cpu/_kernels)\..*\.so", name)
    }
    assert len(compiled) == len(MODULES)
    assert inside - info - compiled == package_files()
    assert any(name.endswith("licenses/LICENSE") for name in info)


@pytest.mark.slow
def test_source_archive_holds_what_a_build_needs(distributions: Distributions) -> None:
    """All C and Cython, the tables, licence and README, and nothing that was built."""
    with tarfile.open(distributions.sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {f for m in MODULES for f in (*m["sources"], *m["depends"])}
    assert {*wanted, "pyproject.toml", "setup.cfg", "README.md", "LICENSE"} <= inside
    built = [n for n in inside if n.endswith((".so", ".o", ".pyc")) or n in GENERATED]
    assert not built


@pytest.mark.slow
def test_installed_wheel_works_outside_the_checkout(
    distributions: Distributions, tmp_path: Path
) -> None:
    """Import, types, entry points, a call, the command: in an environment with nothing else."""
    fresh = Environment(tmp_path)
    fresh.install(str(distributions.wheel))
    where = fresh.run("python", "-c", "import hwkit; print(hwkit.__file__)")
    assert str(tmp_path) in where
    answer = fresh.run(
        "python", "-W", "error", "-c",
        "import numpy as np, hwkit; from importlib import resources;"
        "x = np.ones((1, 8, 9, 9), 'f4'); w = np.ones((4, 8, 3, 3), 'f4');"
        "print(hwkit.ops.conv2d(x, w, padding=1).shape,"
        " hwkit.ops.conv2d(x, w)[0, 0, 0, 0],"
        " resources.files('hwkit').joinpath('py.typed').is_file(),"
        " resources.files('hwkit_cpu').joinpath('py.typed').is_file())",
    )  # fmt: skip
    assert answer.split("\n")[0] == "(1, 4, 9, 9) 72.0 True True"
    assert "cpu:0" in fresh.run("hwkit", "devices")
    assert "nothing is broken" in fresh.run("hwkit", "doctor")
    plugins = fresh.run(
        "python", "-c",
        "from hwkit.registry import registry as r; print(*sorted(p.name for p in r().plugins))",
    )  # fmt: skip
    assert plugins.split() == ["cpu", "cuda", "graph", "opencl", "ops", "triton", "tuning_db"]
    installed = fresh.run("pip", "list", "--format", "freeze").lower()
    assert not re.search(r"^(torch|pycuda|pyopencl|triton|onnx|scipy)", installed, re.MULTILINE)


@pytest.mark.slow
def test_wheel_declares_extras_and_only_five_dependencies(distributions: Distributions) -> None:
    """What the wheel says of itself is what pyproject.toml says."""
    with zipfile.ZipFile(distributions.wheel) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        text = wheel.read(name).decode()
    provided = set(re.findall(r"^Provides-Extra: (.+)$", text, re.MULTILINE))
    required = names(re.findall(r"^Requires-Dist: ([^;\n]+)$", text, re.MULTILINE))
    assert provided == EXTRAS
    assert {name.strip() for name in required} == DEPENDENCIES
