"""Flags for the fields of a settings class, with their help, their metavar and what a shell proposes for them."""

import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic.fields import FieldInfo

from isthmus_cli.proposals import propose_joined, proposing, proposing_paths
from isthmus_cli.settings import Options, flag, variable

if typing.TYPE_CHECKING:
    from isthmus_cli.proposals import Proposing


def is_switch(field: FieldInfo) -> bool:
    """Whether a field is yes or no."""
    annotation: object = field.annotation
    return bool in (typing.get_args(annotation) or (annotation,))


def is_repeated(field: FieldInfo) -> bool:
    """Whether a field takes several values, each with a flag of its own."""
    return typing.get_origin(field.annotation) is tuple


def default_text(field: FieldInfo) -> str:
    """The default for help texts; empty when the description tells it."""
    if isinstance(field.default, tuple):
        return " ".join(field.default)
    return "" if field.default is None else str(field.default)


def with_options(options: type[Options]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that gives a click command one flag for every field of `options`, and `--config`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        config = click.option(
            "--config",
            envvar="ISTHMUS_CONFIG",
            type=click.Path(path_type=Path, dir_okay=False),
            default=None,
            help=f"TOML file with a table [{options.section}].  [env: ISTHMUS_CONFIG]",
        )
        function = config(function)
        for name, field in reversed(options.model_fields.items()):
            default = default_text(field)
            shown = f"  [env: {variable(options, name)}{f'; default: {default}' if default else ''}]"
            text = f"{field.description}{shown}"
            if is_switch(field):
                declaration = f"{flag(name)}/--no-{name.replace('_', '-')}"
                function = click.option(declaration, name, default=None, help=text)(function)
            else:
                function = click.option(
                    *(flag(name), name),
                    default=None,
                    help=text,
                    metavar=_metavar(name, field),
                    multiple=is_repeated(field),
                    shell_complete=_proposed(name, field),
                )(function)
        return function

    return decorate


def _proposed(name: str, field: FieldInfo) -> "Proposing | None":
    """What a shell proposes as the value of a flag."""
    if name == "cluster":
        return propose_joined
    if typing.get_origin(field.annotation) is typing.Literal:
        words = typing.get_args(field.annotation)
        return proposing(lambda _: ((word, "") for word in words))
    if Path in (field.annotation, *typing.get_args(field.annotation)):
        return proposing_paths("dir" if name in ("data_dir", "services") else "file")
    return None


def _metavar(name: str, field: FieldInfo) -> str:
    text = field.description or ""
    word = text.split(maxsplit=1)[0]
    if word.upper() == word and set(word) & set(":=[@"):
        return word
    members = typing.get_args(field.annotation) or (field.annotation,)
    if any(isinstance(member, str) for member in members):
        return "|".join(str(member) for member in members)
    if Path in members:
        return "PATH"
    return "NUMBER" if int in members or float in members else name.upper()
