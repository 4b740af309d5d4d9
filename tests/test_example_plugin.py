"""plugins/example is a genuine third-party project: it installs, shows up, and passes its tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fresh import Distributions, Environment

# Compiling and installing take minutes on a slow machine.
pytestmark = pytest.mark.timeout(1500)

EXAMPLE = Path(__file__).parents[1] / "plugins" / "example"


def test_example_is_short() -> None:
    """A whole backend fits on one page."""
    lines = (EXAMPLE / "hwkit_abacus.py").read_text("utf-8").splitlines()
    assert len(lines) < 80


@pytest.fixture(scope="module")
def environment(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with hwkit's wheel and the example, installed by pip alone."""
    made = Environment(tmp_path_factory.mktemp("example"))
    project = distributions.clone / "plugins" / "example"
    made.install(str(distributions.wheel), f"{project}[test]")
    return made


@pytest.mark.slow
def test_example_shows_up_beside_our_own(environment: Environment) -> None:
    """``hwkit devices`` lists it, ``doctor`` finds nothing wrong with it."""
    found = json.loads(environment.run("hwkit", "devices", "--json"))
    assert {"abacus:0", "cpu:0"} <= {device["name"] for device in found["devices"]}
    assert "hwkit-abacus 0.1.0" in environment.run("hwkit", "doctor")


@pytest.mark.slow
def test_example_passes_its_own_tests(environment: Environment, tmp_path: Path) -> None:
    """Its tests are the conformance suite, run outside the checkout; nothing is skipped."""
    source = EXAMPLE / "tests" / "test_abacus.py"
    (tmp_path / source.name).write_text(source.read_text("utf-8"), "utf-8")
    printed = environment.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", ".",
                              cwd=tmp_path)  # fmt: skip
    assert "passed" in printed
    assert "skipped" not in printed


@pytest.mark.slow
def test_example_can_be_tuned(environment: Environment) -> None:
    """Tuning needs nothing from the plugin beyond the contract."""
    problem = "gemm float32 nn m=64 n=64 k=64"
    words = ["hwkit", "tune", "--device", "abacus:0", "--problem", problem, "--budget", "10s"]
    environment.run(*words)
    shown = environment.run("hwkit", "explain", problem, "--device", "abacus:0")
    assert "user record" in shown
