"""The commands that take a model: run, tune and bench, with the page and the trace they write."""

from __future__ import annotations

import html
import html.parser
import json
import re
import shutil
import struct
import subprocess
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwkit
from hwkit.cli import main, tuning
from hwkit.errors import ArgumentError
from hwkit.graph.tuning import Records, compare, shares, tune_model
from hwkit.op import relative_error
from hwkit.records import Database
from hwkit.records.folder_lock import sharing
from hwkit.runoff import Paired
from hwkit.testing import unavailable
from hwkit.tuner import tune as tune_problems

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")


def small() -> Any:
    """Return a model of two convolutions, a pool and a product."""
    helper, rng = onnx.helper, np.random.default_rng(0)

    def constant(name: str, *shape: int) -> Any:
        return onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"], name="<second>", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "m"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 3, 12, 12))
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    constants = [constant("v", 8, 3, 3, 3), constant("w", 8, 8, 3, 3), constant("m", 5, 8)]
    graph = helper.make_graph(nodes, "small", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the model."""
    file = tmp_path / "small.onnx"
    file.write_bytes(small().SerializeToString())
    return file


def output_of(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Run a command and return the document that it prints."""
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_run_takes_and_gives_files(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An input from a file, the outputs into one, and what they are on the screen."""
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
    np.save(path.parent / "x.npy", x)
    out = path.parent / "y.npz"
    words = ("run", str(path), "--input", f"x={path.parent / 'x.npy'}", "--save", str(out))
    found = output_of(capsys, *words, "--explain")
    assert found["outputs"] == {"y": {"dtype": "float32", "shape": [1, 5]}}
    assert "conv2d" in found["explain"]
    with np.load(out) as saved:
        assert np.array_equal(saved["y"], hwkit.load(path)(x))
    assert main(["run", str(path)]) == 0
    assert "a run" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["file", "allow_pickle", "a/b"])
def test_outputs_of_any_name_are_saved(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that numpy.savez has for itself; the suffix is added where it is missing."""
    model = small()
    model.graph.node[-1].output[0] = model.graph.output[0].name = name
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    output_of(capsys, "run", str(file), "--save", str(tmp_path / "out"))
    with np.load(tmp_path / "out.npz") as saved:
        assert saved[name].shape == (1, 5)


def test_outputs_that_cannot_be_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there is the caller's mistake, and one sentence."""
    place = str(path.parent / "no" / "out")
    for words in (["run", "--save"], ["bench", "--report"], ["bench", "--trace"]):
        # Not after minutes of work: before it, so that the missing model is not noticed.
        assert main([*words, place, str(path.parent / "missing.onnx")]) == 2
        said = capsys.readouterr().err
        assert "cannot be written (No such file or directory)" in said
        assert said.count("\n") == 1


def test_options_before_a_model_are_its_own(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``hwkit bench --rounds 2 model.onnx`` is the same as with the model first."""
    words = ("bench", "--rounds", "2", "--peers", "none")
    assert "steps" in output_of(capsys, *words, str(path))
    assert main(["bench", "--batch", "2", str(path)]) == 2
    assert "no such option '--batch'" in capsys.readouterr().err
    assert main(["bench", str(path), "--help"]) == 0
    assert "Usage: hwkit bench [OPTIONS] MODEL" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["z=x.npy", "x", "x=missing.npy"])
def test_run_says_what_is_wrong(path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown input, no file, a missing one: a sentence and the exit code of a mistake."""
    assert main(["run", str(path), "--input", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A file of the model that leaves batch, height and width open."""
    model = small()
    for at, name in ((0, "n"), (2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[at].dim_param = name
    file = tmp_path / "open.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def test_open_sizes_are_given_by_shape(
    open_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run, tune and bench take the sizes that they are told, and say nothing about them then."""
    monkeypatch.setenv("HWKIT_DB", str(open_path.with_name("db")))
    words = [str(open_path), "--shape", "x=2x3x9x7", "--json"]
    assert main(["run", *words]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["outputs"]["y"]["shape"] == [2, 5]
    assert not said.err
    assert main(["tune", *words, "--budget", "1s", "--trials", "1"]) == 0
    tuned = json.loads(capsys.readouterr().out)["problems"]
    assert tuned.keys() <= set(map(str, hwkit.load(open_path).problems(((2, 3, 9, 7),))))
    assert main(["bench", *words, "--peers", "none", "--rounds", "1"]) == 0
    problems = [step["problem"] for step in json.loads(capsys.readouterr().out)["steps"]]
    assert any("n=2 c=3 h=9 w=7" in problem for problem in problems)


def test_open_sizes_that_nobody_gave_are_said(
    open_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network is not measured for images of one pixel without a word."""
    assert main(["run", str(open_path), "--json"]) == 0
    said = capsys.readouterr().err
    assert "open sizes of 'x' (n, 3, h, w) are taken as 1" in said
    assert "--shape x=1x3x224x224" in said
    np.save(open_path.with_name("x.npy"), np.zeros((1, 3, 8, 8), np.float32))
    given = ("--input", f"x={open_path.with_name('x.npy')}")
    assert main(["run", str(open_path), *given, "--json"]) == 0
    assert main(["run", str(path), "--json"]) == 0
    assert not capsys.readouterr().err
    assert main(["run", str(open_path), *given, "--shape", "x=1x3x8x8"]) == 2
    assert "leave --shape out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["z=1x2", "x=", "x", "x=1x3xax7", "x=1x4x8x8", "x=3", "x=1x3x-1x2"]
)
def test_a_shape_that_does_not_fit(
    open_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is one sentence and the exit code of a mistake."""
    assert main(["run", str(open_path), "--shape", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_shapes_are_for_models(capsys: pytest.CaptureFixture[str]) -> None:
    """Problems have their sizes; and inputs are named as the model names them."""
    assert main(["tune", "--op", "gemm", "--shape", "a=1x2"]) == 2
    assert "--input and --shape are for a model" in capsys.readouterr().err
    model = hwkit.load(small())
    assert model.input_shapes == {"x": (1, 3, 12, 12)}
    with pytest.raises(ArgumentError, match=r"'z'.*takes x"):
        model.random_inputs(shapes={"z": (1,)})
    with pytest.raises(ArgumentError, match="takes"):
        model.random_inputs(shapes={"x": (2, 3, 12, 12)})


def test_kernels_are_named_for_the_problems_that_take_them(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network has several operators: the others stay as they are, and the rest is tuned."""
    monkeypatch.setenv("HWKIT_DB", str(path.with_name("db")))
    words = ["tune", str(path), "--budget", "20s", "--trials", "1"]
    for kernels in (["direct_conv2d"], ["direct_conv2d", "packed_gemm"]):
        found = output_of(capsys, *words, *(w for k in kernels for w in ("--kernel", k)))
        assert {p.split()[0] for p in found["problems"]} == {k.split("_")[1] for k in kernels}
    for name, said in (("nope", "is not known on cpu:0"), ("depthwise", "no problem of the model")):
        assert main([*words, "--kernel", name]) == 2
        assert said in capsys.readouterr().err
    operators = ("gemm", "local_response_norm")
    given = ["tune", *(w for op in operators for w in ("--op", op)), "--kernel", "lrn"]
    found = output_of(capsys, *given, "--budget", "100ms", "--trials", "1")
    assert {result["problem"].split()[0] for result in found["problems"]} == {operators[1]}
    assert main([*given[:-1], "direct_conv2d"]) == 1
    assert "none of the kernels named by --kernel" in capsys.readouterr().err


@pytest.mark.parametrize("rank", [None, 4])
def test_a_shape_that_is_wholly_open_is_said(
    rank: int | None, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a rank one number is taken, which is of little use."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = None if rank is None else [None] * rank
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    assert main(["run", str(path), "--json"]) == 0
    want = "the whole shape of 'x' open" if rank is None else "'x' (?, ?, ?, ?) are taken as 1"
    assert want in capsys.readouterr().err
    assert main(["run", str(path), "--json", "--shape", "x=2x3x4x5"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["outputs"]["y"]["shape"] == [2, 3, 4, 5]
    assert not said.err


class _Page(html.parser.HTMLParser):
    """Collects the tags and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.rows += [tag] * (tag == "tr")
        self.links += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_bench_writes_a_page_and_a_trace(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page stands alone and has a row for each step; the trace has an event for each."""
    report, trace = path.parent / "out.html", path.parent / "out.json"
    words = ("bench", str(path), "--rounds", "2", "--peers", "onnxruntime")
    words += ("--report", str(report), "--trace", str(trace))
    found = output_of(capsys, *words)
    assert {*found["medians"], *found["failed"]} == {"hwkit", "hwkit-default", "onnxruntime"}
    assert set(found["medians"]) >= {"hwkit", "hwkit-default"}
    steps = len(found["steps"])
    parsed = _Page()
    text = report.read_text("utf-8")
    parsed.feed(text)
    assert not parsed.open
    assert not parsed.links
    assert "http" not in text
    assert "&lt;second&gt;" in text
    assert len(parsed.rows) == 2 + steps + len(found["medians"])
    events = json.loads(trace.read_text("utf-8"))["traceEvents"]
    assert [e["name"] for e in events] == [s["name"] for s in found["steps"]]
    assert all(e["ph"] == "X" and e["dur"] > 0 for e in events)
    ends = [e["ts"] + e["dur"] for e in events]
    assert all(e["ts"] >= end - 1e-6 for e, end in zip(events[1:], ends, strict=False))


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip

# Runs in the page: what of it can be seen, as a browser lays it out.
_PROBE = """<script>addEventListener("load",()=>{
const box=e=>{const r=e.getBoundingClientRect();return [r.width,r.height]};
const all=s=>[...document.querySelectorAll(s)];
document.body.dataset.seen=JSON.stringify({
rows:all("#steps tbody tr").map(box),bars:all("#steps .bar:not(.old)").map(box),
longest:Math.max(...all("#steps .bar").map(e=>box(e)[0])),
colour:getComputedStyle(document.querySelector("#steps .bar")).backgroundColor,
wide:document.documentElement.scrollWidth>innerWidth,
loaded:performance.getEntriesByType("resource").length})});</script>"""


def browse(*words: str, folder: Path) -> str:
    """Run the browser with a profile of its own."""
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed: apt-get install chromium")
def test_the_page_is_drawn_by_a_browser(path: Path) -> None:
    """Headless Chromium lays out every step with a blue bar, loads nothing, and paints it."""
    report = path.parent / "out.html"
    words = ("bench", str(path), "--rounds", "1", "--peers", "none", "--report", str(report))
    assert main([*words]) == 0
    text = report.read_text("utf-8")
    probed = path.parent / "probed.html"
    probed.write_text(text.replace("</body>", _PROBE + "</body>"), "utf-8")
    dom = browse("--dump-dom", probed.as_uri(), folder=path.parent)
    held = re.search(r'data-seen="([^"]*)"', dom)
    assert held is not None, dom[:500]
    seen = json.loads(html.unescape(held[1]))
    steps = len(hwkit.load(path).program().steps)
    assert len(seen["rows"]) == len(seen["bars"]) == steps
    assert all(wide > 0 and high > 0 for wide, high in (*seen["rows"], *seen["bars"]))
    assert seen["longest"] > 100  # of both configs: which of them took longer is chance
    assert seen["colour"] == "rgb(42, 120, 208)"
    assert not seen["wide"]
    assert seen["loaded"] == 0
    image = path.parent / "out.png"
    browse(f"--screenshot={image}", "--window-size=1280,900", report.as_uri(), folder=path.parent)
    assert (42, 120, 208) in colours(image)


def colours(path: Path) -> set[tuple[int, ...]]:
    """Return the colours of a PNG of 8 bits without interlacing (PNG specification, section 9)."""
    data = path.read_bytes()
    wide, high, depth, kind = struct.unpack_from(">IIBB", data, 16)
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    packed, place = b"", 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += 12 + length
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(high, 1 + wide * size)
    before = np.zeros(wide * size, np.uint8)
    found: set[tuple[int, ...]] = set()
    for filtered in rows:
        before = unfiltered(int(filtered[0]), filtered[1:], before, size)
        found |= set(map(tuple, np.unique(before.reshape(wide, size)[:, :3], axis=0).tolist()))
    return found


def unfiltered(kind: int, row: Any, before: Any, size: int) -> Any:
    """Undo the filter of a row."""
    if kind == 0:
        return row.copy()
    if kind == 2:
        return row + before
    if kind == 1:
        return np.add.accumulate(row.reshape(-1, size), axis=0, dtype=np.uint8).reshape(-1)
    found = [0] * len(row)
    above = before.tolist()
    for i, value in enumerate(row.tolist()):
        left = found[i - size] if i >= size else 0
        corner = above[i - size] if i >= size else 0
        if kind == 3:
            guess = (left + above[i]) // 2
        else:
            whole = left + above[i] - corner
            guess = min((left, above[i], corner), key=lambda v: abs(whole - v))
        found[i] = (value + guess) & 255
    return np.array(found, np.uint8)


def test_profile_and_explain_name_every_step() -> None:
    """Each has a line; times are above zero and the table is in order."""
    model = hwkit.load(small())
    profile = model.profile(rounds=2)
    assert [s.name for s in profile.steps] == [s.node.name for s in model.program().steps]
    assert all(step.seconds > 0 for step in profile.steps)
    assert profile.seconds > 0
    assert len(str(profile).splitlines()) == len(profile.steps) + 1
    assert len(model.explain().splitlines()) == len(profile.steps) + 1


def test_without_records_every_kernel_has_its_default() -> None:
    """And the answer is the same."""
    plain, model = hwkit.load(small(), records=False), hwkit.load(small())
    x = model.random_inputs()["x"]
    plans = [plan for step in plain.program().steps for plan in step.plans]
    assert {plan.source for plan in plans} == {"default"}
    assert relative_error(plain(x), model(x)) < 1e-5


def in_memory() -> Records:
    """Return records that no file keeps."""
    return Records(Database(None), Database(None), Database(None))


def test_the_budget_goes_to_every_problem_by_what_it_may_gain() -> None:
    """The largest share first; nothing beyond the budget; the network is measured twice."""
    model = hwkit.load(small())
    inputs = model.random_inputs()
    asked: list[tuple[Any, float]] = []
    result = tune_model(model, inputs, 100.0, lambda p, s: asked.append((p, s)), in_memory())
    weights = shares(model, inputs)
    assert {p for problems, _ in asked for p in problems} == set(weights) == set(model.problems())
    assert result.before > 0
    assert result.after > 0
    assert result.speedup >= 1.0
    assert set(result.gained) <= set(model.problems())
    assert not result.kept or result.after <= result.before
    assert not result.kept or result.race.low > 1.0


def test_a_network_that_is_the_same_does_not_gain() -> None:
    """Two programs of one network run in turns, and pairs tell that neither is faster by far."""
    model = hwkit.load(small())
    inputs = model.random_inputs()
    arrays, program = model.prepared(inputs)
    before, race = compare(program, model.built(inputs, Database(None)), arrays)
    assert before > 0
    assert race.pairs >= 8
    assert race.low <= race.ratio <= race.high


def test_what_runs_as_before_has_not_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its steps took less time, by the noise, than before."""
    from hwkit.graph.program import Program

    model = hwkit.load(small())
    old = model.program()

    def timed(program: Program, arrays: Any) -> list[tuple[float, float]]:
        return [(0.0, 2.0 if program is old else 1.0) for _ in program.steps]

    monkeypatch.setattr(Program, "timed", timed)
    result = tune_model(model, model.random_inputs(), 1.0, lambda p, s: None, in_memory())
    assert result.gained == ()


def tuned(monkeypatch: pytest.MonkeyPatch, path: Path, gained: int, slower: bool) -> Any:
    """Tune a model of which some problems gain; return its result, and what a new load runs."""
    from hwkit.graph import tuning

    model = hwkit.load(path)
    problems = list(model.problems())
    monkeypatch.setattr(tuning, "_faster", lambda old, new, arrays: set(problems[:gained]))
    race = Paired("before", 0.5, 0.4, 0.6, 8) if slower else Paired("before", 2.0, 1.9, 2.1, 8)
    monkeypatch.setattr(tuning, "compare", lambda old, new, arrays: (1.0, race))
    before = model.program()
    kept = Database(path.parent / "kept.db")
    records = Records(Database(None), kept, Database(None))

    def tune(asked: Any, seconds: float) -> None:
        tune_problems(asked, "cpu:0", database=records.tried, budget="30s", trials=2)

    result = tune_model(model, model.random_inputs(), 600.0, tune, records)
    assert result.kept == (not slower)
    assert (model.program() is before) == slower
    return {r.problem for r in kept.records("user")}, [str(p) for p in problems[:gained]]


def test_what_is_slower_is_not_kept(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """The model goes on with what it ran before, and who loads it later gets no record."""
    found, _ = tuned(monkeypatch, path, gained=3, slower=True)
    assert found == set()


def test_only_what_gains_inside_the_network_is_kept(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """A kernel that was faster alone, but not between the others, leaves no record."""
    found, gained = tuned(monkeypatch, path, gained=1, slower=False)
    assert found == set(gained)


def test_tune_keeps_records_of_a_network(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem that gained has a record afterwards if the network did; no file is left."""
    db = path.parent / "tuning.db"
    found = output_of(capsys, "tune", str(path), "--budget", "6s", "--trials", "2", "--db", str(db))
    assert found["before_seconds"] > 0
    assert found["trials"] > 0
    assert found["database"] == str(db)
    held = {r.problem for r in Database(db).records("user")}
    assert held == (set(found["gained"]) if found["kept"] else set())
    assert not list(path.parent.glob("*.network-*"))
    assert main(["tune", str(path), "--problem", "gemm float32 nn m=2 n=2 k=2"]) == 2


_RUN = tuning.run


def interrupted(*given: Any, **options: Any) -> tuning.Session:
    """Run as ``hwkit tune`` does, and say that Ctrl-C ended it."""
    session = _RUN(*given, **options)
    session.interrupted = True
    return session


def test_an_interrupt_keeps_what_was_tried(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials that no network has been measured with are there for the same command."""
    words = ["tune", str(path), "--budget", "3s", "--trials", "2", "--db", str(path.parent / "db")]
    monkeypatch.setattr(tuning, "run", interrupted)
    assert main(words) == 130
    assert capsys.readouterr().err.endswith("interrupted; the same command goes on from here\n")
    (left,) = path.parent.glob("db.network-*")
    held = Database(left)
    assert list(held.records("user"))
    held.close()
    monkeypatch.setattr(tuning, "run", _RUN)
    assert main(words) == 0
    assert not list(path.parent.glob("db.network-*"))


def test_a_network_whose_trials_cannot_be_kept(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C nothing is there to go on from, and the command ends with 4."""
    (path.parent / "file").write_text("not a folder")
    db = path.parent / "file" / "tuning.db"
    monkeypatch.setattr(tuning, "run", interrupted)
    assert main(["tune", str(path), "--budget", "2s", "--trials", "1", "--db", str(db)]) == 4
    said = capsys.readouterr().err
    assert f"not kept in {db}, its folder is a file" in said
    assert "goes on from here" not in said


def test_two_runs_on_one_network(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trials of a run that goes on stay where another, on the same network, has ended."""
    run, other = tuning.run, ExitStack()

    def joined(*given: Any, **options: Any) -> tuning.Session:
        monkeypatch.setattr(tuning, "run", run)
        other.enter_context(sharing(options["database"].path))
        return run(*given, **options)

    words = ["tune", str(path), "--budget", "3s", "--trials", "2", "--db", str(path.parent / "db")]
    monkeypatch.setattr(tuning, "run", joined)
    with other:
        assert main(words) == 0
        left = {file.suffix for file in path.parent.glob("db.network-*")}
        assert {file.split("-")[0] for file in left} >= {".network", ".lock"}
    assert main(words) == 0
    assert not list(path.parent.glob("db.network-*"))


def test_a_model_that_was_never_run_has_no_program() -> None:
    """With open shapes there is nothing to list yet, and the error says so."""
    proto = small()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    model = hwkit.load(proto)
    with pytest.raises(ArgumentError, match="run it once"):
        model.problems()
    model(model.random_inputs(batch=2)["x"])
    assert any(problem["n"] == 2 for problem in model.problems() if "n" in problem.sizes)


@pytest.mark.skipif(bool(unavailable("opencl:0")), reason=unavailable("opencl:0"))
def test_a_network_on_an_emulated_device_has_no_time(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs and says whose times these are; to tune or compare it is refused in one sentence."""
    device = ["--device", "opencl:mali-g76"]
    assert main(["run", str(path), *device]) == 0
    assert "opencl:mali-g76 is emulated: these are times of this machine" in capsys.readouterr().out
    for words in (["tune", str(path), "--budget", "1s"], ["bench", str(path)]):
        assert main([*words, *device]) != 0
        said = capsys.readouterr().err.strip()
        assert "a network cannot be timed there" in said
        assert len(said.splitlines()) == 1, said
