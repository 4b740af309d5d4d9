"""``hwkit completion``: the script that makes a shell complete hwkit's commands and options."""

from __future__ import annotations

import click

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Completion script for a shell.")
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  hwkit completion bash >> ~/.bashrc
    zsh:   hwkit completion zsh >> ~/.zshrc
    fish:  hwkit completion fish > ~/.config/fish/completions/hwkit.fish
    """
    from click.shell_completion import get_completion_class

    from .commands import group

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    click.echo(kind(group, {}, "hwkit", "_HWKIT_COMPLETE").source())
