"""One worker of the DNS server in this process, and what it reports."""

import asyncio
from pathlib import Path

import pytest

from isthmus_dns.listening.addresses import Address, claim_addresses
from isthmus_dns.serving.worker import Worker, WorkerSpec
from isthmus_dns.watching.traffic import Report
from isthmus_kit.tasks import own_tasks
from isthmus_sync import ZONE_HEADER, ZONE_SERVICE, Changed, Update
from support.waiting import eventually
from unit.nameserver.builders import header, resources, service

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
