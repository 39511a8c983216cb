"""Options that may stand before the command or behind it, and the commands that are printed with them."""

import re
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import click
from click.core import ParameterSource

_META = "isthmus.given"


class AnywhereOption(click.Option):
    """An option that groups take as well: the value that stands nearest to the command is used.

    So `isthmus --home X status` is `isthmus status --home X`. A value before the command is the person's word and wins
    over a variable.
    """

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """As click does, and look before the command when the option does not stand behind it."""
        value, source = super().consume_value(ctx, opts)
        above = ctx.parent
        while source is not ParameterSource.COMMANDLINE and above is not None:
            if above.get_parameter_source(self.name or "") is ParameterSource.COMMANDLINE:
                value, source = above.params[self.name or ""], ParameterSource.COMMANDLINE
            above = above.parent
        if source is ParameterSource.COMMANDLINE:
            ctx.meta.setdefault(_META, {})[self.name] = value
        return value, source


def refuse_strange(ctx: click.Context, command: click.Command, name: str) -> None:
    """Fail when `--output` or a namesake stands before a command that would not heed it.

    `--home` and `--controller` say where a person works, also before a command that does not ask.
    """
    if isinstance(command, click.Group):
        return  # its own commands are looked at when one of them is known
    heeded = {param.name for param in command.params if isinstance(param, AnywhereOption)}
    own = {option for param in command.params for option in param.opts}
    above: click.Context | None = ctx
    while above is not None:
        for param in above.command.params:
            option = param.opts[0]
            given = above.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
            if given and isinstance(param, AnywhereOption) and param.name not in heeded:
                if option in own:
                    ctx.fail(f"{option} stands behind '{ctx.command_path} {name}', where it means something else.")
                if option == "--output":
                    ctx.fail(f"'{ctx.command_path} {name}' takes no {option}. Leave it out.")
        above = above.parent


_ASKING = ("cluster", "services", "endpoints", "explain", "status", "doctor")
_HOMELY = ("cluster join", *_ASKING, "init", "export", "unexport", "controller", "gateway", "dns")
# A command that is there to be run stands behind one of these words; elsewhere its name only says who did something.
_PRINTED = re.compile(rf"((?:\b(?:[Rr]un|[Ww]ith|[Ss]ee|[Ss]tart) ['`]|: +|^ +)isthmus )({'|'.join(_HOMELY)})\b")


def pasted(text: str, ctx: click.Context | None = None) -> str:
    """`text` with the commands in it as they have to be pasted: with the `--home` and `--controller` given here."""
    ctx = ctx or click.get_current_context(silent=True)
    given = ctx.meta.get(_META, {}) if ctx else {}
    home = f"--home {quote(str(Path(given['home']).absolute()))} " if given.get("home") else ""
    controller = f"--controller {quote(str(given['controller']))} " if given.get("controller") else ""

    def with_options(found: re.Match[str]) -> str:
        return found[1] + home + (controller if found[2] in _ASKING else "") + found[2]

    return _PRINTED.sub(with_options, text)
