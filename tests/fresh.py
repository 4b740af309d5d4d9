"""A clean copy of the checkout, what is built from it, and fresh environments to install it in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What would let the checkout, or the environment of the tests, shine through.
_HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONWARNINGS")


def clean_environment(folder: Path) -> dict[str, str]:
    """Return an environment that knows neither this checkout nor the user's database."""
    kept = {k: v for k, v in os.environ.items() if k not in _HIDDEN and k[:6] != "HWKIT_"}
    return {**kept, "HWKIT_DB": str(folder / "tuning.db")}


def run(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    """Run a command, and return what it printed; the test fails with it otherwise."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_checkout(folder: Path) -> Path:
    """Copy what is under version control, as a clone would, with the changes of this checkout."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    clone = folder / "clone"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    return clone


@dataclass(frozen=True)
class Distributions:
    """The clean copy, and the wheel and source archive that were built from it."""

    clone: Path
    wheel: Path
    sdist: Path


def build(folder: Path) -> Distributions:
    """Build the source archive, and the wheel out of the source archive."""
    clone, dist = copy_checkout(folder), folder / "dist"
    env = clean_environment(folder)
    run([sys.executable, "-m", "build", "-o", str(dist), str(clone)], folder, env)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return Distributions(clone, wheel, sdist)


class Environment:
    """A fresh virtual environment outside the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=True)
        self._env = clean_environment(folder)

    def command(self, name: str) -> str:
        """Return the path of a command of the environment."""
        return str(self.folder / "venv" / "bin" / name)

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """Run a command of the environment, and return what it printed."""
        return run([self.command(words[0]), *words[1:]], cwd or self.folder, self._env)

    def install(self, *what: str) -> None:
        """Install, as a user does."""
        self.run("pip", "install", "-q", *what)
