"""`isthmus dns`: run the authoritative DNS server of a cluster, and look at it from the outside."""

import asyncio
import socket
import sys
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isthmus_cli.api import parse_address
from isthmus_cli.flags import with_options
from isthmus_cli.garbage import collect_garbage
from isthmus_cli.home import cluster_folder, find_home, home_option
from isthmus_cli.output import Pages, output_option, paint, show, table
from isthmus_cli.proposals import propose_dns_names
from isthmus_cli.running import run_until_signal
from isthmus_cli.settings import DnsOptions, load, parts
from isthmus_cli.values import LONGEST_ID
from isthmus_core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from isthmus_dns.serving.ahead import Ahead
    from isthmus_dns.watching.missing import Wanted
    from isthmus_dns.watching.sketch import Hitter


@click.group(invoke_without_command=True)
@home_option
@with_options(DnsOptions)
@click.pass_context
def dns(ctx: click.Context, /, home: Path | None, config: Path | None, **flags: Any) -> None:
    """Answer DNS queries for clusterset.local, with what the gateway of this cluster knows.

    Without a subcommand it runs the server. Until the gateway has told everything once, queries are answered with
    SERVFAIL, never with "no such name".
    """
    if ctx.invoked_subcommand is not None:
        return
    options = load(DnsOptions, config, flags)
    folder = options.data_dir or cluster_folder(find_home(home), options.cluster)
    secret = _secret(options.cookie_secret_file)
    if options.subnet_locality and not options.subnet_resolver:
        raise click.UsageError("--subnet-locality: nobody may say where clients are. Name it with --subnet-resolver.")

    async def serve(stop: asyncio.Event) -> None:
        from isthmus_dns.serving.ahead import started_ahead

        async with started_ahead(options.workers) as ahead, asyncio.TaskGroup() as group:
            server = group.create_task(_serving(options, folder, secret, ahead), name="dns server")
            await stop.wait()
            server.cancel()

    run_until_signal(serve)


def _serving(options: DnsOptions, folder: Path, secret: bytes, ahead: "Ahead") -> Coroutine[None, None, None]:
    # Only now: while we import all this, the workers import theirs.
    import msgspec

    from isthmus_dns import run
    from isthmus_dns.listening.tcp import TcpLimits
    from isthmus_dns.zone.apex import parse_zone
    from isthmus_kit.telemetry import setup_logging

    setup_logging(options.log_level, options.log_format)
    zones = (msgspec.structs.replace(parse_zone(text), contact=options.contact or "") for text in options.zone)
    return run(
        feed=folder / "zone.sock",
        listen=parts(options.listen),
        workers=options.workers,
        zones=tuple(zones),
        ttl=options.ttl,
        stale_after=options.stale_after,
        web=options.web_listen or "",
        server_id=socket.gethostname()[:LONGEST_ID] if options.server_id is None else options.server_id,
        cookie_secret=secret,
        rate_limit=options.rate_limit,
        subnet_resolvers=options.subnet_resolver,
        subnet_localities=options.subnet_locality,
        tcp=TcpLimits(options.tcp_connections, options.tcp_per_client, options.tcp_idle),
        dnstap=str(options.dnstap or ""),
        log_queries=options.log_queries,
        log_level=options.log_level,
        ahead=ahead,
    )


def _secret(file: Path | None) -> bytes:
    """The secret of DNS cookies; it stands in a file, because everybody can read the arguments of a process."""
    if file is None:
        return b""
    try:
        text = file.read_text(encoding="ascii").strip()
        found = bytes.fromhex(text)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidInput(f"the cookie secret {file} cannot be read: {reason}", _MAKE_SECRET) from None
    except ValueError:  # no hexadecimal digits, or no text at all
        found = b""
    if len(found) != 16:
        raise InvalidInput(f"{file} does not hold 32 hexadecimal digits", _MAKE_SECRET)
    return found


_MAKE_SECRET = "Make one with 'openssl rand -hex 16'."


