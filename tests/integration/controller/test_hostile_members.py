"""A member with a valid certificate that does what it likes: it is told so, and others notice nothing."""

import isthmus_kit.tls13  # isort: skip  # noqa: F401 - before gRPC

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from integration.controller.world import ECHO, FakeGateway, controller, enrol, make_federation, soon
from isthmus_controller.exports.room import MAX_GATEWAYS
from isthmus_controller.openings import MAX_STREAMS
from isthmus_core.model import Gateway
from isthmus_core.names import ClusterId
from isthmus_kit.tasks import own_tasks
from isthmus_sync import CAPACITY, EXPORT, EXPORTS_METHOD, GATEWAY, IMPORTS_METHOD, codec
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.wire import Request, Response
from support.etcd import Etcd

pytestmark = pytest.mark.anyio


class Hostile:
    """A stream of cluster x, message by message."""

    def __init__(self, gateway: FakeGateway) -> None:
        self.channel = gateway._dial(0)
        self.nonce = 0

    async def open(self, method: str) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        call: grpc.aio.StreamStreamCall[bytes, bytes] = self.channel.stream_stream(method)()
        async with asyncio.timeout(10):
            await call.initial_metadata()
        return call

    async def refusals(
        self, call: grpc.aio.StreamStreamCall[bytes, bytes], type_url: str, items: Iterable[tuple[str, bytes]]
    ) -> tuple[str, int]:
        """Publish these; what a NACK says, and how many resources it names."""
        self.nonce += 1
        response = Response(type_url=type_url, nonce=str(self.nonce))
        for name, body in items:
            resource = response.resources.add(name=name, version="1")
            resource.resource.type_url, resource.resource.value = type_url, body
        await call.write(response.SerializeToString())
        while True:
            async with asyncio.timeout(60):
                payload = await call.read()
            assert isinstance(payload, bytes), await call.details()
            request = Request.FromString(payload)
            if request.response_nonce == str(self.nonce):
                return request.error_detail.message, len(request.error_detail.details)


def offers(count: int, cluster: str = "x") -> Sequence[tuple[str, bytes]]:
    ports = [pb.ServicePort(name="http", port=80)]
    return [
        (
            f"junk/s{n}",
            pb.Export(schema=1, namespace="junk", name=f"s{n}", cluster=cluster, ports=ports).SerializeToString(),
        )
        for n in range(count)
    ]


class World:
    def __init__(self, a: FakeGateway, b: FakeGateway, x: FakeGateway) -> None:
        self.a, self.b, self.x = a, b, x

    async def others_notice_nothing(self) -> float:
        """A change of health in one cluster reaches another; in so many seconds."""
        clock = asyncio.get_running_loop().time
        before, begun = self.b.body(CAPACITY, "shop/echo/a"), clock()
        self.a.capacity(ECHO, ready=1 if pb.Capacity.FromString(before).zones[0].ready == 2 else 2)
        await soon(lambda: self.b.body(CAPACITY, "shop/echo/a") != before)
        return clock() - begun


@asynccontextmanager
async def running(etcd: Etcd, domain: str, folder: Path) -> AsyncIterator[World]:
    federation = make_federation(folder / "controller", domain)
    async with controller(federation, etcd.address) as replica:
        made = []
        for name in "abx":
            identity = await enrol(federation, replica.admin, name, folder / name)
            made.append(FakeGateway(ClusterId(name), domain, identity, [replica.grpc]))
        a, b, x = made
        for gateway in (a, b):
            gateway.introduce()
        async with a.running(), b.running():
            a.export(ECHO)
            await soon(lambda: b.names(CAPACITY) == {"shop/echo/a"})
            yield World(a, b, x)


async def test_it_speaks_for_nobody_else_and_its_refusals_do_not_fill_the_log(
    etcd: Etcd, federation_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(etcd, federation_name, tmp_path) as world:
        hostile = Hostile(world.x)
        call = await hostile.open(EXPORTS_METHOD)
        for _ in range(5):
            said, named = await hostile.refusals(call, EXPORT, offers(100, cluster="a"))
            assert "it speaks for cluster 'a', and its certificate says 'x'" in said and named == 100
        await world.others_notice_nothing()
        await hostile.channel.close()
    lines = [record for record in caplog.records if getattr(record, "cluster", "") == "x" and "refus" in record.msg]
    assert len(lines) == 21 and "not logged for a minute" in lines[-1].msg


async def test_it_takes_the_room_of_nobody_else(etcd: Etcd, federation_name: str, tmp_path: Path) -> None:
    async with running(etcd, federation_name, tmp_path) as world:
        hostile = Hostile(world.x)
        call = await hostile.open(EXPORTS_METHOD)
        gateways = [Gateway(f"g{n}", ClusterId("x"), "127.52.9.9", 1) for n in range(MAX_GATEWAYS + 5)]
        said, named = await hostile.refusals(
            call, GATEWAY, [(g.id, codec.gateway_message(g).SerializeToString()) for g in gateways]
        )
        assert f"has {MAX_GATEWAYS} gateways, and no cluster may have more" in said and named == 5
        answers: list[tuple[str, int]] = []

        async def flood() -> None:
            answers.append(await hostile.refusals(call, EXPORT, offers(3_000)))

        slowest = 0.0
        async with own_tasks() as owner:
            flooding = owner.once("a flood of offers", flood())
            while not flooding.done():
                slowest = max(slowest, await world.others_notice_nothing())
        print(f"health of others took {slowest:.3f} s at most, beside 3,000 new services")
        assert answers == [("", 0)]
        assert slowest < 5
        await hostile.channel.close()


async def test_a_cluster_opens_so_many_streams_and_no_more_until_some_end(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    async with running(etcd, federation_name, tmp_path) as world:
        hostile = Hostile(world.x)
        calls = [await hostile.open(IMPORTS_METHOD) for _ in range(MAX_STREAMS)]
        more = hostile.channel.stream_stream(EXPORTS_METHOD)()
        with pytest.raises(grpc.aio.AioRpcError, match=f"has {MAX_STREAMS} open streams"):
            await more.read()
        await world.others_notice_nothing()
        for call in calls:
            call.cancel()

        async def open_again() -> bool:
            call = hostile.channel.stream_stream(EXPORTS_METHOD)()
            return bool(await call.initial_metadata()) and not call.done()

        await soon(open_again)
        await hostile.channel.close()
