"""The shape of the tree: which part may import which, and what may lie where."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

BASE = "errors op space"

# Part: its modules, and the parts it may import besides itself.
PARTS: dict[str, tuple[str, str]] = {
    "errors": ("errors", ""),
    "memory": ("memory", ""),
    "settings": ("settings", "errors"),
    "op": ("op problem words dtypes accuracy", "errors"),
    "space": ("space config", "errors"),
    "backend": ("backend", BASE),
    "hookspecs": ("hookspecs", ""),
    "registry": ("registry loading lookup", f"hookspecs backend settings {BASE}"),
    "measure": ("measure race runoff contention", "backend errors"),
    "records": (
        "records",
        f"measure backend {BASE}",
    ),
    "strategies": ("strategies", "space errors"),
    "dispatch": (
        "dispatch preference plans runs calls _calls selection answers proof explanation arrays "
        "roofline",
        f"registry records measure trial backend settings {BASE}",
    ),
    "trial": ("trial trial_inputs guard runner", f"measure backend memory {BASE}"),
    "worker": (
        "worker worker_child nursery",
        f"trial measure registry backend settings memory {BASE}",
    ),
    "tuner": (
        "tuner search field ending candidate arms events shortlist",
        f"dispatch registry records measure trial worker strategies backend settings {BASE}",
    ),
    "ops": ("ops", "dispatch hookspecs errors op"),
    "graph": (
        "graph",
        f"dispatch ops hookspecs registry measure backend settings memory {BASE}",
    ),
    "bench": ("bench", f"dispatch graph registry backend settings memory version {BASE}"),
    "testing": (
        "testing",
        f"dispatch graph hookspecs registry records measure strategies tuner worker trial backend "
        f"settings {BASE}",
    ),
    "cli": (
        "cli __main__",
        f"bench dispatch graph registry records measure strategies tuner worker trial backend "
        f"settings version {BASE}",
    ),
}
"""Mirrors the arrows of the design: registry says what exists, dispatch says what runs, the tuner
finds what is best, records keep what was learnt."""

PART_OF = {module: part for part, (modules, _) in PARTS.items() for module in modules.split()}
PART_OF["__version__"] = "version"

TOP_LEVEL = {"hwkit", "plugins", "cython", "tuning_db", "tests", "asv_bench", "docs"}
CYTHON_SUFFIXES = {".pyx", ".h", ".inc", ".c", ".md"}


class Import(NamedTuple):
    """One import of a source file."""

    module: str
    line: int
    at_top: bool


def imports(file: Path) -> Iterator[Import]:
    """Yield what a file imports, absolute, without what only type checkers see."""
    package = file.relative_to(ROOT).with_suffix("").parts

    def walk(node: ast.AST, at_top: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level] if node.level else ()
            stem = ".".join([*start, *([node.module] if node.module else [])])
            # "from . import x" imports modules, "from .x import y" the module x.
            names = [f"{stem}.{a.name}" for a in node.names] if not node.module else [stem]
            yield from (Import(name, node.lineno, at_top) for name in names)
        inner = at_top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inner)

    yield from walk(ast.parse(file.read_text("utf-8")), True)


def sources(folder: str) -> list[Path]:
    """Return the Python files below a folder of the root."""
    return sorted((ROOT / folder).rglob("*.py"))


def tracked() -> list[str]:
    """Return the files under version control."""
    command = ["git", "-C", str(ROOT), "ls-files"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("this is not a git checkout")
    return done.stdout.splitlines()


@pytest.mark.parametrize("file", sources("hwkit"), ids=lambda f: str(f.relative_to(ROOT)))
def test_arrows_point_one_way(file: Path) -> None:
    """A module imports only the parts that its own part may."""
    parts = file.relative_to(ROOT / "hwkit").with_suffix("").parts
    if parts == ("__init__",):
        return  # the public names come from everywhere, late
    assert parts[0] in PART_OF, f"hwkit/{parts[0]} belongs to no part: add it to PARTS"
    own = PART_OF[parts[0]]
    allowed = {own, *PARTS[own][1].split()}
    for found in imports(file):
        top, _, rest = found.module.partition(".")
        if top != "hwkit":
            continue
        target = PART_OF.get(rest.partition(".")[0], rest or "hwkit")
        assert target in allowed, f"{file.name}:{found.line}: {own} must not import {target}"


def test_no_module_imports_itself_in_a_circle() -> None:
    """Top-level imports of hwkit have an order."""
    graph: dict[str, set[str]] = {}
    for file in sources("hwkit"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found = {i.module for i in imports(file) if i.at_top and i.module.startswith("hwkit.")}
        graph[name] = found - {name, "hwkit"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


@pytest.mark.parametrize(
    "file", [*sources("plugins"), *sources("tuning_db")], ids=lambda f: str(f.relative_to(ROOT))
)
def test_plugins_import_only_the_public_names(file: Path) -> None:
    """A plugin says ``import hwkit`` or ``from hwkit import ...``, as a stranger's would."""
    public = {"hwkit"} | ({"hwkit.testing"} if "tests" in file.parts else set())
    package = file.relative_to(ROOT).parts[:-1]
    for found in imports(file):
        top = found.module.partition(".")[0]
        inside = found.module.startswith(".".join(package[:2]))
        assert top != "hwkit" or found.module in public or inside, (
            f"{file.name}:{found.line}: a plugin must not import {found.module}, only names of "
            "hwkit itself"
        )


