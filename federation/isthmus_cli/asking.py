"""Ask a person before something that cannot be undone, and never a script."""

import sys

import click


def require_answer(yes: bool) -> None:
    """Refuse, before anything is done, a command that would ask where nobody can answer."""
    if not yes and not sys.stdin.isatty():
        command = click.get_current_context().command_path
        raise click.UsageError(f"'{command}' asks before it does this, so it needs a terminal or --yes.")
