"""`isthmus dns`: run the authoritative DNS server of a cluster, and look at it from the outside."""

import asyncio
from pathlib import Path
from typing import Any

import click

from isthmus_cli.api import parse_address
from isthmus_cli.home import cluster_folder, find_home, home_option
from isthmus_cli.output import output_option, paint, show, table
from isthmus_cli.running import run_until_signal
from isthmus_cli.settings import DnsOptions, load, with_options
from isthmus_core.errors import Unavailable


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

    from isthmus_dns import run
    from isthmus_kit.telemetry import setup_logging

    setup_logging(options.log_level, options.log_format)

    async def serve(stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            server = group.create_task(
                run(
                    feed=folder / "zone.sock",
                    listen=tuple(part.strip() for part in options.listen.split(",")),
                    workers=options.workers,
                    ttl=options.ttl,
                    web=options.web_listen or "",
                    stale_after=options.stale_after,
                ),
                name="dns server",
            )
            await stop.wait()
            server.cancel()

    run_until_signal(serve)


@dns.command(short_help="Resolve a name from the outside, and say what is wrong on the way.")
@click.argument("name")
@click.option("--server", required=True, metavar="IP:PORT", help="Where 'isthmus dns' listens.")
@click.option("--zone", default="clusterset.local", show_default=True, help="The zone that it serves.")
@click.option(
    "--resolv-conf",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/resolv.conf"),
    show_default=True,
    help="Which resolvers this machine's clients ask.",
)
@output_option
def check(name: str, server: str, zone: str, resolv_conf: Path, output: str) -> None:
    """Resolve NAME (<service>.<namespace>, or a full name) from the outside, and say what is wrong on the way.

    Asks the server itself over UDP and TCP, then each resolver that the clients of this machine use. The exit status
    is 1 when something is wrong.
    """
    from isthmus_dns.check import Level
    from isthmus_dns.prober import check as probe

    findings = asyncio.run(probe(server, name, zone, resolv_conf))
    colours = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}

    def as_table() -> str:
        rows = [[paint(f.level.value, colours[f.level]), f.about, f.sentence, f.mend or "-"] for f in findings]
        return table(("RESULT", "ABOUT", "SEEN", "MEND"), rows)

    show(findings, output, as_table)
    if any(finding.level is Level.ERROR for finding in findings):
        raise SystemExit(1)


@dns.command()
@click.option("--web", required=True, metavar="HOST:PORT", help="What 'isthmus dns' was given as --web-listen.")
@output_option
def top(web: str, output: str) -> None:
    """Show the names that are asked for most, with their rate."""
    from urllib.request import urlopen

    import msgspec

    from isthmus_dns.sketch import Hitter

    host, port = parse_address(web, 9153)
    shown = f"[{host}]" if ":" in host else host
    try:
        with urlopen(f"http://{shown}:{port}/top", timeout=5) as answer:
            names = msgspec.json.decode(answer.read(), type=list[Hitter])
    except (OSError, msgspec.MsgspecError) as error:
        mend = "Start 'isthmus dns' with --web-listen, and name that address."
        raise Unavailable(f"no DNS server answers at {web} ({error})", mend) from None

    def as_table() -> str:
        if not names:
            return "Nothing was asked lately."
        return table(("PER SECOND", "NAME", "TYPE"), [[f"{hit.per_second:.1f}", hit.name, hit.rtype] for hit in names])

    show(names, output, as_table)
