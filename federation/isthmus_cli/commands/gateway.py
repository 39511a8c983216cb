"""`isthmus gateway`: run the gateway of a cluster, with the Envoy that it configures."""

import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from isthmus_cli import values
from isthmus_cli.api import parse_address
from isthmus_cli.flags import with_options
from isthmus_cli.home import cluster_folder, find_home, home_option
from isthmus_cli.running import run_until_signal
from isthmus_cli.settings import GatewayOptions, load, parts


@click.command()
@home_option
@with_options(GatewayOptions)
def gateway(home: Path | None, config: Path | None, **flags: Any) -> None:
    """Run the gateway of a cluster: it offers this cluster's exports, and gives its clients all others'.

    It starts Envoy and keeps it running, and starts from its last state when no controller answers. SIGTERM ends both
    in order. SIGUSR2 starts the gateway's own process anew (a newer version, other settings in its file) while Envoy
    serves on; Envoy also serves on when that process is killed, until it is started again.
    """
    options = load(GatewayOptions, config, flags)
    folder = options.data_dir or cluster_folder(find_home(home), options.cluster)

    from isthmus_gateway.agent import run_gateway
    from isthmus_gateway.membership import read_membership
    from isthmus_gateway.settings import GatewaySettings
    from isthmus_kit.telemetry import setup_logging

    controllers = parts(options.controllers) or read_membership(folder).controllers
    host, port = parse_address(options.listen, 15443)
    advertised = _advertised(options.advertise, host, port, controllers)
    web_host, web_port = parse_address(options.web_listen, 15020)
    setup_logging(options.log_level, options.log_format)
    settings = GatewaySettings(
        data_dir=folder,
        services_dir=options.services or folder / "services",
        gateway_id=options.id or values.gateway_name(socket.gethostname()),
        listen_address=host,
        listen_port=port,
        advertise_address=advertised[0],
        advertise_port=advertised[1],
        vip_range=options.vip_range,
        envoy_concurrency=options.envoy_concurrency,
        web_address=web_host,
        web_port=web_port,
        controllers=controllers,
    )
    run_until_signal(lambda stop: run_gateway(settings, stop), renewable=True)


def _advertised(given: str | None, host: str, port: int, controllers: tuple[str, ...]) -> tuple[str, int]:
    """What other clusters connect to: as given, else where we listen, else our address towards the controllers."""
    if given:
        return parse_address(given, port)
    try:
        if not ip_address(host).is_unspecified:
            return host, port
    except ValueError:
        return host, port
    return _address_towards(controllers) or host, port


def _address_towards(controllers: tuple[str, ...]) -> str:
    """This machine's address on the way to a controller; '' when there is no way. No packet is sent."""
    for controller in controllers:
        target = parse_address(controller, 15010)
        try:
            family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(target)
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""
