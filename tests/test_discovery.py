"""Entry points are those that importlib.metadata finds, wherever projects lie."""

from __future__ import annotations

import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from hwkit import discovery
from hwkit.discovery import EntryPoint, entry_points

GROUP = "hwkit.test"


def project(folder: Path, name: str, version: str, points: str, suffix: str = "dist-info") -> None:
    """Install a project that has nothing but entry points."""
    info = folder / f"{name.replace('-', '_')}-{version}.{suffix}"
    info.mkdir(parents=True)
    head = "PKG-INFO" if suffix == "egg-info" else "METADATA"
    (info / head).write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: x\n"
    )
    (info / "entry_points.txt").write_text(points)


def standard() -> list[EntryPoint]:
    """Return what importlib.metadata finds."""
    found = metadata.entry_points(group=GROUP)
    return [EntryPoint(p.name, p.value, f"{p.dist.name} {p.dist.version}") for p in found if p.dist]


def test_folders_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several groups, with comments and extras; the first of a name hides the others."""
    project(tmp_path / "a", "my-kernels", "1.0", f"[x]\na = b\n[{GROUP}]\n# c = d\nfast=math:pi\n")
    project(tmp_path / "a", "Other.One", "2", f"[{GROUP}]\n\n  e=math : pi [more]  \n", "egg-info")
    project(tmp_path / "b", "my_kernels", "0.1", f"[{GROUP}]\nold = math\n")
    project(tmp_path / "b", "silent", "1", "[x]\na = b\n")
    (tmp_path / "a" / "empty-1.dist-info").mkdir()
    for folder in ("b", "missing", "a"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    found = entry_points(GROUP)
    assert sorted(found) == sorted(standard())
    assert {p.name: p.distribution for p in found} == {"fast": "my-kernels 1.0", "e": "Other.One 2"}
    assert all(p.load() == __import__("math").pi for p in found)
    assert entry_points("hwkit.none") == []


def test_an_archive_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no folder is left to importlib.metadata."""
    with zipfile.ZipFile(tmp_path / "plugin.zip", "w") as archive:
        archive.writestr("zipped-3.dist-info/METADATA", "Name: zipped\nVersion: 3\n")
        archive.writestr("zipped-3.dist-info/entry_points.txt", f"[{GROUP}]\nz = json.decoder\n")
    monkeypatch.syspath_prepend(str(tmp_path / "plugin.zip"))
    (found,) = entry_points(GROUP)
    assert found == EntryPoint("z", "json.decoder", "zipped 3")
    assert found.load().__name__ == "json.decoder"


def test_a_finder_of_another_kind_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds distributions elsewhere is heard."""

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            return None

        @staticmethod
        def find_distributions(context: object = None) -> list[object]:
            return []

    asked: list[str] = []
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    monkeypatch.setattr(discovery, "_by_importlib", lambda group: asked.append(group) or [])
    assert entry_points(GROUP) == []
    assert asked == [GROUP]
