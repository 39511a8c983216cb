"""Click groups: one that guides whoever mistypes, and one that knows its commands without importing them."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import click

from isthmus_cli.anywhere import pasted, refuse_strange
from isthmus_core.errors import IsthmusError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_options = click.Command.shell_complete


class Lazy(NamedTuple):
    """Where a command lives (`module:attribute`) and its one-line summary for `--help`."""

    where: str
    summary: str


class GuidingGroup(click.Group):
    """Suggests the nearest command, refuses options that would be ignored, and prints commands that can be pasted."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name when the command is unknown."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            ctx.fail(f"No such command {name!r}. {self.hint(ctx, name)}")
        found = super().resolve_command(ctx, args)
        if found[1] is not None:
            refuse_strange(ctx, found[1], name)
        return found

    def hint(self, ctx: click.Context, name: str) -> str:
        """What whoever wrote `name` may have meant."""
        from difflib import get_close_matches

        near = get_close_matches(name, self.list_commands(ctx), n=1)
        return f"Did you mean {near[0]!r}?" if near else f"See '{ctx.command_path} --help'."

    def invoke(self, ctx: click.Context) -> object:
        """As click does; the mend of an error gets the options without which its commands would ask elsewhere."""
        try:
            return super().invoke(ctx)
        except IsthmusError as error:
            if (mend := pasted(error.mend, ctx)) != error.mend and ctx.parent is None:
                raise type(error)(error.sentence, mend) from error
            raise


class LazyGroup(GuidingGroup):
    """Imports a command when it is used: `isthmus --help` must not pay for grpc (DESIGN section 11: 150 ms)."""

    def __init__(self, *args: object, lazy: Mapping[str, Lazy], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own keyword arguments, passed through
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, in the order of the table: the way a newcomer meets them."""
        return [*self._lazy, *(name for name in super().list_commands(ctx) if name not in self._lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        entry = self._lazy.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = entry.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.where} is no command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        """The commands and then the options, from the table alone: what a shell proposes is not imported for it."""
        from click.shell_completion import CompletionItem

        rows = ((name, entry.summary) for name, entry in self._lazy.items() if name.startswith(incomplete))
        return [*(CompletionItem(name, help=summary) for name, summary in rows), *_options(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table alone."""
        rows = [(name, entry.summary) for name, entry in self._lazy.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
