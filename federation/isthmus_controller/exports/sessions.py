"""Say in etcd that a gateway is connected, as long as its stream lives and one lease longer."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from isthmus_controller.registry import Registry
from isthmus_controller.registry.records import encode
from isthmus_controller.store import ClusterKey, EtcdClient, Keys, Put, Session, SessionKey, present
from isthmus_core.errors import IsthmusError, Unavailable
from isthmus_kit.backoff import Backoff
from isthmus_kit.latest import Latest
from isthmus_kit.tasks import own_tasks
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.streams import first_cause

log = logging.getLogger(__name__)

STABLE = 10.0
"""Seconds after which a session counts as established, and the next trouble begins with short pauses again."""


async def hold_session(
    client: EtcdClient,
    keys: Keys,
    key: SessionKey,
    registry: Registry,
    ttl: int,
    lacks: Latest[str],
    now_ms: Callable[[], int] = lambda: round(time.time() * 1000),
) -> None:
    """Keep a leased key until cancelled; cancelling lets the lease run out, so that a short break is not seen.

    It says what the gateway lacks beside its siblings, and is written again when that changes.

    A gateway that comes back to another replica gets a new lease there, and its session goes on without a gap.
    """
    backoff, attempt = Backoff(), 0
    clock = asyncio.get_running_loop().time
    while True:
        begun = clock()
        try:
            session = await Session.grant(client, ttl)
            known = registry.session(key.cluster, key.gateway)
            since = known.since_ms if known is not None and known.held else now_ms()
            async with own_tasks() as owner:
                owner.once("lease", session.keep())
                async for lacked in lacks.follow():
                    put = Put(
                        keys.path(key), encode(pb.Session(held=True, since_ms=since, lacks=lacked)), session.lease
                    )
                    result = await client.txn([present(keys.path(ClusterKey(key.cluster)))], [put])
                    if not result.succeeded:
                        raise Unavailable(f"cluster {key.cluster} is not registered in this federation")
        except* IsthmusError as group:  # not only while etcd is away: a right may be taken, and given back
            log.info(
                "a session was not kept, trying again",
                extra={"session": f"{key.cluster}/{key.gateway}", "why": str(first_cause(group))},
            )
        attempt = 0 if clock() - begun > STABLE else attempt + 1
        await asyncio.sleep(backoff.delay(attempt, random.random))
