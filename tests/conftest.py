"""Every test runs on a database of its own, never on the user's."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# What is installed is tested, compiled modules and all, not what lies in the current folder.
_ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != _ROOT]

# Before hwkit is imported anywhere: settings are read once.
_FOLDER = tempfile.TemporaryDirectory(prefix="hwkit-tests-")
os.environ["HWKIT_DB"] = str(Path(_FOLDER.name) / "tuning.db")
# Options of this run, read by now, are not for those that tests start.
os.environ.pop("PYTEST_ADDOPTS", None)

import pytest  # noqa: E402  # the variable comes first
from fresh import Distributions, build  # noqa: E402


@pytest.fixture(autouse=True)
def _forget_plans() -> Iterator[None]:
    """Leave no plan of one test to the next."""
    from hwkit import dispatch

    yield
    dispatch.forget()


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Wheel and source archive, built once from a clean copy of the checkout."""
    pytest.importorskip("build", reason="build is not installed: pip install build")
    return build(tmp_path_factory.mktemp("dist"))
