"""Tests of the shipped records: each line is legal, and the schema says what the code does."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hwkit import Fingerprint, hookspecs
from hwkit.errors import FAILURE_CLASSES
from hwkit.records.lines import read_lines
from hwkit.records.record import FORMAT, RACED

from .records.trials import RACE, trial

FOLDER = Path(__file__).parents[1] / "tuning_db"
SCHEMA = json.loads((FOLDER / "schema.json").read_text("utf-8"))
FILES = sorted(FOLDER.glob("*.jsonl"))


def fits(value: Any, rule: dict[str, Any]) -> bool:
    """Whether a value fits a rule of the schema: the few keywords that it uses."""
    if "$ref" in rule:
        rule = SCHEMA["$defs"][rule["$ref"].rpartition("/")[2]]
    if "anyOf" in rule and not any(fits(value, r) for r in rule["anyOf"]):
        return False
    if "const" in rule:
        return bool(value == rule["const"])
    if "enum" in rule:
        return value in rule["enum"]
    kinds = rule.get("type", [])
    types = {"string": str, "boolean": bool, "array": list, "object": dict, "null": type(None)}
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if (kind == "number" and number) or (kind == "integer" and number and value == int(value)):
            break
        if kind in types and isinstance(value, types[kind]):
            break
    else:
        if kinds:
            return False
    if isinstance(value, str):
        return len(value) <= rule.get("maxLength", 10**9) and bool(
            re.search(rule.get("pattern", ""), value)
        )
    if isinstance(value, list):
        items = [fits(v, rule["items"]) for v in value]
        return len(value) <= rule["maxItems"] and all(items)
    if isinstance(value, dict) and "properties" in rule:
        known = rule["properties"]
        return set(rule["required"]) <= set(value) <= set(known) and all(
            fits(v, known[k]) for k, v in value.items()
        )
    if isinstance(value, dict):
        return all(fits(v, rule["additionalProperties"]) for v in value.values())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return rule.get("minimum", value) <= value and value > rule.get("exclusiveMinimum", -1)
    return True


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_shipped_files(file: Path) -> None:
    """Every line reads, is a success, comes once, and fits the schema."""
    bad: dict[str, str] = {}
    records = list(read_lines(file, bad))
    assert not bad
    assert records
    assert all(r.ok and r.measurement.samples and r.measurement.error >= 0 for r in records)
    assert len({r.id for r in records}) == len(records)
    assert all(r.arch in file.name for r in records)
    assert all(fits(json.loads(r.to_json()), SCHEMA) for r in records)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_estimates_are_never_passed_off_as_measurements(file: Path) -> None:
    """Files of emulated devices say so in name, origin and identity; no other file does."""
    emulated = "-emulated-" in file.name
    for record in read_lines(file, {}):
        assert (record.origin == "estimated") is emulated
        assert record.fingerprint.identity.get("emulated", False) is emulated


def test_every_profile_and_pocl_have_records() -> None:
    """A file for each emulated device, and one of PoCL."""
    from hwkit_opencl.profiles import NAMES

    names = {file.name for file in FILES}
    assert {f"opencl-emulated-{name}.jsonl" for name in NAMES} <= names
    assert any(name.startswith("opencl-pocl-") for name in names)


def test_the_hook_hands_over_the_files() -> None:
    """The hook returns exactly the record files of its folder."""
    spec = importlib.util.spec_from_file_location("tuning_db_here", FOLDER / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert list(module.hwkit_records()) == FILES
    assert module.hwkit_records.hwkit_impl
    assert hookspecs.hwkit_records.__name__ == "hwkit_records"


def test_the_schema_is_of_the_code() -> None:
    """Fields, format and failure classes of the schema are those of a Record."""
    line, raced = (json.loads(r.to_json()) for r in (trial(), trial(race=RACE)))
    assert set(SCHEMA["required"]) == set(line)
    assert set(SCHEMA["properties"]) == set(raced) == {*line, "race"}
    assert set(SCHEMA["$defs"]["race"]["required"]) == set(raced["race"])
    assert SCHEMA["properties"]["format"]["enum"] == [FORMAT, RACED]
    assert SCHEMA["properties"]["failure"]["enum"] == [None, *FAILURE_CLASSES]
    others = trial(failure="wrong"), trial(fingerprint=Fingerprint()), trial(race=RACE)
    for record in (trial(), *others):
        assert fits(json.loads(record.to_json()), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": 0}, {"seconds": "1"}, {"samples": [0]}, {"samples": 1}, {"error": -1},
        {"error": "nan"}, {"failure": "melted"}, {"version": -1}, {"version": 0.5}, {"format": 3},
        {"race": None}, {"race": {"ratio": 1.0}},
        {"created": "today"}, {"id": "x"}, {"kernel": "a b"}, {"problem": "gemm"}, {"more": 1},
        {"identity": {"a": []}}, {"strict": 1}, {"reason": "x" * 501},
    ],
    ids=str,
)  # fmt: skip
def test_the_schema_refuses(change: dict[str, Any]) -> None:
    """What the code refuses, the schema refuses."""
    assert not fits({**json.loads(trial().to_json()), **change}, SCHEMA)
