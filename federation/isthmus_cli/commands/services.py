"""`isthmus services` and `isthmus endpoints`: what the federation offers, and who is behind it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from isthmus_cli.anywhere import pasted
from isthmus_cli.api import admin_client, controller_option
from isthmus_cli.home import home_option
from isthmus_cli.lazy import GuidingGroup
from isthmus_cli.output import age, output_option, paint, show, table
from isthmus_cli.proposals import propose_services
from isthmus_core.names import ServiceName

if TYPE_CHECKING:
    from isthmus_controller.admin.values import CapacityView, ExporterView, PortView, ServiceView


class _Services(GuidingGroup):
    def hint(self, ctx: click.Context, name: str) -> str:
        """For those who look for what `cluster` has: a command before the name, and `list`."""
        if "/" in name:
            return f"Did you mean '{ctx.command_path} show {name}'?"
        return f"'{ctx.command_path}' alone lists them." if name == "list" else super().hint(ctx, name)


@click.group(cls=_Services, invoke_without_command=True)
@output_option
@home_option
@controller_option
@click.pass_context
def services(ctx: click.Context, output: str, home: Path | None, controller: str | None) -> None:
    """List the services of the federation; 'services show SERVICE' tells all about one."""
    if ctx.invoked_subcommand is not None:
        return
    from isthmus_controller.admin.values import Services

    found = admin_client(home, controller).read(Services, "services").services

    def as_table() -> str:
        if not found:
            return pasted(
                "No service is exported yet. Offer one with: isthmus export NAMESPACE/SERVICE --cluster CLUSTER"
            )
        head = ("SERVICE", "TYPE", "PORTS", "CLUSTERS", "READY", "CONFLICTS")
        return table(head, [_row(service) for service in found])

    show(found, output, as_table)


@services.command("show", short_help="Show one service: its name, ports, clusters and conflicts.")
@click.argument("service", shell_complete=propose_services)
@output_option
@home_option
@controller_option
def show_service(service: str, output: str, home: Path | None, controller: str | None) -> None:
    """Show one service (<namespace>/<name>): its name, ports, clusters and conflicts."""
    from isthmus_controller.admin.values import ServiceView

    name = ServiceName.parse(service)
    one = admin_client(home, controller).read(ServiceView, "services", name.namespace, name.name)

    def as_table() -> str:
        lines = [f"{'service':<12}{one.service}", f"{'name':<12}{one.host}", f"{'type':<12}{one.type}"]
        lines += [f"{'port':<12}{_port(port)} ({port.app_protocol})" for port in one.ports]
        lines += [f"{'conflict':<12}{paint(c.reason, 'yellow')}: {c.message}" for c in one.conflicts]
        head = ("CLUSTER", "STATE", "PORTS", "READY")
        unnamed = ",".join(_port(port) for port in one.ports if not port.name)
        rows = [[e.cluster, e.state, ",".join(p or unnamed for p in e.ports) or "-", _ready(e)] for e in one.exporters]
        why = [paint(f"{e.cluster}: {e.why}", "yellow") for e in one.exporters if e.why]
        return "\n".join([*lines, "", table(head, rows), *(["", *why] if why else [])])

    show(one, output, as_table)


@click.command()
@click.argument("service", required=False, shell_complete=propose_services)
@output_option
@home_option
@controller_option
def endpoints(service: str | None, output: str, home: Path | None, controller: str | None) -> None:
    """Show how much of each service (or of SERVICE) is healthy, by cluster and zone."""
    from isthmus_controller.admin.values import Endpoints

    query = {"service": str(ServiceName.parse(service))} if service else {}
    found = admin_client(home, controller).read(Endpoints, "endpoints", **query).endpoints

    def as_table() -> str:
        if not found:
            return "No cluster has told of any endpoint yet."
        head = ("SERVICE", "CLUSTER", "STATE", "LOCALITY", "READY", "CHANGED")
        why = [
            paint(f"{cluster}: {why}", "yellow")
            for cluster, why in {one.cluster: one.why for one in found}.items()
            if why
        ]
        return "\n".join([table(head, [_capacity(one) for one in found]), *(["", *why] if why else [])])

    show(found, output, as_table)


def _row(service: "ServiceView") -> list[str]:
    return [
        service.service,
        service.type,
        ",".join(_port(port) for port in service.ports),
        ",".join(exporter.cluster for exporter in service.exporters),
        _ready(service),
        ",".join(conflict.reason for conflict in service.conflicts) or "-",
    ]


def _capacity(one: "CapacityView") -> list[str]:
    seconds = time.time() - one.observed_at_ms / 1000 if one.observed_at_ms else None
    return [
        one.service,
        one.cluster,
        one.state,
        one.locality,
        _ready(one),
        "-" if seconds is None else f"{age(seconds)} ago",
    ]


def _ready(one: "ServiceView | ExporterView | CapacityView") -> str:
    """What can be used now, of how much there is."""
    colour = "green" if one.ready == one.total else "yellow" if one.ready else "red"
    return paint(f"{one.ready}/{one.total}", colour)


def _port(port: "PortView") -> str:
    return (f"{port.name}:" if port.name else "") + f"{port.port}/{port.protocol}"