@dns.command(short_help="Resolve a name from the outside, and say what is wrong on the way.")
@click.argument("name", shell_complete=propose_dns_names)
@click.option("--server", required=True, metavar="IP:PORT", help="Where 'isthmus dns' listens.")
@click.option("--zone", default="clusterset.local", show_default=True, help="The zone that it serves.")
@click.option(
    "--resolv-conf",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/resolv.conf"),
    show_default=True,
    help="Which resolvers this machine's clients ask.",
)
@click.option(
    "--resolver",
    "resolvers",
    multiple=True,
    metavar="IP[:PORT]",
    help="Ask this resolver instead of those in --resolv-conf. May be repeated.",
)
@output_option
def check(name: str, server: str, zone: str, resolv_conf: Path, resolvers: tuple[str, ...], output: str) -> None:
    """Resolve NAME (<service>.<namespace>, or a full name) from the outside, and say what is wrong on the way.

    Asks the server itself over UDP and TCP, then each resolver that the clients of this machine use. The exit status
    is 1 when something is wrong.
    """
    from isthmus_dns.checking.check import Level
    from isthmus_dns.checking.prober import check as probe

    findings = asyncio.run(probe(server, name, zone, resolv_conf, resolvers))
    colours = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}

    def as_table() -> str:
        rows = [[paint(f.level.value, colours[f.level]), f.about, f.sentence, f.mend or "-"] for f in findings]
        return table(("RESULT", "ABOUT", "SEEN", "MEND"), rows)

    show(findings, output, as_table)
    if any(finding.level is Level.ERROR for finding in findings):
        raise SystemExit(1)


@dns.command(short_help="Show the names that are asked for most.")
@click.option(
    "--web",
    required=True,
    envvar="ISTHMUS_DNS_WEB_LISTEN",
    metavar="HOST:PORT",
    help="What 'isthmus dns' was given as --web-listen.  [env: ISTHMUS_DNS_WEB_LISTEN]",
)
@click.option("--missing", is_flag=True, help="Show services instead that are asked for and that nobody offers.")
@click.option("--watch", "-w", is_flag=True, help="Go on and show it anew every few seconds until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: how often.",
)
@output_option
def top(web: str, missing: bool, watch: bool, interval: float, output: str) -> None:
    """Show the names that are asked for most, with their rate over the last ten seconds."""
    path = "missing" if missing else "top"
    if watch:
        collect_garbage()
    pages = Pages(output)
    while True:
        read_at = time.monotonic()
        names = _read_top(web, path)
        if watch:
            pages.turn()
        show(names, output, partial(_top_text, names, missing))
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(max(0.0, interval - (time.monotonic() - read_at)))


def _read_top(web: str, path: str) -> "list[Hitter] | list[Wanted]":
    from urllib.request import urlopen

    import msgspec

    from isthmus_dns.watching.missing import Wanted
    from isthmus_dns.watching.sketch import Hitter

    host, port = parse_address(web, 9153)
    shown = f"[{host}]" if ":" in host else host
    try:
        with urlopen(f"http://{shown}:{port}/{path}", timeout=5) as answer:
            body = answer.read()
        if path == "missing":
            return msgspec.json.decode(body, type=list[Wanted])
        return msgspec.json.decode(body, type=list[Hitter])
    except (OSError, msgspec.MsgspecError) as error:
        error = getattr(error, "reason", error)  # what urllib wraps
        mend = "Start 'isthmus dns' with --web-listen, and name that address."
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise Unavailable(f"no DNS server answers at {web} ({reason})", mend) from None


def _top_text(names: "list[Hitter] | list[Wanted]", missing: bool) -> str:
    from msgspec.structs import astuple

    if not names:
        return "No missing service was asked for lately." if missing else "Nothing was asked lately."
    rows = [[f"{hit.per_second:.1f}", *(str(value) for value in astuple(hit)[1:])] for hit in names]
    return table(("PER SECOND", "SERVICE") if missing else ("PER SECOND", "NAME", "TYPE"), rows)
