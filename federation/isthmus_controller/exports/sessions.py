"""Say in etcd that a gateway is connected, as long as its stream lives and one lease longer."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from isthmus_controller.registry import Registry
from isthmus_controller.registry.records import encode
from isthmus_controller.store import ClusterKey, EtcdClient, Get, Keys, Put, Session, SessionKey, present, unchanged
from isthmus_core.errors import IsthmusError, Unavailable
from isthmus_kit.backoff import Backoff
from isthmus_kit.latest import Latest
from isthmus_kit.tasks import own_tasks
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.streams import first_cause

log = logging.getLogger(__name__)

STABLE = 10.0
"""Seconds after which a session counts as established, and the next trouble begins with short pauses again."""

_LOOK_EVERY = 2.0
"""Seconds between looks at a session that another stream holds."""


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
                ours = 0
                async for lacked in lacks.follow():
                    said = encode(pb.Session(held=True, since_ms=since, lacks=lacked))
                    ours = await _put(client, keys, key, said, session.lease, ours)
        except* IsthmusError as group:  # not only while etcd is away: a right may be taken, and given back
            log.info(
                "a session was not kept, trying again",
                extra={"session": f"{key.cluster}/{key.gateway}", "why": str(first_cause(group))},
            )
        attempt = 0 if clock() - begun > STABLE else attempt + 1
        await asyncio.sleep(backoff.delay(attempt, random.random))


async def _put(client: EtcdClient, keys: Keys, key: SessionKey, said: bytes, lease: int, ours: int) -> int:
    """Write a session, for the first time or (`ours`: the revision at which we did) again; the revision of now.

    The next stream of the same gateway takes the key over, with a lease of its own. Whoever had it then waits, mostly
    to be cancelled: under the old lease the key would end with the old stream.
    """
    path = keys.path(key)
    conditions = [present(keys.path(ClusterKey(key.cluster))), *([unchanged(path, ours)] if ours else [])]
    result = await client.txn(conditions, [Put(path, said, lease)], [Get(path)])
    if result.succeeded:
        return result.revision
    if not ours:
        raise Unavailable(f"cluster {key.cluster} is not registered in this federation")
    standing = result.reads[0][0] if result.reads[0] else None
    while standing is not None and standing.lease not in (0, lease):
        await asyncio.sleep(_LOOK_EVERY)
        standing = await client.get(path)
    raise Unavailable("nobody holds it: a lease ran out, or the cluster was removed")
