"""The group: laziness, exit codes, one sentence for each mistake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import click
import pytest

from hwkit import (
    ArgumentError,
    DatabaseError,
    DtypeError,
    HwkitError,
    HwkitWarning,
    KernelFailure,
    NoKernel,
    PluginError,
    Unavailable,
    __version__,
)
from hwkit.cli import commands as run
from hwkit.cli import group
from hwkit.cli.commands import COMMANDS, EXIT_CODES, exit_code

from .conftest import Hwkit


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_import_is_light() -> None:
    """Importing the command and printing its help loads neither rich nor the verbs behind it."""
    heavy = ("rich", "hwkit.dispatch", "hwkit.tuner", "hwkit.records", "hwkit.registry", "torch")
    loaded = (
        _python(
            "import sys, hwkit.cli\n"
            "hwkit.cli.main(['--help'])\n"
            "print('\\nLOADED', *sorted(sys.modules))"
        )
        .rpartition("LOADED")[2]
        .split()
    )
    assert "hwkit.cli.commands" in loaded
    assert [name for name in heavy if name in loaded] == []


def test_every_command_has_its_module() -> None:
    """Each command is a module of its own name, and the group knows no other."""
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is getattr(import_module(f"hwkit.cli.{name}"), name)
        assert command is not None
        assert command.name == name
        assert len(command.get_short_help_str(60)) <= 50
    assert group.get_command(context, "output") is None


def test_every_data_command_has_json() -> None:
    """All commands can print one JSON document, but for the one that prints a script."""

    def leaves(command: click.Command) -> list[click.Command]:
        if not isinstance(command, click.Group):
            return [command]
        context = click.Context(command)
        found = [command.get_command(context, name) for name in command.list_commands(context)]
        return [leaf for each in found if each for leaf in leaves(each)]

    for command in leaves(group):
        names = {option for parameter in command.params for option in parameter.opts}
        assert ("--json" in names) == (command.name != "completion"), command.name


def test_no_words_print_the_help(hwkit: Hwkit) -> None:
    """The bare command is a question, not a mistake."""
    answer = hwkit()
    assert answer.code == 0
    assert "devices" in answer.out
    assert hwkit("--help").out == answer.out


def test_version(hwkit: Hwkit) -> None:
    """``--version`` prints the version."""
    answer = hwkit("--version")
    assert (answer.code, answer.out) == (0, f"hwkit {__version__}\n")


def test_module_is_the_command() -> None:
    """``python -m hwkit`` is the command."""
    done = subprocess.run(
        [sys.executable, "-m", "hwkit", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"hwkit {__version__}\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArgumentError("x"), 2),
        (DtypeError("x"), 2),
        (click.UsageError("x"), 2),
        (Unavailable("x"), 3),
        (DatabaseError("x"), 4),
        (NoKernel("x"), 1),
        (PluginError("x"), 1),
        (KernelFailure("wrong", "x"), 1),
        (HwkitError("x"), 1),
        (RuntimeError("x"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_code_of_an_error(error: BaseException, code: int) -> None:
    """Each class of error has its exit code, and each code is explained."""
    assert exit_code(error) == code
    assert code in EXIT_CODES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "hwkit: no such command 'nonsense'"),
        (["tun"], "no such command 'tun', did you mean 'tune': type 'hwkit --help'"),
        (["db", "sho"], "no such command 'sho', did you mean 'show': type 'hwkit db -"),
        (["tune", "--devic", "x"], "no such option '--devic', did you mean '--device': type"),
        (["devices", "--nonsense"], "type 'hwkit devices --help'"),
        (["explain"], "missing argument"),
        (["explain", "conv2d", "float32"], "lacks n, c, h, w, k, r, s"),
        (["explain", "model.onnx"], "type 'hwkit run model.onnx --explain'"),
        (["tune", "gemm float32 nn m=8 n=8 k=8"], "type 'hwkit tune --problem \"gemm float32"),
        (["run", "gemm float32 nn m=8 n=8 k=8"], "type 'hwkit bench peers --problem \"gemm"),
        (["explain", "nonsense float32 n=1"], "'nonsense' is not known"),
        (["explain", "gemm float32 nn m=8 n=8 k=8", "--tolerance", "-1"], "tolerance=-1.0"),
        (["explain", "gemm float32 nn m=8 n=8 k=8", "--tolerance", "loose"], "strict"),
        (["ops", "--device", "nonsense"], "'nonsense' is not known"),
        (["bench"], "nothing to time"),
        (["bench", "--peers", "matlab", "--op", "gemm"], "'matlab' is not known"),
        (["bench", "--threads", "0", "--op", "gemm"], "--threads 0"),
        (["bench", "stray"], "'stray' is not expected here"),
        (["bench", "--set", "lenet"], "'lenet' is not known"),
        (["completion", "tcsh"], "bash"),
    ],
)
def test_mistakes_are_one_sentence(hwkit: Hwkit, words: list[str], said: str) -> None:
    """A user's mistake is one line on stderr with what to do, exit code 2, and no traceback."""
    answer = hwkit(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert said in answer.err
    assert answer.err.startswith("hwkit: ")
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err


def test_mistake_with_json_is_still_one_document(hwkit: Hwkit) -> None:
    """A machine that asked for JSON gets JSON for an error as well."""
    answer = hwkit("ops", "nonsense", "--json")
    assert answer.code == 2
    assert answer.json["command"] == "error"
    assert answer.json["exit_code"] == 2
    assert "'nonsense' is not known" in answer.json["message"]


@pytest.mark.parametrize("wanted", ["option", "variable"])
def test_traceback_on_demand(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    """``--traceback`` or HWKIT_TRACEBACK shows where a sentence comes from."""
    if wanted == "variable":
        monkeypatch.setenv("HWKIT_TRACEBACK", "1")
        answer = hwkit("ops", "nonsense")
    else:
        answer = hwkit("--traceback", "ops", "nonsense")
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert "ArgumentError" in answer.err


def test_a_bug_shows_its_traceback(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not a user's mistake is called so, with its traceback and an exit code of its own."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(run.group, "main", broken)
    answer = hwkit("devices")
    assert answer.code == 70
    assert "Traceback" in answer.err
    assert "internal error, RuntimeError: boom" in answer.err


def test_warnings_are_one_line(hwkit: Hwkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """What degraded is one line on stderr, without the source line that Python would add."""

    def warn(*_: object, **__: object) -> int:
        warnings.warn("nothing is kept", HwkitWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(run.group, "main", warn)
    answer = hwkit("devices")
    assert (answer.code, answer.err) == (0, "hwkit: warning: nothing is kept\n")


def test_a_closed_pipe_is_silent() -> None:
    """``hwkit ... | head`` ends without a word."""
    done = subprocess.run(
        f"{sys.executable} -m hwkit completion bash | head -n 1; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "_hwkit_completion() {\n0\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("ops | head -n 1; exit ${PIPESTATUS[0]}", 0, ""),
        ("doctor | head -n 1; exit ${PIPESTATUS[0]}", 0, ""),
        ("ops >&-", 0, ""),
        ("tune --problems - <&-", 2, "hwkit: problems file '-' has no problem: write one a line\n"),
    ],
)
def test_streams_that_are_gone(words: str, code: int, said: str) -> None:
    """A reader that has left, or a stream that is closed, is no bug of hwkit."""
    done = subprocess.run(
        f"{sys.executable} -m hwkit {words}",
        shell=True, executable="/bin/bash", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", ["ops --json", "ops no-such-op --json"])
def test_a_full_disk_is_one_sentence(words: str) -> None:
    """An answer that cannot be written is no bug of hwkit, and no traceback."""
    done = subprocess.run(
        f"{sys.executable} -m hwkit {words} > /dev/full",
        shell=True, executable="/bin/bash", stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("hwkit: ")
    assert done.stderr.count("\n") == 1


def test_interrupt_is_130() -> None:
    """Ctrl-C is one word and the shell's own exit code."""
    code = (
        "import signal, sys, hwkit.cli.commands as run\n"
        # A shell's background jobs, and so these tests, may have inherited that it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait(*a, **k):\n"
        "    print('ready', flush=True)\n"
        "    import time; time.sleep(60)\n"
        "run.group.main = wait\n"
        "sys.exit(run.main(['devices']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "hwkit: interrupted\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(hwkit: Hwkit, shell: str) -> None:
    """Each shell gets a script that asks hwkit itself."""
    answer = hwkit("completion", shell)
    assert answer.code == 0
    assert f"{shell}_complete" in answer.out


def test_completion_completes() -> None:
    """What the script asks for is answered: commands, and names of operators."""

    def complete(line: str) -> list[str]:
        environ = {
            **os.environ,
            "_HWKIT_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-m", "hwkit"],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        return [found.partition(",")[2] for found in done.stdout.split()]

    assert complete("hwkit do") == ["doctor"]
    assert complete("hwkit ops con") == ["conv2d"]
    assert "--device" in complete("hwkit ops --")
