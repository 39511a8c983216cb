"""`isthmus controller`: run one replica of the federation controller."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isthmus_cli.api import parse_address
from isthmus_cli.flags import with_options
from isthmus_cli.home import controller_folder, find_home, home_option
from isthmus_cli.running import run_until_signal
from isthmus_cli.settings import ControllerOptions, load, parts
from isthmus_core.errors import InvalidInput

if TYPE_CHECKING:
    from isthmus_controller.settings import EtcdSettings


@click.command()
@home_option
@with_options(ControllerOptions)
def controller(home: Path | None, config: Path | None, **flags: Any) -> None:
    """Run the federation controller: the registry, the trust service and the admin API.

    Without --etcd it runs an etcd of its own, which is right for a try-out; production has three or five etcd
    members and several controllers over them. Traffic goes on while no controller runs.
    """
    options = load(ControllerOptions, config, flags)
    folder = options.data_dir or controller_folder(find_home(home))
    etcd = _etcd(options)

    from isthmus_controller.controller import run_controller
    from isthmus_controller.settings import ControllerSettings, Listen
    from isthmus_kit.telemetry import setup_logging

    setup_logging(options.log_level, options.log_format)
    settings = ControllerSettings(
        data_dir=folder,
        grpc=Listen(*parse_address(options.listen, 15010)),
        admin=Listen(*parse_address(options.admin_listen, 15014)),
        etcd=etcd,
        advertise_grpc=parts(options.advertise_grpc),
        advertise_admin=parts(options.advertise),
        session_ttl_seconds=options.session_ttl,
        log_level=options.log_level,
    )
    run_until_signal(lambda stop: run_controller(settings, stop))


def _etcd(options: ControllerOptions) -> "EtcdSettings | None":
    from isthmus_controller.settings import EtcdSettings

    if not options.etcd:
        if options.embedded_etcd is False:
            raise InvalidInput(
                "no etcd was named, and --no-embedded-etcd forbids one of its own", "Give --etcd HOST:PORT."
            )
        return None
    if options.embedded_etcd:
        raise InvalidInput("--embedded-etcd and --etcd exclude each other", "Give only one of them.")
    addresses = tuple(_etcd_address(text, options) for text in parts(options.etcd))
    if (options.etcd_cert is None) != (options.etcd_key is None):
        raise InvalidInput(
            "a client certificate for etcd needs its key, and the other way round", "Give --etcd-cert and --etcd-key."
        )
    password = _password(options.etcd_password_file)
    if bool(options.etcd_user) != bool(password):
        raise InvalidInput(
            "etcd's user needs a password, and the other way round",
            f"Give --etcd-user, and the password with --etcd-password-file or {PASSWORD_VARIABLE}.",
        )
    return EtcdSettings(
        addresses=addresses,
        ca=options.etcd_ca,
        certificate=options.etcd_cert,
        key=options.etcd_key,
        user=options.etcd_user or "",
        password=password,
    )


PASSWORD_VARIABLE = "ISTHMUS_CONTROLLER_ETCD_PASSWORD"
"""There is no flag for it: everybody on a machine may read the arguments of its processes."""


def _password(file: Path | None) -> str:
    given = os.environ.get(PASSWORD_VARIABLE, "")
    if file is None:
        return given
    if given:
        raise InvalidInput(f"the password for etcd was given twice: {file} and {PASSWORD_VARIABLE}", "Give it once.")
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidInput(
            f"the etcd password file {file} cannot be read: {reason.lower()}", "Check the path and its permissions."
        ) from None
    if not password:
        raise InvalidInput(f"the etcd password file {file} is empty", "Write the password into it.")
    return password


def _etcd_address(text: str, options: ControllerOptions) -> str:
    """TLS, always; cleartext only where the bytes do not leave the machine, and only when it is asked for."""
    plain = text.startswith("http://")
    host, port = parse_address(text.removeprefix("http://"), 2379)
    shown = f"[{host}]" if ":" in host else host
    if not plain:
        if options.etcd_ca is None:
            raise InvalidInput(f"no CA certificate was given for the etcd at {text}", "Give it with --etcd-ca FILE.")
        return f"https://{shown}:{port}"
    if files := [file for file in (options.etcd_ca, options.etcd_cert, options.etcd_key) if file is not None]:
        raise InvalidInput(
            f"{text} would not use the TLS file {files[0]}",
            f"Write it as https://{shown}:{port}, or leave the files out.",
        )
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise InvalidInput(
            f"{text} would send the registry over the network in the clear", "Use TLS: HOST:PORT with --etcd-ca."
        )
    return f"http://{shown}:{port}"
