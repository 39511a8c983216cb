"""Where a person's federation lives on disk: one folder, with the configuration of the CLI in it."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import click

from isthmus_cli.anywhere import AnywhereOption
from isthmus_core.errors import InvalidInput

CONFIG_NAME = "config.toml"


class _Home(click.Path):
    """Any path: `find_home` says what is wrong with it, and how to mend it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("it is empty. Name a folder, or leave it out.", param, ctx)
        return Path(value)


home_option = click.option(
    "--home",
    cls=AnywhereOption,
    envvar="ISTHMUS_HOME",
    type=_Home(file_okay=False),
    default=None,
    help="Folder of this federation's files.  [env: ISTHMUS_HOME; default: ~/.isthmus]",
)

controller_option = click.option(
    "--controller",
    cls=AnywhereOption,
    envvar="ISTHMUS_CONTROLLER",
    metavar="HOST:PORT[,...]",
    default=None,
    help="Controllers to ask instead of the configured ones.  [env: ISTHMUS_CONTROLLER]",
)


class AdminConfig(NamedTuple):
    """How the CLI reaches the admin API: addresses in turn, and the files that prove who asks."""

    controllers: tuple[str, ...]
    server_name: str
    root: Path
    certificate: Path
    key: Path


def find_home(home: Path | None) -> Path:
    """The given folder, or `~/.isthmus`; there may be nothing yet. Raises InvalidInput where no folder can be used."""
    folder = (home or Path(os.path.expanduser("~")) / ".isthmus").absolute()
    try:
        os.stat(os.path.join(folder, "."))  # for which it has to be a folder that may be entered
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidInput(f"the home folder {folder} cannot be used: {reason}", _another_home(error)) from None
    return folder


def controller_folder(home: Path) -> Path:
    """Where the controller keeps the root, its own authority and the embedded etcd."""
    return home / "controller"


def cluster_folder(home: Path, cluster: str | None, instead: str = "--data-dir") -> Path:
    """The folder of a cluster that joined from this machine; the only one when none is named.

    Raises InvalidInput when there is none; its mend names the option that takes a folder `instead`.
    """
    found = cluster_folders(home)
    if cluster:
        folder = home / "clusters" / cluster
        if folder not in found:
            known = ", ".join(p.name for p in found) or "none yet"
            raise InvalidInput(
                f"no cluster {cluster!r} has joined from {home} (there: {known})",
                f"Run 'isthmus cluster join --token-file FILE' with a token for {cluster}.",
            )
        return folder
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidInput(
            f"no cluster has joined from {home}",
            f"Run 'isthmus cluster join --token-file FILE' first, or give {instead}.",
        )
    raise InvalidInput(f"{len(found)} clusters have joined from {home}", f"Say which: --cluster {found[0].name}.")


def cluster_folders(home: Path) -> list[Path]:
    """The folders of all clusters that joined from this machine; raises InvalidInput where they cannot be read."""
    try:
        return sorted(path for path in (home / "clusters").iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidInput(f"{home / 'clusters'} cannot be read: {reason}", _another_home(error)) from None


def write_config(home: Path, config: AdminConfig) -> Path:
    """Write the CLI's configuration as TOML; paths below `home` are written relative to it."""

    def shown(path: Path) -> str:
        return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)

    text = "\n".join(
        [
            "# How the isthmus command reaches its controllers. ISTHMUS_CONTROLLER and --controller take precedence.",
            f"controllers = [{', '.join(_quoted(c) for c in config.controllers)}]",
            f"server_name = {_quoted(config.server_name)}",
            f"root = {_quoted(shown(config.root))}",
            f"certificate = {_quoted(shown(config.certificate))}",
            f"key = {_quoted(shown(config.key))}",
            "",
        ]
    )
    path = home / CONFIG_NAME
    from isthmus_kit.files import write_file

    write_file(path, text.encode(), 0o644)
    return path


def read_config(home: Path) -> AdminConfig:
    """The CLI's configuration; raises InvalidInput when there is none or it cannot be used."""
    import tomllib

    path = home / CONFIG_NAME
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InvalidInput(
            f"there is no federation in {home}",
            "Make one with 'isthmus init --domain DOMAIN', or point --home at the folder of one.",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} is not valid TOML: {error}", "Mend that line or run 'isthmus init' again."
        ) from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {(error.strerror or '').lower()}", _another_home(error)) from None
    wanted = {"controllers", "server_name", "root", "certificate", "key"}
    if missing := sorted(wanted - raw.keys()):
        raise InvalidInput(f"{path} does not say {', '.join(missing)}", "Compare it with docs/reference.md.")
    if unknown := sorted(raw.keys() - wanted):
        raise InvalidInput(f"{path} has an unknown entry {unknown[0]!r}", f"It may hold {', '.join(sorted(wanted))}.")
    controllers = raw.pop("controllers")
    if not isinstance(controllers, list) or not controllers or not all(isinstance(c, str) for c in controllers):
        raise InvalidInput(f"{path}: controllers is no list of texts", 'Write controllers = ["127.0.0.1:15014"].')
    if strange := [name for name in sorted(raw) if not isinstance(raw[name], str)]:
        raise InvalidInput(f"{path}: {strange[0]} is no text", "Put it between quotes.")
    return AdminConfig(
        controllers=tuple(controllers),
        server_name=raw["server_name"],
        root=home / raw["root"],
        certificate=home / raw["certificate"],
        key=home / raw["key"],
    )


def readable(error: OSError) -> str:
    """How to mend that a file cannot be read; empty where it is not the right to do so that is missing."""
    return "Give this user the right to read it." if isinstance(error, PermissionError) else ""


def _another_home(error: OSError) -> str:
    mend = "ame another folder with --home or ISTHMUS_HOME."
    return f"Give this user the right to use it, or n{mend}" if isinstance(error, PermissionError) else f"N{mend}"


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)  # a TOML basic string is written as a JSON string (TOML 1.0, "String")
