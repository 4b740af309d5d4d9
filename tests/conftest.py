"""Every test runs on a database of its own, never on the user's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before hwkit is imported anywhere: settings are read once.
_FOLDER = tempfile.TemporaryDirectory(prefix="hwkit-tests-")
os.environ["HWKIT_DB"] = str(Path(_FOLDER.name) / "tuning.db")

import pytest  # noqa: E402  # the variable comes first


@pytest.fixture(autouse=True)
def _forget_plans() -> Iterator[None]:
    """Leave no plan of one test to the next."""
    from hwkit import dispatch

    yield
    dispatch.forget()
