"""Health that waits behind a write to etcd: gateways are told at once, and never the older after the newer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from isthmus_controller.exports.committer import Committer
from isthmus_controller.exports.intake import Exports, _Intake
from isthmus_controller.feeds import Feeds
from isthmus_controller.foresight import Foresight
from isthmus_controller.registry import Registry, Wish
from isthmus_controller.store.keys import ClusterKey, EndpointsKey, ExportKey, Key, Keys
from isthmus_controller.store.values import Change
from isthmus_core.model import Capacity, Cluster, Export, ServicePort, ServiceType, ZoneCapacity
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_kit.latest import Latest
from isthmus_kit.tasks import Owner, own_tasks
from isthmus_sync import CAPACITY, EXPORT, Update, codec
from isthmus_sync.subscriber import Changed

pytestmark = pytest.mark.anyio

KEYS = Keys.of("fed.example")
WEST = ClusterId("west")
ECHO, CART = ServiceName("shop", "echo"), ServiceName("shop", "cart")


def body(ready: int, service: ServiceName = ECHO) -> bytes:
    zone = ZoneCapacity(Locality("aws", "eu", "a"), ready, 9)
    return codec.capacity_message(Capacity(service, WEST, (zone,))).SerializeToString(deterministic=True)


def offer(service: ServiceName) -> bytes:
    export = Export(service, WEST, ServiceType.CLUSTER_SET_IP, (ServicePort("http", 80),))
    return codec.export_message(export).SerializeToString(deterministic=True)


def update(type_url: str, resource: bytes, nonce: str, service: ServiceName = ECHO) -> Update:
    return Update(type_url, {str(service): Changed("v", resource)}, frozenset(), {}, nonce, True, ahead=not nonce)


class Waiting(Committer):
    """Writes nothing until the test says so: `commit` tells ahead and waits, as ever."""

    def tickets(self) -> Sequence[Sequence[Wish]]:
        return [ticket.wishes for ticket in self._waiting]

    def finish(self) -> None:
        ticket = self._waiting.pop(0)
        self._told_ahead.give_up(ticket.wishes)
        ticket.done.set_result(None)


class World:
    """One stream of cluster west, which offers shop/echo with one endpoint ready, at a replica whose etcd is frozen."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.registry, self.feeds = Registry(KEYS), Feeds()
        self.foresight = Foresight(self.registry, self.feeds)
        self.revision = 0
        self.changed: Latest[int] = Latest(0)
        member = Cluster(WEST, Locality("aws", "eu", "a"), trust_domain="west.fed.example")
        self.etcd_has(ClusterKey(WEST), codec.cluster_message(member).SerializeToString())
        self.etcd_has(ExportKey(ECHO, WEST), offer(ECHO))
        self.etcd_has(EndpointsKey(ECHO, WEST), body(1))
        nothing = cast(Any, None)
        self.committer = Waiting(nothing, KEYS, self.registry.raw, lambda: self.revision, ahead=self.foresight)
        self.exports = Exports(nothing, cast(Any, self), self.committer, nothing, 10)
        self.intake = _Intake(self.exports, WEST, self.exports.entrance(owner, WEST, {EXPORT: (), CAPACITY: ()}))

    def etcd_has(self, key: Key, value: bytes) -> None:
        self.revision += 1
        change = Change(KEYS.path(key), value, self.revision, self.revision)
        self.feeds.tell(self.foresight.newest(self.registry.apply([change]), self.revision))
        self.foresight.reached(self.revision)

    async def applies(self, taken: Update) -> None:
        """Begin to apply it; it waits for etcd."""

        async def apply() -> None:
            await self.intake.apply(taken)

        self.owner.once("update", apply())
        await asyncio.sleep(0)

    @property
    def told(self) -> bytes:
        resource = self.feeds.shared[CAPACITY].get("shop/echo/west")
        assert resource is not None
        return resource.body


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with own_tasks() as owner:
        yield World(owner)


async def test_health_that_waits_behind_an_offer_is_told_at_once_and_a_first_capacity_is_not(world: World) -> None:
    await world.applies(update(EXPORT, offer(CART), "1", CART))
    world.intake.foretell(update(CAPACITY, body(2), "2"))
    world.intake.foretell(update(CAPACITY, body(2, CART), "", CART))
    assert world.told == body(2)
    assert world.feeds.shared[CAPACITY].names() == {"shop/echo/west"}
    assert len(world.committer.tickets()) == 1, "nothing is written out of turn"


async def test_what_was_foretold_later_is_not_taken_back_when_an_earlier_update_has_its_turn(world: World) -> None:
    await world.applies(update(EXPORT, offer(CART), "1", CART))
    world.intake.foretell(update(CAPACITY, body(2), "2"))
    world.intake.foretell(update(CAPACITY, body(3), ""))
    world.committer.finish()
    await world.applies(update(CAPACITY, body(2), "2"))
    assert world.told == body(3)
    world.etcd_has(EndpointsKey(ECHO, WEST), body(2))
    world.committer.finish()
    await asyncio.sleep(0)
    assert world.told == body(3)
    await world.applies(update(CAPACITY, body(3), "3"))
    world.etcd_has(EndpointsKey(ECHO, WEST), body(3))
    world.committer.finish()
    world.etcd_has(EndpointsKey(ECHO, WEST), body(4))
    assert world.told == body(4), "etcd has the last word again"


async def test_what_comes_back_to_what_etcd_has_leaves_nothing_foretold(world: World) -> None:
    await world.applies(update(CAPACITY, body(2), "1"))
    world.intake.foretell(update(CAPACITY, body(3), ""))
    assert world.told == body(3)
    world.etcd_has(EndpointsKey(ECHO, WEST), body(2))
    world.committer.finish()
    await asyncio.sleep(0)
    await world.applies(update(CAPACITY, body(2), "2"))
    assert world.told == body(2)
    world.committer.finish()
    world.etcd_has(EndpointsKey(ECHO, WEST), body(4))
    assert world.told == body(4)


async def test_a_stream_that_ends_takes_back_what_it_foretold(world: World) -> None:
    await world.applies(update(EXPORT, offer(CART), "1", CART))
    world.intake.foretell(update(CAPACITY, body(2), ""))
    world.intake.close()
    assert world.told == body(1)


async def test_a_withdrawal_takes_back_what_was_foretold(world: World) -> None:
    await world.applies(update(EXPORT, offer(CART), "1", CART))
    world.intake.foretell(update(CAPACITY, body(2), ""))
    world.committer.finish()
    await world.applies(Update(CAPACITY, {}, frozenset({"shop/echo"}), {}, "2", True))
    assert world.told == body(1)


async def test_what_cannot_be_is_not_told_ahead(world: World) -> None:
    await world.applies(update(EXPORT, offer(CART), "1", CART))
    world.intake.foretell(update(CAPACITY, body(10), ""))
    world.intake.foretell(update(CAPACITY, b"\xff", ""))
    assert world.told == body(1)
