"""Our DNS server as a process with zones of one's own: FEED TTL WEB ORIGIN=NAME@IP,NAME@IP ... IP:PORT ..."""

import asyncio
import sys
from pathlib import Path

from isthmus_dns import NameServer, ZoneSpec, run


def zone(text: str) -> ZoneSpec:
    """`origin=name@address,name@address`."""
    origin, _, servers = text.partition("=")
    pairs = [server.split("@") for server in servers.split(",") if server]
    return ZoneSpec(origin, tuple(NameServer(name, (address,)) for name, address in pairs))


def main(feed: str, ttl: str, web: str, *words: str) -> None:
    zones = tuple(zone(word) for word in words if "=" in word)
    listen = tuple(word for word in words if "=" not in word)
    asyncio.run(run(feed=Path(feed), ttl=int(ttl), zones=zones, listen=listen, web=web, workers=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
