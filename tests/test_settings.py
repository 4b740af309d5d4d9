"""The HWKIT_ variables: defaults, what is read, what is refused, and that all are documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwkit import ArgumentError, HwkitWarning
from hwkit import settings as module
from hwkit.settings import Settings, settings

ROOT = Path(__file__).parents[1]


def test_defaults() -> None:
    """An empty environment gives the defaults of the table."""
    assert Settings.from_environment({}) == Settings(
        device="cpu:0", db=None, threads=None, max_isa=None, disable_plugins=frozenset()
    )


def test_everything_is_read() -> None:
    """Spaces around a value do not matter, nor does the case of an instruction set."""
    found = Settings.from_environment(
        {
            "HWKIT_DEVICE": " cuda:1 ",
            "HWKIT_DB": "~/tuning.db",
            "HWKIT_THREADS": " 2 ",
            "HWKIT_MAX_ISA": "AVX2",
            "HWKIT_DISABLE_PLUGINS": "a, b,,",
            "HWKIT_TRACE": "1",
        }
    )
    assert found == Settings(
        "cuda:1", Path.home() / "tuning.db", 2, "avx2", frozenset({"a", "b"}), True
    )


def test_empty_values_are_like_unset_ones() -> None:
    """Shells set variables to nothing easily."""
    names = re.findall(r"``(HWKIT_\w+)``", module.__doc__ or "")
    assert Settings.from_environment(dict.fromkeys(names, "")) == Settings()
    assert not Settings.from_environment({"HWKIT_TRACE": "0"}).trace


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1e3"])
def test_threads_must_be_a_number(text: str) -> None:
    """The sentence names the variable, the value, and what to type."""
    with pytest.raises(ArgumentError, match=r"HWKIT_THREADS is .* unset HWKIT_THREADS"):
        Settings.from_environment({"HWKIT_THREADS": text})


@pytest.mark.parametrize(
    ("text", "limit"),
    [("0", 0), ("4096", 4096), (" 64 MiB", 64 << 20), ("1g", 1 << 30), ("2KB", 2048)],
)
def test_workspace_limit_in_bytes_or_units(text: str, limit: int) -> None:
    """Units are powers of 1024, in either case."""
    found = Settings.from_environment({"HWKIT_WORKSPACE_LIMIT": text})
    assert found.workspace_limit == limit


@pytest.mark.parametrize("text", ["-1", "much", "1.5g", "1t"])
def test_workspace_limit_must_be_a_size(text: str) -> None:
    """The sentence names the variable, the value, and what to type."""
    with pytest.raises(ArgumentError, match=r"HWKIT_WORKSPACE_LIMIT is .* unset"):
        Settings.from_environment({"HWKIT_WORKSPACE_LIMIT": text})


@pytest.mark.parametrize("text", ["true", "yes", " 1"])
def test_emulation_is_a_one_or_a_zero(text: str) -> None:
    """The compiled module takes "1" alone for yes; nobody tests without tiles and does not know."""
    with pytest.raises(ArgumentError, match="must be 1 or 0: unset HWKIT_EMULATE_AMX"):
        Settings.from_environment({"HWKIT_EMULATE_AMX": text})
    for known in ("", "0", "1"):
        assert Settings.from_environment({"HWKIT_EMULATE_AMX": known}) == Settings()


def test_a_home_that_is_not_known() -> None:
    """The sentence names the variable, the value, and what to type."""
    with pytest.raises(ArgumentError, match=r"HWKIT_DB is '~no-such-user/x', .* the whole path"):
        Settings.from_environment({"HWKIT_DB": "~no-such-user/x"})


def test_misspelt_variable_is_noticed() -> None:
    """A variable that is nearly one of ours is a warning; another project's is its own affair."""
    with pytest.warns(HwkitWarning, match="HWKIT_THREAD is not read, did you mean HWKIT_THREADS"):
        Settings.from_environment({"HWKIT_THREAD": "2"})
    Settings.from_environment({"HWKIT_ABACUS_RODS": "13", "HWKIT_TRACEBACK": "1"})


def test_settings_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the environment does not change a running process."""
    first = settings()
    monkeypatch.setenv("HWKIT_DEVICE", "other:3")
    assert settings() is first


def test_every_variable_is_in_the_table() -> None:
    """Whatever the sources read is documented, and whatever is documented is read."""
    documented = set(re.findall(r"``(HWKIT_\w+)``", module.__doc__ or ""))
    files = [*(ROOT / "hwkit").rglob("*.py"), *(ROOT / "plugins").rglob("hwkit_*/*.py")]
    code = "\n".join(file.read_text("utf-8") for file in files if file.name not in ("settings.py",))
    read = set(re.findall(r"(?:environ|getenv|env)\W+(?:get\W+)?[\"'](HWKIT_[A-Z_]+)", code))
    own = set(re.findall(r"[\"'](HWKIT_[A-Z_]+)[\"']", Path(module.__file__).read_text("utf-8")))
    assert read <= documented
    assert documented <= own | read
