"""The benchmarks: their parameters are problems that exist, and asv runs them in a clean clone."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from documents import blocks, commands

from hwkit.dispatch import parse_problem
from hwkit.registry import registry

# Compiling and installing take minutes on a slow machine.
pytestmark = pytest.mark.timeout(1500)

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "asv_bench" / "benchmarks"
MODULES = sorted(f.stem for f in FOLDER.glob("*.py") if f.stem not in ("__init__", "common"))


def load(name: str) -> ModuleType:
    """Import a module of the benchmarks, as asv does."""
    for part in ("benchmarks", "benchmarks.common", f"benchmarks.{name}"):
        file = FOLDER / ("__init__.py" if part == "benchmarks" else f"{part.split('.')[1]}.py")
        spec = importlib.util.spec_from_file_location(part, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[part] = module
        spec.loader.exec_module(module)
    return module


def test_there_is_a_benchmark_of_every_op() -> None:
    """By the name of the Op, with sample problems that can be read."""
    load("ops")
    problems = sys.modules["benchmarks.common"].PROBLEMS
    assert set(problems) == set(registry().ops())
    for op, texts in problems.items():
        assert {parse_problem(text).op.name for text in texts} == {op}


@pytest.mark.parametrize("name", MODULES)
def test_benchmarks_are_well_formed(name: str) -> None:
    """As many parameters as names, and every benchmark takes them."""
    for cls in vars(load(name)).values():
        if not inspect.isclass(cls) or cls.__name__.startswith("_"):
            continue
        count = len(getattr(cls, "params", ()))
        assert len(getattr(cls, "param_names", ())) == count
        extra = 1 if hasattr(cls, "setup_cache") else 0
        for method, function in inspect.getmembers(cls, inspect.isfunction):
            if method.startswith(("time_", "track_")):
                assert len(inspect.signature(function).parameters) == 1 + extra + count, method


def test_every_file_of_benchmarks_has_a_row_in_the_readme() -> None:
    """The README says how to read each."""
    text = (ROOT / "asv_bench" / "README.md").read_text("utf-8")
    assert not [name for name in MODULES if f"| `{name}.py` |" not in text]


def test_defaults_are_ready_and_what_is_not_there_is_skipped() -> None:
    """A problem without a record and a device that is missing raise asv's own exception."""
    load("ops")
    common = sys.modules["benchmarks.common"]
    for texts in common.PROBLEMS.values():
        common.Ready(common.make_plan(texts[-1], "cpu:0", "default"))()
    with pytest.raises(NotImplementedError, match="abakus"):
        common.make_plan(common.PROBLEMS["gemm"][0], "abakus:7", "default")
    with pytest.raises(NotImplementedError, match="there is no record"):
        common.make_plan("gemm float64 nn m=3 n=5 k=7", "cpu:0", "tuned")


@pytest.mark.slow
def test_commands_of_the_readme_run_offline_in_a_clean_clone(tmp_path: Path) -> None:
    """Run, publish and compare: with one small benchmark, and no package index."""
    if importlib.util.find_spec("asv") is None:
        pytest.skip("asv is not installed: pip install asv")
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD~1"], check=False,
                      capture_output=True).returncode != 0:  # fmt: skip
        pytest.skip("this checkout has no history")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    # What is tested is this checkout's folder, committed or not.
    shutil.copytree(ROOT / "asv_bench", clone / "asv_bench", dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("results", "html", "env"))  # fmt: skip
    scripts = str(Path(sys.executable).parent)
    env = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "PIP_NO_INDEX": "1",
    }
    shown = [c for b in blocks(ROOT / "asv_bench" / "README.md") if b.kind == "console setup"
             for c, _ in commands(b)]  # fmt: skip
    small = [re.sub(r"(asv run)", r"\1 -b Spaces.time_contains", command) for command in shown]
    # To compare two commits, there must be figures of two.
    small.insert(-1, next(c for c in small if "rev-parse HEAD" in c).replace("HEAD)", "HEAD~1)"))
    for command in small:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=clone, env=env, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "failed" not in done.stdout, done.stdout
    assert "Spaces.time_contains" in done.stdout
    assert (clone / "asv_bench" / "html" / "index.html").is_file()


def test_the_table_of_gpus_says_which_floors_are_met() -> None:
    """Of made-up rows: groups, ratios, shares, rows without a peer, errors, an unfinished run."""
    spec = importlib.util.spec_from_file_location("table", ROOT / "asv_bench" / "gpu" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    large, thin = "gemm bfloat16 nn m=4096 n=4096 k=4096", "gemm float16 nn m=16 n=4096 k=4096"
    pool = "max_pool2d bfloat16 nhwc n=1 c=8 h=8 w=8 r=2 s=2 pad=0 stride=2"
    rows = [
        {"problem": large, "hwkit": 2e-3, "torch": 1.8e-3, "triton": 4e-3},
        {"problem": thin, "hwkit": 1e-3, "torch": 1e-3},
        {"problem": thin, "hwkit": 1e-3, "torch": 4e-3},
        {"problem": pool, "hwkit": 1e-3, "torch": 1e-3, "share": 0.95},
        {"problem": "conv2d x", "error": "RuntimeError: no"},
    ]
    result = {"before": {"name": "made up"}, "rows": rows, "launch_seconds": {"own arrays": 9e-6}}
    found = table.lines(result)
    assert found[0] == "name made up"
    assert found[2].split()[:5] == ["2000.0", "1800.0", "4000.0", "0.90", "2.00"]
    assert "conv2d x: RuntimeError: no" in found
    said = "\n".join(found)
    assert "bfloat16 gemm from 4096, the least: least of 1 0.90, floor 0.95 NOT met" in said
    assert "half gemm to 2048 and thin: geometric mean of 2 2.00, floor 1.0 met" in said
    assert "pooling, of the copy's bandwidth: geometric mean of 1 0.95, floor 0.9 met" in said
    assert "own arrays costs 9.0 us on the host, below 15 us met" in said
    assert found[-1].startswith("UNFINISHED")
    assert not table.lines({**result, "after": {}})[-1].startswith("UNFINISHED")
