"""Follow the zone feed of the gateway's agent over gRPC; the one module of the DNS server that needs it."""

from pathlib import Path
from typing import NoReturn

import grpc.aio

from isthmus_sync import ZONE_METHOD, Subscribing, open_channel, subscribe


async def follow_agent(path: Path, subscribing: Subscribing) -> NoReturn:
    """Subscribe at the unix socket `path`, and stay subscribed until cancelled."""

    def dial(_: int) -> grpc.aio.Channel:
        return open_channel(f"unix:{path}")

    await subscribe(dial, ZONE_METHOD, subscribing)
