"""`isthmus completion`: the script that makes a shell complete commands and flags."""

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from isthmus_cli.shells import register_shells
from isthmus_core.errors import InvalidInput

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", required=False, type=click.Choice(SHELLS))
def completion(shell: str | None) -> None:
    """Print the completion script for SHELL (bash, zsh or fish; yours by default).

    \b
    bash:  source <(isthmus completion bash)
    zsh:   source <(isthmus completion zsh)
    fish:  isthmus completion fish | source

    It proposes commands, options, and the names of clusters and services: the controllers are asked for them, with the
    --home and --controller of the line, and when none answers within a second nothing is proposed.
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise InvalidInput(
            f"there is no completion for {chosen or 'an unknown shell'}", f"Name one: {', '.join(SHELLS)}."
        )
    from isthmus_cli.root import root

    register_shells()
    maker = get_completion_class(chosen)
    if maker is None:
        raise InvalidInput(f"there is no completion for {chosen}", f"Name one: {', '.join(SHELLS)}.")
    click.echo(maker(root, {}, "isthmus", "_ISTHMUS_COMPLETE").source())
