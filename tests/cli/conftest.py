"""The command, run in this process: words in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hwkit import Config, Fingerprint
from hwkit.cli import main
from hwkit.dispatch import database, forget
from hwkit.measure import Measurement
from hwkit.records import Record
from hwkit.registry import registry
from hwkit.settings import settings
from hwkit.testing import fake as fakes


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document


Hwkit = Callable[..., Answer]


def _forget_all() -> None:
    settings.cache_clear()
    database.cache_clear()
    forget()


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tuning database of the test's own."""
    path = tmp_path / "tuning.db"
    monkeypatch.setenv("HWKIT_DB", str(path))
    _forget_all()
    yield path
    _forget_all()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, db: Path) -> Iterator[None]:
    """The devices fake:0 and fake:1; the first is the default device."""
    monkeypatch.setenv("HWKIT_DEVICE", "fake:0")
    settings.cache_clear()
    registry().register(fakes.fake, "fake")
    yield
    registry().unregister("fake")


def record(
    problem: str,
    seconds: float = 1e-3,
    config: str = "tile=8",
    *,
    failure: str | None = None,
    environment: str = "1.0",
    default: bool = False,
    arch: str = "fake-0",
    error: float = 1e-7,
) -> Record:
    """Return a trial of the device fake:0."""
    measured = Measurement(seconds, (seconds,) * 31, error)
    if failure is not None:
        measured = Measurement.failed(failure, "it was not to be")
    return Record(
        problem=problem,
        op=problem.partition(" ")[0],
        kernel="fake",
        version=1,
        config=Config.parse(config),
        arch=arch,
        fingerprint=Fingerprint({"backend": "fake", "arch": arch}, {"driver": environment}),
        measurement=measured,
        default=default,
    )


@pytest.fixture
def hwkit(db: Path, capfd: pytest.CaptureFixture[str]) -> Hwkit:
    """Run the command with a database of its own."""

    def run(*words: str) -> Answer:
        capfd.readouterr()
        code = main(list(words))
        captured = capfd.readouterr()
        return Answer(code, captured.out, captured.err)

    return run
