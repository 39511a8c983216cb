"""`isthmus completion`: the script that makes a shell complete commands and flags."""

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

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
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise InvalidInput(
            f"there is no completion for {chosen or 'an unknown shell'}", f"Name one: {', '.join(SHELLS)}."
        )
    from isthmus_cli.root import root

    maker = get_completion_class(chosen)
    if maker is None:
        raise InvalidInput(f"there is no completion for {chosen}", f"Name one: {', '.join(SHELLS)}.")
    script = maker(root, {}, "isthmus", "_ISTHMUS_COMPLETE").source()
    # click's script for fish cuts a description off at its first comma.
    click.echo(script.replace('string split "," ', 'string split --max 1 "," '))
