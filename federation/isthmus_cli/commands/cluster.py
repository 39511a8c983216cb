"""`isthmus cluster ...`: the members of the federation."""

import os
import socket
import sys
import time
from pathlib import Path
from shlex import quote

import click

from isthmus_cli.anywhere import pasted
from isthmus_cli.api import admin_client, controller_option
from isthmus_cli.asking import require_answer
from isthmus_cli.commands.status import NOBODY_YET, STATES, cluster_row
from isthmus_cli.home import find_home, home_option
from isthmus_cli.lazy import GuidingGroup
from isthmus_cli.output import output_option, paint, show, table
from isthmus_cli.proposals import propose_clusters, propose_drained, propose_undrained
from isthmus_core.errors import InvalidInput
from isthmus_core.names import Locality, few, parse_cluster_id
from isthmus_kit.files import check_writable, write_file


@click.group(cls=GuidingGroup)
@output_option
@home_option
@controller_option
def cluster(**_: object) -> None:
    """Register, join, list, drain and remove the clusters of the federation."""


@cluster.command()
@click.argument("name")
@click.option(
    "--locality", required=True, metavar="PROVIDER/REGION/ZONE", help="Where it runs, such as aws/eu-west-1/a."
)
@click.option("--network", default="", help="Clusters of one network reach each other's endpoints directly.")
@click.option(
    "--ttl", default=60, show_default=True, type=click.IntRange(1, 1440), help="Minutes until the token expires."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the token there (0600), not to standard output.",
)
@home_option
@controller_option
def register(
    name: str, locality: str, network: str, ttl: int, token_file: Path | None, home: Path | None, controller: str | None
) -> None:
    """Print a one-time token with which cluster NAME can join.

    The token is the only line on standard output, so that it can be redirected into a file.
    """
    parse_cluster_id(name)
    Locality.parse(locality)
    if token_file:
        # Before a token is made: a new one voids the one before.
        check_writable(token_file)
    body = {"cluster": name, "locality": locality, "network": network, "ttl_minutes": ttl}
    answer = admin_client(home, controller).ask("POST", "tokens", body=body).body
    token = str(answer["token"])
    if token_file:
        write_file(token_file, f"{token}\n".encode())
    else:
        click.echo(token)
    written = token_file or _redirected()
    where = f"--token-file {quote(str(written))}" if written else "--token-file FILE"
    minutes = "1 minute" if ttl == 1 else f"{ttl} minutes"
    click.echo(f"Registered {name} ({locality}). The token works once, within {minutes}:", err=True)
    click.echo(pasted(f"  isthmus cluster join {where}"), err=True)


def _redirected() -> Path | None:
    """The file that standard output is; None when it is none (proc(5), /proc/pid/fd)."""
    try:
        path = Path(os.readlink("/proc/self/fd/1"))
        return path if path.is_file() else None
    except OSError:
        return None


@cluster.command()
@click.argument("words", nargs=-1, metavar="")
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False), help="File with the token; - for standard input."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where this cluster's keys go.  [default: <home>/clusters/<name>]",
)
@home_option
def join(words: tuple[str, ...], token_file: Path | None, data_dir: Path | None, home: Path | None) -> None:
    """Join the federation with a one-time token.

    The token comes from 'isthmus cluster register'. It is read from --token-file, from ISTHMUS_TOKEN or from
    standard input, never from the command line, where others could read it. The cluster's key is made here and
    never leaves.
    """
    if words:
        # Never repeated: it may be the token itself.
        raise click.UsageError("the token does not stand in the command line. Give --token-file FILE or ISTHMUS_TOKEN.")
    from isthmus_gateway.join import join as join_federation
    from isthmus_gateway.join import read_token

    token = read_token(_token_text(token_file))
    folder = data_dir or find_home(home) / "clusters" / token.cluster
    joined = join_federation(token, folder)
    (folder / "services").mkdir(exist_ok=True)
    click.echo(f"Cluster {joined.id} joined {joined.domain} as {joined.locality}")
    click.echo(f"  its key and certificates   {folder}")
    click.echo(f"  its service documents      {folder / 'services'}")
    which = f"--data-dir {quote(str(data_dir.absolute()))}" if data_dir else f"--cluster {joined.id}"
    first = "stop its gateway, which still runs with what it had, and " if _running(folder) else ""
    click.echo(pasted(f"Next: {first}run 'isthmus gateway {which}'."))


