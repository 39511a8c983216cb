"""`isthmus explain`: why traffic for a service goes where it goes."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from isthmus_cli.api import admin_client, controller_option
from isthmus_cli.home import home_option
from isthmus_cli.output import output_option, paint, show, table
from isthmus_cli.proposals import propose_clusters, propose_services
from isthmus_core.names import ServiceName, parse_cluster_id

if TYPE_CHECKING:
    from isthmus_controller.admin.values import Explanation, TargetView


@click.command()
@click.argument("service", shell_complete=propose_services)
@click.option(
    *("--from", "from_cluster"),
    required=True,
    metavar="CLUSTER",
    help="The cluster whose clients ask.",
    shell_complete=propose_clusters,
)
@output_option
@home_option
@controller_option
def explain(service: str, from_cluster: str, output: str, home: Path | None, controller: str | None) -> None:
    """Say which clusters get the traffic for SERVICE (<namespace>/<name>) from CLUSTER, in which order, and why.

    Every cluster that exports the service is listed, the chosen and the others, each with its reason.
    """
    from isthmus_controller.admin.values import Explanation

    name = ServiceName.parse(service)
    query = {"from": parse_cluster_id(from_cluster)}
    told = admin_client(home, controller).read(Explanation, "explain", name.namespace, name.name, **query)
    show(told, output, lambda: _as_text(told))


_NOBODY = "nobody can serve it"


def _as_text(told: "Explanation") -> str:
    rows = []
    ready = [one for one in told.candidates if one.chosen and one.ready]
    # The first tier that has somebody ready; a cluster keeps its place while its own have failed.
    now = min((one.tier for one in ready if one.tier is not None), default=0)
    for one in told.candidates:
        tier = "-" if one.tier is None else str(one.tier)
        if one.last_resort:
            word = paint("when nobody else answers", "red")
        elif not one.chosen:
            word = paint("not used", "red")
        elif not one.ready:
            word = paint("nobody is ready", "red")
        elif one.tier == 0:
            word = paint("first choice", "green")
        elif one.tier == now:
            word = paint(f"now, tier {now - 1} failed", "yellow")
        else:
            word = paint("when tier " + str((one.tier or 1) - 1) + " fails", "yellow")
        rows.append([tier, one.cluster, one.locality, f"{one.ready}/{one.total}", word, one.why])
    text = f"Traffic for {told.service} from {told.from_cluster}:\n\n"
    text += table(("TIER", "CLUSTER", "LOCALITY", "READY", "USED", "WHY"), rows)
    if told.note:
        text += "\n\n" + paint(told.note, "yellow")
    shared = {tuple(tuple(target.cluster for target in tier) for tier in port.tiers) for port in told.ports}
    if len(shared) > 1 or () in shared:
        nobody = paint("nobody but the last resort" if any(c.last_resort for c in told.candidates) else _NOBODY, "red")
        text += "\n\n" + "\n".join(
            f"port {port.name or port.port}: " + (_tiers(port.tiers) or nobody) for port in told.ports
        )
    return text


def _tiers(tiers: "list[list[TargetView]]") -> str:
    return ", then ".join(
        " and ".join(f"{target.cluster} (weight {target.weight})" for target in tier) for tier in tiers
    )
