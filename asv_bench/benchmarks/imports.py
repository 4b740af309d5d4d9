"""Seconds of an import in a new process. Budget: hwkit within 50 ms of numpy."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def timeraw_import_numpy() -> str:
    return "import numpy"


def timeraw_import_hwkit() -> str:
    return "import hwkit"


def timeraw_import_hwkit_ops() -> str:
    return "import hwkit.ops"


def timeraw_first_call() -> str:
    return """
    import numpy, hwkit
    a = numpy.ones((8, 8), "f4")
    hwkit.ops.matmul(a, a)
    """


def timeraw_command_help() -> str:
    return """
    from contextlib import redirect_stdout
    from io import StringIO
    from hwkit.cli import main
    with redirect_stdout(StringIO()):
        main(["--help"])
    """


def _seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def track_import_above_numpy() -> float:
    """Return the median of the differences, the two in turns."""
    pairs = [(_seconds("import hwkit"), _seconds("import numpy")) for _ in range(15)]
    return 1e3 * statistics.median(ours - numpys for ours, numpys in pairs)


track_import_above_numpy.unit = "ms"  # type: ignore[attr-defined]
