"""The documents: every block of code in them runs, and every promise of names is kept."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import blocks, commands
from fresh import copy_checkout

from hwkit import hookspecs
from hwkit import settings as settings_module
from hwkit.cli.commands import COMMANDS

# Compiling and installing take minutes on a slow machine.
pytestmark = pytest.mark.timeout(1500)

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "plugins" / "example"
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    ROOT / "plugins" / "README.md",
    ROOT / "plugins" / "hwkit_opencl" / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "cython" / "README.md",
    ROOT / "asv_bench" / "README.md",
    ROOT / "tuning_db" / "README.md",
    ROOT / "hwkit" / "cli" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
KINDS = {
    "python": "executed, one after the other, in one process",
    "python file": "part of a file that is shown, and must be in that file",
    "toml file": "the same",
    "console": "commands behind $, executed; what they print is compared loosely",
    "console setup": "commands that install; a slow test of its own runs them",
    "text": "not code",
}


_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_UNIT = r"[kMGTmnu]?(?:B|s|FLOP/s|B/s)"


def environment(folder: Path) -> dict[str, str]:
    """Return an environment where the example is installed, as far as Python can tell."""
    info = folder / "site" / "hwkit_abacus-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hwkit-abacus\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[hwkit]\nabacus = hwkit_abacus\n")
    module = (EXAMPLE / "hwkit_abacus.py").read_text("utf-8")
    (folder / "site" / "hwkit_abacus.py").write_text(module, "utf-8")
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "HWKIT_DB": str(folder / "tuning.db"),
        "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), *filter(None, sys.path)]),
        "COLUMNS": "100",
    }


def loose(line: str) -> str:
    """Return a line of output without what differs between two machines: numbers and spaces."""
    line = re.sub(r"[^\x00-\x7f]+", " ", line)
    line = re.sub(rf"\b{_NUMBER} ?({_UNIT}\b)?|[\d.]+", "#", line)
    return " ".join(line.split())


def assert_printed(shown: list[str], printed: str, where: str) -> None:
    """Every line shown is printed, in this order; ``...`` stands for any lines between."""
    rest = [loose(line) for line in printed.splitlines()]
    for line in filter(None, (loose(text) for text in shown)):
        if line in ("...", "#"):
            continue
        assert line in rest, f"{where}: {line!r} is shown, but what is printed is:\n{printed}"
        rest = rest[rest.index(line) + 1 :]


_DRIVER = """\
import json, sys
blocks = json.load(open(sys.argv[1], encoding="utf-8"))
names = {"__name__": "__main__"}
for line, code in blocks:
    exec(compile("\\n" * line + code, sys.argv[2], "exec"), names)
"""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_every_block_is_of_a_kind_that_is_tested(document: Path) -> None:
    """A block that nothing runs is a promise that nobody keeps."""
    for block in blocks(document):
        assert block.kind in KINDS, f"{document.name}:{block.line}: {block.kind!r}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_python_blocks_run(document: Path, tmp_path: Path) -> None:
    """All of a document in one process, as a reader would type them."""
    code = [(b.line, b.code) for b in blocks(document) if b.kind == "python"]
    (tmp_path / "blocks.json").write_text(json.dumps(code), "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DRIVER, "blocks.json", str(document)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_commands_run_and_print_what_is_shown(document: Path, tmp_path: Path) -> None:
    """All of a document in one folder, one after the other."""
    env = environment(tmp_path)
    for block in blocks(document):
        for command, shown in commands(block) if block.kind == "console" else ():
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            where = f"{document.name}:{block.line}: {command}"
            assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"
            assert_printed(shown, done.stdout + done.stderr, where)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_parts_of_files_are_in_the_files(document: Path) -> None:
    """The first line of such a block names the file; the rest is in it, word for word."""
    for block in blocks(document):
        if block.kind.endswith(" file"):
            first, _, rest = block.code.partition("\n")
            file = document.parent / first.strip("# ")
            shown = f"{document.name}:{block.line}: this is not in {first.strip('# ')}"
            assert rest.strip() in file.read_text("utf-8"), shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document: Path) -> None:
    """Relative links are files of the checkout."""
    text = document.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_example_is_explained_from_its_first_to_its_last_line() -> None:
    """Every line of the example's module is in plugins/README.md."""
    shown = "\n".join(b.code for b in blocks(ROOT / "plugins" / "README.md"))
    explained = {line.strip() for line in shown.splitlines()}
    code = (EXAMPLE / "hwkit_abacus.py").read_text("utf-8").splitlines()
    missing = [line for line in code if line.strip() and line.strip() not in explained]
    assert not missing


def test_every_hook_is_documented_with_its_signature() -> None:
    """In plugins/README.md, with exactly the arguments that it has."""
    text = (ROOT / "plugins" / "README.md").read_text("utf-8")
    for name in hookspecs.__all__:
        if name.startswith("hwkit_"):
            arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
            assert f"`{name}({arguments})`" in text


def test_every_setting_and_command_is_in_the_readme() -> None:
    """What can be set and typed is in the tables."""
    text = (ROOT / "README.md").read_text("utf-8")
    for name in re.findall(r"``(HWKIT_\w+)``", settings_module.__doc__ or ""):
        assert f"| `{name}` |" in text
    for command in COMMANDS:
        assert f"`hwkit {command}`" in text


def test_both_readmes_have_the_same_set_up() -> None:
    """The commands are the same in every language."""
    english, chinese = (
        [b.code for b in blocks(ROOT / name) if b.kind == "console setup"]
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese
    assert len(english) == 1
    assert english[0].count("$ ") == 2


def test_ci_runs_the_second_command_of_the_readme() -> None:
    """The command that passes the tests is the one that CI ends with."""
    (block,) = (b for b in blocks(ROOT / "README.md") if b.kind == "console setup")
    _, (second, _) = commands(block)
    words = (ROOT / ".ci" / "run").read_text("utf-8").rstrip().splitlines()[-1]
    assert second.endswith(words)


def test_commands_of_contributing_name_what_is_there() -> None:
    """Extras and paths in them exist; CI runs the same tools."""
    text = "".join(b.code for b in blocks(ROOT / "CONTRIBUTING.md") if b.kind == "console setup")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in re.findall(r"\[([a-z,]+)\]", text)[0].split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    for path in re.findall(r" (tests/\S+)", text):
        assert (ROOT / path).exists()


@pytest.mark.slow
def test_first_command_of_the_readme_sets_up_and_tunes(tmp_path: Path) -> None:
    """In a clean copy: it installs, compiles, tunes, and the call after it runs what won."""
    clone = copy_checkout(tmp_path)
    (block,) = (b for b in blocks(ROOT / "README.md") if b.kind == "console setup")
    (first, _), _ = commands(block)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env["HWKIT_DB"] = str(tmp_path / "tuning.db")
    problem = re.search(r'--problem "([^"]+)"', first)
    assert problem is not None
    explain = f".venv/bin/hwkit explain '{problem[1]}'"
    # Without a checkout of that name on the path: what was installed must do it.
    for command in (first.replace("python3 ", f"{sys.executable} ", 1), explain):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=clone, env=env, capture_output=True, text=True, check=False, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert "user record" in done.stdout
