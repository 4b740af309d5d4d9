"""The page of ``hwkit bench model.onnx --report``: one HTML file that loads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from .profile import Profile, StepTime

__all__ = ["page"]

_STYLE = """\
:root{color-scheme:light dark}
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884;vertical-align:top}
td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.bar{height:.75rem;background:#2a78d0;border-radius:2px;min-width:1px}
.bar.old{background:#9a9a9a;height:.3rem;margin-top:2px}
small{color:#777;overflow-wrap:anywhere}
td.w{width:18rem}
"""


def page(profile: Profile, default: Profile, medians: Mapping[str, float]) -> str:
    """Return the page.

    Args:
        profile: the network as it runs now.
        default: the same with every kernel's default config.
        medians: seconds of a whole run by name, measured in turns; ``"hwkit"`` is among them.
    """
    before = {step.name: step for step in default.steps}
    most = max((s.seconds for p in (profile, default) for s in p.steps), default=0.0) or 1.0
    rows = "\n".join(_row(step, before.get(step.name), most) for step in profile.steps)
    title = escape(f"{profile.model} on {profile.device}")
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>\n{_STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        f"<h2>Whole runs</h2>\n{_medians(medians)}\n"
        f"<h2>Steps</h2>\n<p>{len(profile.steps)} steps. Blue: as it runs now; grey: with default "
        "configs.</p>\n<table id=steps><thead><tr><th>node</th><th>time</th><th></th>"
        "<th>roofline</th><th>default / now</th><th>kernel and source</th></tr></thead><tbody>\n"
        f"{rows}\n</tbody></table>\n</body></html>\n"
    )


def _medians(medians: Mapping[str, float]) -> str:
    most = max(medians.values(), default=0.0) or 1.0
    ours = medians.get("hwkit", 0.0)
    rows = "\n".join(
        f"<tr><td>{escape(name)}</td><td class=n>{_time(seconds)}</td>"
        f"<td class=w>{_bar(seconds / most)}</td>"
        f"<td class=n>{f'{seconds / ours:.2f}x' if ours else ''}</td></tr>"
        for name, seconds in medians.items()
    )
    return (
        "<table id=runs><thead><tr><th>library</th><th>median</th><th></th><th>time / hwkit's</th>"
        f"</tr></thead><tbody>\n{rows}\n</tbody></table>"
    )


def _row(step: StepTime, before: StepTime | None, most: float) -> str:
    share = "" if step.roofline_share is None else f"{step.roofline_share:.0%}"
    gain = f"{before.seconds / step.seconds:.2f}x" if before and step.seconds else ""
    old = _bar(before.seconds / most, " old") if before else ""
    what = escape(step.kernel or step.source or "numpy")
    source = f" <small>{escape(step.source)}</small>" if step.kernel else ""
    return (
        f"<tr><td>{escape(step.name)}<br><small>{escape(step.type)}</small></td>"
        f"<td class=n>{_time(step.seconds)}</td>"
        f"<td class=w>{_bar(step.seconds / most)}{old}</td><td class=n>{share}</td>"
        f"<td class=n>{gain}</td>"
        f"<td>{what}{source}<br><small>{escape(step.problem)}</small></td></tr>"
    )


def _bar(share: float, more: str = "") -> str:
    return f'<div class="bar{more}" style="width:{100 * share:.2f}%"></div>'


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms" if seconds >= 1e-4 else f"{1e6 * seconds:.1f} us"
