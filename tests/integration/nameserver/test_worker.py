"""One worker of the DNS server in this process, and what it reports."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.feeding.agent import follow_agent
from isthmus_dns.feeding.feed import ZoneFollower
from isthmus_dns.listening.addresses import Address, claim_addresses
from isthmus_dns.serving.worker import Worker, WorkerSpec
from isthmus_dns.watching.traffic import Report
from isthmus_dns.zone.zone import Zone
from isthmus_kit.tasks import own_tasks
from isthmus_sync import ZONE_HEADER, ZONE_SERVICE, Changed, Update
from support.waiting import eventually
from unit.nameserver.builders import Feed, ask, header, resources, service, shown

pytestmark = pytest.mark.anyio

TURNS = 5
"""Of the loop: microseconds, where the next report that comes by itself is a second away."""


def told(type_url: str, bodies: dict[str, bytes]) -> Update:
    """Everything there is of a type."""
    changed = {name: Changed("1", body) for name, body in bodies.items()}
    return Update(type_url, changed, frozenset(), {}, nonce="1", last=True)


async def test_it_reports_at_once_that_it_knows_the_zone(tmp_path: Path) -> None:
    nobody = str(tmp_path / "zone.sock")
    worker = Worker(WorkerSpec(nobody, claim_addresses([Address("127.53.0.6", 0)])))
    reports: list[Report] = []
    async with own_tasks() as tasks:
        tasks.start("worker", worker.answer(reports.append))
        await eventually(lambda: reports)
        assert not reports[-1].synced
        apply = worker.follower.subscribing.apply
        assert await apply(told(ZONE_SERVICE, resources([service("shop/web")]))) == {}
        assert not reports[-1].synced, "the header is missing"
        assert await apply(told(ZONE_HEADER, {"zone": header()})) == {}
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert reports[-1].synced and reports[-1].services == 1


MANY = 1000


Refused = Mapping[str, str]


async def taking_in(
    services: dict[str, bytes], group: asyncio.TaskGroup
) -> tuple[Responder, ZoneFollower, asyncio.Task[Refused]]:
    """Whoever has just heard of all these services, and begins to take them in."""
    server = Responder(Zone())
    follower = ZoneFollower(server, 60.0, time.monotonic)
    assert await follower.subscribing.apply(told(ZONE_HEADER, {"zone": header()})) == {}

    async def apply() -> Refused:
        return await follower.subscribing.apply(told(ZONE_SERVICE, services))

    taking = group.create_task(apply(), name="taking in")
    await follower.known.wait()
    return server, follower, taking


async def test_it_knows_a_large_zone_before_it_has_compiled_it() -> None:
    services = [*(service(f"shop/web-{n}") for n in range(MANY)), service("shop/lost", ["nonsense"])]
    async with asyncio.TaskGroup() as group:
        server, _, taking = await taking_in(resources(services), group)
        assert shown(ask(server, f"web-{MANY - 1}.shop.svc.clusterset.local")) == "NOERROR | A 10.1.2.3"
        assert shown(ask(server, "lost.shop.svc.clusterset.local")) == "NXDOMAIN"
        assert server.zone.backlog is not None

    assert taking.result() == {"shop/lost": "'nonsense' is not an IP address"}
    assert server.zone.backlog is None and len(server.zone) == MANY


async def test_it_hears_the_header_first(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "zone.sock")
    feed.publish(service(f"shop/web-{n}") for n in range(MANY))
    server = Responder(Zone())
    follower = ZoneFollower(server, 60.0, time.monotonic)
    async with feed.serving(), own_tasks() as tasks:
        tasks.start("feed", follow_agent(feed.path, follower.subscribing))
        await follower.known.wait()
        assert server.zone.backlog is not None, "it would be known only when all of it is compiled"


async def test_what_was_not_compiled_when_the_feed_ended_does_not_undo_what_comes_later() -> None:
    async with asyncio.TaskGroup() as group:
        services = resources(service(f"shop/web-{n}") for n in range(MANY))
        server, follower, taking = await taking_in(services, group)
        taking.cancel()
    assert server.zone.backlog is not None

    newer = resources([service(f"shop/web-{MANY - 1}", ["10.7.7.7"])])
    assert await follower.subscribing.apply(told(ZONE_SERVICE, newer)) == {}
    assert shown(ask(server, f"web-{MANY - 1}.shop.svc.clusterset.local")) == "NOERROR | A 10.7.7.7"
    assert server.zone.backlog is None and len(server.zone) == MANY