def _running(folder: Path) -> bool:
    """Whether a gateway runs on this data directory: then its agent listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(folder / "agent.sock"))
        except OSError:
            return False
    return True


def _token_text(token_file: Path | None) -> str:
    if token_file is not None and str(token_file) != "-":
        try:
            return token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not text"
            raise InvalidInput(
                f"the token file {token_file} cannot be read: {reason}", "Give the file that 'register' wrote."
            ) from None
    if token_file is None and (text := os.environ.get("ISTHMUS_TOKEN")):
        return text.strip()
    text = "" if token_file is None and sys.stdin.isatty() else sys.stdin.read().strip()
    if not text:
        raise InvalidInput("no token was given", "Use --token-file FILE, ISTHMUS_TOKEN, or standard input.")
    return text


@cluster.command("list")
@output_option
@home_option
@controller_option
def list_clusters(output: str, home: Path | None, controller: str | None) -> None:
    """List the clusters with their place and state."""
    from isthmus_controller.admin.values import Clusters

    found = admin_client(home, controller).read(Clusters, "clusters").clusters

    def as_table() -> str:
        if not found:
            return pasted(NOBODY_YET)
        head = ("CLUSTER", "STATE", "LOCALITY", "GATEWAYS", "SERVICES", "SEEN")
        return table(head, [cluster_row(c, int(time.time() * 1000)) for c in found])

    show(found, output, as_table)


@cluster.command("show")
@click.argument("name", shell_complete=propose_clusters)
@output_option
@home_option
@controller_option
def show_cluster(name: str, output: str, home: Path | None, controller: str | None) -> None:
    """Show one cluster with its gateways and exports."""
    from isthmus_controller.admin.values import ClusterView

    one = admin_client(home, controller).read(ClusterView, "clusters", parse_cluster_id(name))

    def as_table() -> str:
        rows = [
            ("cluster", one.id),
            ("state", paint(one.state, STATES.get(one.state, "red"))),
            ("locality", one.locality),
            ("network", one.network or "-"),
            ("trust domain", one.trust_domain),
            ("certificate", f"SHA-256 {one.certificate_fingerprint}"),
        ]
        for gateway in one.gateways:
            word = paint("connected", "green") if gateway.connected else paint("not connected", "yellow")
            address = f"[{gateway.address}]" if ":" in gateway.address else gateway.address
            rows.append(("gateway", f"{gateway.id}  {address}:{gateway.port}  {gateway.version}  {word}"))
        rows += [("exports", service) for service in one.exports]
        return "\n".join(f"{key:<14}{value}" for key, value in rows)

    show(one, output, as_table)


@cluster.command()
@click.argument("name", shell_complete=propose_undrained)
@home_option
@controller_option
def drain(name: str, home: Path | None, controller: str | None) -> None:
    """Send no new traffic to NAME.

    Its own clients still reach it as their last resort.
    """
    answer = admin_client(home, controller).ask("POST", "clusters", name, "drain").body
    told = f"{name} is draining: other clusters send it no new traffic."
    click.echo(pasted(f"{told} Take it back with: isthmus cluster undrain {name}"))
    if unserved := [str(service) for service in answer.get("unserved", ())]:
        click.echo(f"Nobody else serves {few(unserved)}: what other clusters ask of that fails meanwhile.", err=True)


@cluster.command()
@click.argument("name", shell_complete=propose_drained)
@home_option
@controller_option
def undrain(name: str, home: Path | None, controller: str | None) -> None:
    """Let traffic go to NAME again."""
    admin_client(home, controller).ask("POST", "clusters", name, "undrain")
    click.echo(f"{name} takes traffic again.")


@cluster.command()
@click.argument("name", shell_complete=propose_clusters)
@click.option("--yes", is_flag=True, help="Do not ask.")
@home_option
@controller_option
def remove(name: str, yes: bool, home: Path | None, controller: str | None) -> None:
    """Take NAME out, with all that it exports."""
    from isthmus_controller.admin.values import ClusterView

    require_answer(yes)
    client = admin_client(home, controller)
    locality = client.read(ClusterView, "clusters", name).locality
    if not yes:
        click.confirm(f"Remove {name} and everything that it exports from the federation?", abort=True, err=True)
    client.ask("DELETE", "clusters", name)
    again = f"isthmus cluster register {name} --locality {locality}"
    click.echo(pasted(f"Removed {name}. It can come back with a new token: {again}"))