def test_core_never_imports_a_plugin() -> None:
    """Our own plugins come through the entry points, like a stranger's."""
    for file in sources("hwkit"):
        for found in imports(file):
            top = found.module.partition(".")[0]
            assert top == "hwkit" or not top.startswith("hwkit"), f"{file}:{found.line}"


def test_top_level_folders_are_these() -> None:
    """The names are fixed; folders that begin with a dot belong to tools."""
    folders = {name.partition("/")[0] for name in tracked() if "/" in name}
    assert {name for name in folders if not name.startswith(".")} == TOP_LEVEL


def test_cython_folder_holds_no_python() -> None:
    """With a Python file in it, ``import cython`` from the checkout would find this folder."""
    odd = [
        file.name
        for file in (ROOT / "cython").rglob("*")
        if file.is_file() and file.suffix not in CYTHON_SUFFIXES
    ]
    odd += [file.name for file in (ROOT / "cython").glob("__init__.*")]
    assert not odd, (
        f"cython/ must hold only {', '.join(sorted(CYTHON_SUFFIXES))}, not {odd}: a .py or .pxd "
        "makes Python or Cython take the folder for the package 'cython'"
    )


def test_nobody_imports_cython() -> None:
    """Run from the checkout without Cython installed, ``import cython`` succeeds with nothing."""
    for folder in ("hwkit", "plugins", "tuning_db", "tests", "asv_bench"):
        for file in sources(folder):
            assert "cython" not in {found.module for found in imports(file)}, str(file)


def test_modules_are_short() -> None:
    """A file that needs an "and" to be described should be two."""
    limit = 400  # three hundred is the aim
    files = [f for folder in ("hwkit", "plugins", "tuning_db") for f in sources(folder)]
    long = {
        str(file.relative_to(ROOT)): lines
        for file in files
        if (lines := len(file.read_text("utf-8").splitlines())) > limit
        # One page on what a Problem is; splitting it would part its text from its parser.
        and file.name != "op.py"
    }
    assert not long


@pytest.mark.parametrize("file", sources("tests"), ids=lambda f: str(f.relative_to(ROOT)))
def test_every_test_says_what_it_proves(file: Path) -> None:
    """Each test and each file of tests has a docstring."""
    tree = ast.parse(file.read_text("utf-8"))
    assert ast.get_docstring(tree), f"{file.name} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{file.name}:{node.lineno}: {node.name}"
