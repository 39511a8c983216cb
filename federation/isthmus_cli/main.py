"""The `isthmus` command: names all commands, imports the one that is called, turns errors into one sentence."""

import errno
import os
import sys

import click

from isthmus_cli.lazy import Lazy, LazyGroup
from isthmus_core.errors import IsthmusError

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
def root() -> None:
    """Isthmus joins Kubernetes clusters and machines into one federation without merging their networks.

    Start with 'isthmus demo', or build your own with 'isthmus init'. Every command takes --help.
    """


def main() -> None:
    """Run the command; exit 0 when it worked, 1 when it failed, 2 when it was called wrongly."""
    try:
        code = root.main(prog_name="isthmus", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2 if isinstance(error, click.UsageError) else 1)
    except IsthmusError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OUTPUT_LOST or error.filename is not None:
            raise
        _leave_stdout()
        click.echo(f"Error: the output cannot be written: {(error.strerror or '').lower()}. Free some space.", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


_OUTPUT_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _leave_stdout() -> None:
    """What standard output still holds cannot be written: let Python not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
