"""The command ``hwkit``: it parses and prints; the verbs behind it decide.

A command is a module of this package with a click command of the same name, loaded when it is
typed. Its heavy imports are inside its functions, so that ``hwkit --help`` stays quick.
"""

from __future__ import annotations

from .commands import group, main

__all__ = ["group", "main"]
