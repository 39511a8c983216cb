"""`isthmus dns`: run the authoritative DNS server of a cluster."""

import asyncio
from pathlib import Path
from typing import Any

import click

from isthmus_cli.home import cluster_folder, find_home, home_option
from isthmus_cli.running import run_until_signal
from isthmus_cli.settings import DnsOptions, load, with_options


@click.command()
@home_option
@with_options(DnsOptions)
def dns(home: Path | None, config: Path | None, **flags: Any) -> None:
    """Answer DNS queries for clusterset.local, with what the gateway of this cluster knows.

    Until the gateway has told everything once, queries are answered with SERVFAIL, never with "no such name".
    """
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
