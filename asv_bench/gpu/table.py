"""The table of the GPU benchmarks: what was measured, beside whom, and which floors are met.

``python -m gpu.table FILE`` prints what ``python -m benchmarks.gpu FILE`` has written so far.
"""

import json
import math
import sys
from pathlib import Path

# Of an H200: what the ratios and shares should come to.
FLOORS = {
    "bfloat16 gemm from 4096, the least": 0.95,
    "half gemm to 2048 and thin": 1.0,
    "float32 gemm": 0.85,
    "conv2d": 0.9,
    "pooling, of the copy's bandwidth": 0.9,
}
MOST_LAUNCH = 15e-6


def group(text):
    """Return in which line of the summary a problem counts."""
    words = text.split()
    if "pool" in words[0]:
        return "pooling, of the copy's bandwidth"
    if words[0] == "conv2d":
        return "conv2d"
    if words[1] == "float32":
        return "float32 gemm"
    sizes = [int(word.partition("=")[2]) for word in words if word[:2] in ("m=", "n=", "k=")]
    if min(sizes) < 4096:
        return "half gemm to 2048 and thin"
    return "bfloat16 gemm from 4096, the least" if words[1] == "bfloat16" else "float16 gemm, large"


def lines(result):
    """Return the table as lines."""
    found = [", ".join(f"{name} {value}" for name, value in result["before"].items())]
    found.append(
        f"{'hwkit us':>10} {'torch us':>10} {'triton us':>10} {'x torch':>8} {'x triton':>8}"
    )
    found += [_row(row) for row in result["rows"]]
    found += _summary(result)
    if "after" not in result:
        found.append("UNFINISHED: the run ended before its last row")
    return found


def _row(row):
    if "error" in row:
        return f"{row['problem']}: {row['error']}"
    times = [row["hwkit"], row.get("torch"), row.get("triton")]
    cells = [f"{'-' if t is None else f'{t * 1e6:.1f}':>10}" for t in times]
    cells += [f"{'-' if t is None else f'{t / times[0]:.2f}':>8}" for t in times[1:]]
    share = f"  {row['share']:.2f} of the copy's bandwidth" if "share" in row else ""
    return " ".join([*cells, "", row["problem"] + share])


def _summary(result):
    ratios = {}
    for row in result["rows"]:
        value = row.get("share", row.get("torch", math.nan) / row.get("hwkit", math.nan))
        if not math.isnan(value):  # an error, or a row without a peer
            ratios.setdefault(group(row["problem"]), []).append(value)
    found = []
    for name, values in ratios.items():
        least = name.endswith("least")
        mean = math.exp(sum(map(math.log, values)) / len(values))
        value, how = (min(values), "least") if least else (mean, "geometric mean")
        found.append(f"{name}: {how} of {len(values)} {value:.2f}{_verdict(value, name)}")
    for name, seconds in result.get("launch_seconds", {}).items():
        verdict = "met" if seconds < MOST_LAUNCH else "NOT met"
        floor = f"below {MOST_LAUNCH * 1e6:.0f} us {verdict}"
        found.append(f"a call on {name} costs {seconds * 1e6:.1f} us on the host, {floor}")
    return found


def _verdict(value, name):
    floor = FLOORS.get(name)
    if floor is None:
        return ""
    return f", floor {floor} {'met' if value >= floor else 'NOT met'}"


def main():
    """Print the table of a file."""
    print(*lines(json.loads(Path(sys.argv[1]).read_text("utf-8"))), sep="\n")


if __name__ == "__main__":
    main()
