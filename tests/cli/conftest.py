"""The command, run in this process: words in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hwkit.cli import main
from hwkit.dispatch import database, forget
from hwkit.settings import settings


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
def hwkit(db: Path, capfd: pytest.CaptureFixture[str]) -> Hwkit:
    """Run the command with a database of its own."""

    def run(*words: str) -> Answer:
        capfd.readouterr()
        code = main(list(words))
        captured = capfd.readouterr()
        return Answer(code, captured.out, captured.err)

    return run
