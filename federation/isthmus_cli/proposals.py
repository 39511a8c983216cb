"""Propose names to a shell that completes a command: those that the controllers know, or that lie on this machine.

Who presses Tab asks for help, not for news: without a controller, a credential or an answer in time, nothing is
proposed.
"""

import faulthandler
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from isthmus_cli.home import find_home, read_config
from isthmus_core.errors import InvalidInput, IsthmusError
from isthmus_core.names import ServiceName, parse_cluster_id

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    Proposing = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]

LIMIT_S = 1.0
"""How long a person is kept waiting at most."""

Named = Iterable[tuple[str, str]]
"""Names, each with a few words about it, which zsh and fish show."""


class _Cluster(msgspec.Struct):
    id: str
    state: str = ""
    locality: str = ""


class _Clusters(msgspec.Struct):
    clusters: list[_Cluster]


class _Exporter(msgspec.Struct):
    cluster: str


class _Service(msgspec.Struct):
    service: str
    exporters: list[_Exporter] = []


class _Services(msgspec.Struct):
    services: list[_Service]


def proposing(source: Callable[[click.Context], Named]) -> "Proposing":
    """What click takes as `shell_complete`: the names from `source` that begin with what was typed."""

    def propose(ctx: click.Context, _: click.Parameter, typed: str) -> "list[CompletionItem[str]]":
        from click.shell_completion import CompletionItem

        try:
            with _limited():
                found = sorted(source(ctx))
        except (IsthmusError, OSError):
            return []
        return [CompletionItem(name, help=about or None) for name, about in found if name.startswith(typed)]

    return propose


def proposing_paths(kind: str) -> "Proposing":
    """The same for what lies on this machine, a `file` or a `dir`: the shell looks itself."""

    def propose(_: click.Context, __: click.Parameter, typed: str) -> "list[CompletionItem[str]]":
        from click.shell_completion import CompletionItem

        return [CompletionItem(typed, type=kind)]

    return propose


def _clusters(ctx: click.Context, draining: bool | None = None) -> Named:
    for one in _read(ctx, _Clusters, "clusters").clusters:
        if _sound(parse_cluster_id, one.id) and draining in (None, one.state == "draining"):
            yield one.id, ", ".join(filter(None, (one.locality, one.state)))


def _services(ctx: click.Context) -> Iterator[tuple[ServiceName, str]]:
    for one in _read(ctx, _Services, "services").services:
        if _sound(ServiceName.parse, one.service):
            yield ServiceName.parse(one.service), ", ".join(exporter.cluster for exporter in one.exporters)


def _joined(ctx: click.Context) -> Named:
    places = (find_home(home_of(ctx)) / "clusters").glob("*/cluster.json")
    return ((place.parent.name, "") for place in places if _sound(parse_cluster_id, place.parent.name))


propose_clusters = proposing(_clusters)
"""The clusters of the federation."""

propose_drained = proposing(lambda ctx: _clusters(ctx, draining=True))
"""Those that are taken out of traffic."""

propose_undrained = proposing(lambda ctx: _clusters(ctx, draining=False))
"""All others."""

propose_services = proposing(lambda ctx: ((str(name), about) for name, about in _services(ctx)))
"""The services of the federation."""

propose_dns_names = proposing(lambda ctx: ((f"{name.name}.{name.namespace}", about) for name, about in _services(ctx)))
"""The same as `dns check` takes them."""

propose_joined = proposing(_joined)
"""The clusters that joined from this machine."""


def home_of(ctx: click.Context) -> Path | None:
    """`--home` as it stands on the line, which no shell has expanded yet."""
    given = _given(ctx, "home")
    return Path(os.path.expanduser(os.path.expandvars(given))) if given else None


def _given(ctx: click.Context, name: str) -> str | None:
    above: click.Context | None = ctx
    while above is not None:
        if above.params.get(name):
            return str(above.params[name])
        above = above.parent
    return None


def _read(ctx: click.Context, kind: type[Any], path: str) -> Any:
    from isthmus_cli.api import AdminClient

    config = read_config(find_home(home_of(ctx)))
    if given := _given(ctx, "controller"):
        config = config._replace(controllers=tuple(filter(None, map(str.strip, given.split(",")))))
    # So that there is time to ask the last one too.
    return AdminClient(config, LIMIT_S / max(1, len(config.controllers))).read(kind, path)


def _sound(parse: Callable[[str], object], name: str) -> bool:
    """Whether a name is one: what else a controller says goes into nobody's command line."""
    try:
        parse(name)
    except InvalidInput:
        return False
    return True


@contextmanager
def _limited() -> Iterator[None]:
    """End this process when it takes too long, also where Python cannot interrupt it (a resolver that is silent)."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(LIMIT_S, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
