"""What a running gateway tells its DNS server, followed as that server follows it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from isthmus_kit.tasks import own_tasks
from isthmus_sync import (
    WILDCARD,
    ZONE_HEADER,
    ZONE_METHOD,
    ZONE_SERVICE,
    SubscriberStream,
    Subscribing,
    Update,
    open_channel,
    subscribe,
)
from support.running_gateway import Cluster


@asynccontextmanager
async def following_zone(
    where: Cluster, apply: Callable[[Update], Awaitable[Mapping[str, str]]]
) -> AsyncIterator[SubscriberStream]:
    """Services and header go to `apply`; the stream says whether all was told."""
    stream = SubscriberStream({ZONE_SERVICE: {WILDCARD}, ZONE_HEADER: {WILDCARD}})
    feed = f"unix:{where.folder / 'zone.sock'}"
    async with own_tasks() as tasks:
        tasks.start("zone", subscribe(lambda _: open_channel(feed), ZONE_METHOD, Subscribing(stream, apply)))
        yield stream
