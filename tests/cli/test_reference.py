"""hwkit/cli/README.md says what the commands say."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwkit.cli.commands import EXIT_CODES
from hwkit.cli.reference import commands, renew
from hwkit.settings import VARIABLES

DOCUMENT = Path(__file__).resolve().parents[2] / "hwkit" / "cli" / "README.md"


def test_generated_parts_are_fresh() -> None:
    """Options, usage and exit codes in the document are those of the code."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == renew(text), "type: python -m hwkit.cli.reference hwkit/cli/README.md"


def test_a_stale_part_is_noticed() -> None:
    """The comparison is a real one."""
    stale = "<!-- generated: hwkit devices -->\nold\n<!-- end -->"
    fresh = renew(stale)
    assert "--json" in fresh
    assert "old" not in fresh
    assert renew(fresh) == fresh
    with pytest.raises(KeyError):
        renew("<!-- generated: hwkit nonsense -->\n<!-- end -->")


def test_every_command_exit_code_and_variable_is_documented() -> None:
    """Nothing that a user can type is missing."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in commands():
        assert f"<!-- generated: {name} -->" in text
    for name in VARIABLES:
        assert f"`{name}`" in text
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in text
