"""All commands by name; each is imported when it is called."""

import click

from isthmus_cli.home import controller_option, home_option
from isthmus_cli.lazy import Lazy, LazyGroup
from isthmus_cli.output import output_option

_COMMANDS = {
    "demo": Lazy("isthmus_cli.commands.demo:demo", "Three clusters on this machine: join, fail over, recover."),
    "init": Lazy("isthmus_cli.commands.init:init", "Make a federation: trust root, admin credential, configuration."),
    "cluster": Lazy("isthmus_cli.commands.cluster:cluster", "Register, join, list, drain and remove clusters."),
    "export": Lazy("isthmus_cli.commands.export:export", "Offer a service of a cluster to all others."),
    "unexport": Lazy("isthmus_cli.commands.export:unexport", "Take an offered service back."),
    "services": Lazy("isthmus_cli.commands.services:services", "List the services of the federation."),
    "endpoints": Lazy(
        "isthmus_cli.commands.services:endpoints", "Show who serves what, and how much of it is healthy."
    ),
    "explain": Lazy("isthmus_cli.commands.explain:explain", "Say why traffic goes where it goes."),
    "status": Lazy("isthmus_cli.commands.status:status", "Show the state of clusters, services and controllers."),
    "doctor": Lazy("isthmus_cli.commands.doctor:doctor", "Look for what is wrong, and say how to mend it."),
    "controller": Lazy("isthmus_cli.commands.controller:controller", "Run the federation controller."),
    "gateway": Lazy("isthmus_cli.commands.gateway:gateway", "Run the gateway of a cluster, with its Envoy."),
    "dns": Lazy("isthmus_cli.commands.dns:dns", "Run the DNS server of a cluster; check it from outside."),
    "completion": Lazy("isthmus_cli.commands.completion:completion", "Print the completion script for your shell."),
    "version": Lazy("isthmus_cli.commands.version:version", "Print the versions of Isthmus and its real parts."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isthmus", prog_name="isthmus", message="%(prog)s %(version)s")
@output_option
@home_option
@controller_option
def root(**_: object) -> None:
    """Isthmus joins Kubernetes clusters and machines into one federation without merging their networks.

    Start with 'isthmus demo', or build your own with 'isthmus init'. Every command takes --help. The options may also
    stand behind the command.
    """
