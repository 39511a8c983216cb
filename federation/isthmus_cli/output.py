"""Show values as a table, as JSON or as YAML; colour only where a person looks."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from isthmus_cli.anywhere import AnywhereOption

FORMATS = ("table", "json", "yaml")

output_option = click.option(
    "--output",
    "-o",
    cls=AnywhereOption,
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    envvar="ISTHMUS_OUTPUT",
    help="How to print the answer.",
)


def paint(text: str, colour: str, bold: bool = False) -> str:
    """`text` in a colour when standard output is a terminal that has some and NO_COLOR is not set (no-color.org)."""
    if not _controls() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=colour, bold=bold or None)


class Pages:
    """The answers of a command that goes on: one screen each where there is one, else told apart by what they are."""

    def __init__(self, output: str) -> None:
        """`output` is one of FORMATS."""
        self._output = output
        self._first = True

    def turn(self) -> None:
        """Begin the next page. JSON needs nothing: its values end by themselves."""
        if self._output == "table" and _controls():
            click.clear()
        elif self._output == "yaml":
            click.echo("---")
        elif self._output == "table" and not self._first:
            click.echo()
        self._first = False


def _controls() -> bool:
    """Whether standard output heeds control sequences."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Rows under their heads, columns aligned by what is visible; rows may carry colour.

    With a `width` the last column, which then carries none, goes on below itself. Words stay whole: they are copied.
    """
    if width is not None:
        rows = _folded(rows, width)
    visible = [[click.unstyle(cell) for cell in row] for row in rows]
    widths = [max([len(title), *(len(row[i]) for row in visible)]) for i, title in enumerate(head)]
    lines = ["  ".join(title.ljust(width) for title, width in zip(head, widths, strict=True)).rstrip()]
    for row, bare in zip(rows, visible, strict=True):
        cells = (cell + " " * (width - len(text)) for cell, text, width in zip(row, bare, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def terminal_width() -> int | None:
    """The width of the terminal where a person reads; None in a pipe, whose reader wants whole lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _folded(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    from textwrap import wrap

    left = sum(max(len(click.unstyle(row[i])) for row in rows) + 2 for i in range(len(rows[0]) - 1)) if rows else 0
    folded: list[list[str]] = []
    for *cells, last in rows:
        lines = wrap(last, max(width - left, 20), break_long_words=False, break_on_hyphens=False) or [""]
        folded += [[*cells, lines[0]], *([*("" for _ in cells), line] for line in lines[1:])]
    return folded


def show(value: Any, output: str, as_table: Callable[[], str]) -> None:
    """Print `value` in the wanted format; `as_table` makes the text for people."""
    if output == "table":
        click.echo(as_table())
        return
    import msgspec

    built = msgspec.to_builtins(value, str_keys=True)
    if output == "json":
        import json

        click.echo(json.dumps(built, indent=2))
    else:
        import yaml

        click.echo(yaml.safe_dump(built, sort_keys=False, allow_unicode=True), nl=False)


def age(seconds: float | None) -> str:
    """A duration as people write it: `3 s`, `12 min`, `4 h`, `9 d`; `-` for none."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
