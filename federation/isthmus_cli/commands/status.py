"""`isthmus status`: the federation at a glance."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from isthmus_cli.anywhere import pasted
from isthmus_cli.api import AdminClient, admin_client, controller_option
from isthmus_cli.garbage import collect_garbage
from isthmus_cli.home import home_option
from isthmus_cli.output import Pages, age, output_option, paint, show, table
from isthmus_core.errors import Unavailable
from isthmus_core.names import few

if TYPE_CHECKING:
    from isthmus_controller.admin.values import ClusterView, Status

STATES = {"healthy": "green", "control-lost": "yellow", "draining": "yellow", "waiting": "yellow"}
NOBODY_YET = "No cluster has joined yet. Start with: isthmus cluster register NAME --locality provider/region/zone"


@click.command()
@click.option("--watch", "-w", is_flag=True, help="Go on and show every change until Ctrl-C.")
@output_option
@home_option
@controller_option
def status(watch: bool, output: str, home: Path | None, controller: str | None) -> None:
    """Show clusters, services, conflicts, controllers and etcd.

    The exit status is 1 when something needs a person: a cluster that lost its controllers, an unhealthy etcd.
    """
    client = admin_client(home, controller, timeout=40.0 if watch else 5.0)
    if watch:
        _watch(client, output)
        return
    now = _read(client)
    show(now, output, lambda: as_text(now))
    if not _well(now):
        raise SystemExit(1)


def _read(client: AdminClient, **query: str) -> "Status":
    from isthmus_controller.admin.values import Status

    return client.read(Status, "status", **query)


def _watch(client: AdminClient, output: str) -> None:
    collect_garbage()
    revision = ""
    pages = Pages(output)
    while True:
        try:
            now = _read(client, wait=revision, timeout="30") if revision else _read(client)
        except Unavailable as error:
            click.echo(paint(f"{error.sentence}; asking again", "red"), err=True)
            time.sleep(1)
            continue
        if str(now.revision) == revision:
            continue
        revision = str(now.revision)
        pages.turn()
        show(now, output, lambda now=now: as_text(now))  # type: ignore[misc]  # bound early on purpose


def _well(now: "Status") -> bool:
    lost = any(c.state == "control-lost" for c in now.clusters)
    return now.ready and not lost and all(member.healthy for member in now.etcd)


def as_text(now: "Status") -> str:
    """The federation for people."""
    ready = paint("ready", "green") if now.ready else paint("not ready", "red")
    lines = [f"Federation {now.federation} ({now.domain}), controller {now.version}: {ready}"]
    lines += [paint(f"  missing: {part}: {why}", "red") for part, why in now.missing.items()]
    lines += [paint(f"  warning: {part}: {why}", "yellow") for part, why in now.warnings.items()]
    if now.clusters:
        head = ("CLUSTER", "STATE", "LOCALITY", "GATEWAYS", "SERVICES", "SEEN")
        lines += ["", table(head, [cluster_row(c, now.time_ms) for c in now.clusters])]
    else:
        lines += ["", pasted(NOBODY_YET)]
    counts = ((now.services, "service"), (now.exports, "export"), (len(now.conflicts), "conflict"))
    lines += ["", ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)]
    lines += [paint(f"  {c.service}: {c.reason}: {c.message}", "yellow") for c in now.conflicts]
    if now.unserved:
        lines.append(paint(f"  nobody serves {few(now.unserved)}: every cluster that could is drained", "yellow"))
    lines += [paint(f"  unreadable: {q.key}: {q.reason}", "red") for q in now.quarantined]
    for member in now.etcd:
        word = paint("healthy", "green") if member.healthy else paint(member.problem or "unhealthy", "red")
        size = _size(member.size_bytes) if member.healthy else "-"
        lines.append(f"etcd {member.address} {member.version}: {word}, {size}{', leader' if member.leader else ''}")
    here = {(replica.place, replica.admin) for replica in now.replicas if replica.self and replica.place}
    for replica in now.replicas:
        if (replica.place, replica.admin) in here and not replica.self:
            continue  # the one that ran there before: etcd keeps its session for some seconds after a crash
        lines.append(f"controller {replica.id} at {replica.admin}{' (this one)' if replica.self else ''}")
    return "\n".join(lines)


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def cluster_row(c: "ClusterView", now_ms: int) -> list[str]:
    """One cluster as a row of a table."""
    since = (now_ms - c.session_since_ms) / 1000 if c.session_since_ms else None
    seen = "-" if since is None else "now" if c.session_held else f"{age(since)} ago"
    connected = sum(1 for gateway in c.gateways if gateway.connected)
    gateways = f"{connected}/{len(c.gateways)}"
    return [c.id, paint(c.state, STATES.get(c.state, "red")), c.locality, gateways, str(c.services), seen]
