"""Write the reference page of all commands, flags, variables and file entries: `python -m isthmus_cli.reference`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from isthmus_cli import flags, settings
from isthmus_cli.root import root

_HEAD = """\
# Reference

Generated from the code by `make reference`; a test keeps it current.

Every setting of a long-running command can be given in four places. The first one that has it decides:

1. the flag, such as `--listen`;
2. the environment variable, such as `ISTHMUS_GATEWAY_LISTEN`;
3. a TOML file named by `--config` or `ISTHMUS_CONFIG`, with the tables `[controller]`, `[gateway]` and `[dns]`;
4. the default.

`isthmus init` writes `config.toml` into the home folder (`--home`, `ISTHMUS_HOME`, else `~/.isthmus`): `controllers`
(HOST:PORT of the admin API, tried in turn), `server_name`, and the files `root`, `certificate` and `key` of the admin
credential.

`--home`, `--controller` and `--output` may stand before the command or behind it, as in `isthmus --home fed status`;
the one nearest to the end decides.

Envoy and etcd are those that `ISTHMUS_ENVOY` and `ISTHMUS_ETCD` name, else `envoy` and `etcd` on `PATH` (an etcd older
than 3.5.4, which can lose data, is passed over), else those that `make env` put beside Python.

Exit codes: 0 it worked, 1 it failed (one sentence on standard error says why), 2 it was called wrongly, 130 it was
interrupted (Ctrl-C; `controller`, `gateway` and `dns` end well then, with 0).
"""


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, "## Settings", "", *_settings(), "## Commands", "", *_commands()])


def _settings() -> Iterator[str]:
    for options in settings.ALL:
        yield f"### `[{options.section}]`: isthmus {options.section}"
        yield ""
        yield "| entry | flag | variable | default | meaning |"
        yield "| --- | --- | --- | --- | --- |"
        for name, field in options.model_fields.items():
            default = flags.default_text(field)
            shown = f"`{default}`" if default else ""
            text = (field.description or "").replace("|", "\\|")
            yield f"| `{name}` | `{settings.flag(name)}` | `{settings.variable(options, name)}` | {shown} | {text} |"
        yield ""


def _commands() -> Iterator[str]:
    context = click.Context(root, info_name="isthmus")
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        if command is not None:
            yield from _command(command, f"isthmus {name}")


def _command(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path, terminal_width=110, max_content_width=110)
    yield f"### {path}"
    yield ""
    yield "```text"
    yield command.get_help(context)
    yield "```"
    yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if below := command.get_command(context, name):
                yield from _command(below, f"{path} {name}")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
