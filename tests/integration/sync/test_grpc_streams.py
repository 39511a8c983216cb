"""Both directions over real gRPC: who may open a stream, what travels, and what happens when it breaks."""

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from integration.sync.peers import Held, anybody, feed_of, publication, running, serving
from isthmus_core.errors import InvalidInput, Refused, Unavailable
from isthmus_sync import (
    CAPACITY,
    CLUSTER,
    EXPORT,
    EXPORTS_METHOD,
    IMPORTS_METHOD,
    WILDCARD,
    Acked,
    Caller,
    Nacked,
    Publication,
    Publishing,
    ResourceCache,
    SubscriberStream,
    Unserved,
    open_channel,
    publish,
    publisher_handler,
    subscribe,
    subscriber_handler,
)
from isthmus_sync.wire import Request
from support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_change_reaches_the_subscriber_and_its_ack_the_publisher(tmp_path: Path) -> None:
    offered, acked, held = publication(CLUSTER), list[Acked](), Held(CLUSTER)
    handler = publisher_handler(IMPORTS_METHOD, anybody, feed_of(Publishing(offered, on_acked=acked.append)))
    async with (
        serving(tmp_path / "s", handler) as target,
        running(subscribe(lambda _: open_channel(target), IMPORTS_METHOD, held.subscribing)),
    ):
        await eventually(lambda: held.stream.all_synced)
        with offered.change() as caches:
            caches[CLUSTER].put("east", b"1")
            caches[CLUSTER].put("west", b"1")
        await eventually(lambda: held.bodies == {"east": b"1", "west": b"1"})
        await eventually(lambda: acked and set(acked[-1].accepted) == {"east", "west"})
        assert len(held.updates[-1].changed) == 2, "one change, one response"
        with offered.change() as caches:
            caches[CLUSTER].remove("east")
        await eventually(lambda: held.bodies == {"west": b"1"})
        assert held.connected == 1


async def test_after_a_restart_of_the_publisher_only_differences_travel(tmp_path: Path) -> None:
    held = Held(CLUSTER)
    offered = publication(CLUSTER)
    with offered.change() as caches:
        for name in ("same", "changes", "goes"):
            caches[CLUSTER].put(name, b"1")
    dial = subscribe(lambda _: open_channel(f"unix:{tmp_path / 's'}"), IMPORTS_METHOD, held.subscribing)
    async with running(dial):
        async with serving(tmp_path / "s", publisher_handler(IMPORTS_METHOD, anybody, feed_of(Publishing(offered)))):
            await eventually(lambda: len(held.bodies) == 3)
        await eventually(lambda: held.reasons)
        assert len(held.bodies) == 3, "the last good state stays while nobody answers"
        again = publication(CLUSTER)
        with again.change() as caches:
            caches[CLUSTER].put("same", b"1")
            caches[CLUSTER].put("changes", b"2")
        async with serving(tmp_path / "s", publisher_handler(IMPORTS_METHOD, anybody, feed_of(Publishing(again)))):
            await eventually(lambda: held.bodies == {"same": b"1", "changes": b"2"})
            assert set(held.updates[-1].changed) == {"changes"} and held.updates[-1].removed == {"goes"}


async def test_a_publisher_that_is_not_synced_says_nothing(tmp_path: Path) -> None:
    held, offered = Held(CLUSTER), Publication([ResourceCache(CLUSTER)])
    async with (
        serving(tmp_path / "s", publisher_handler(IMPORTS_METHOD, anybody, feed_of(Publishing(offered)))) as target,
        running(subscribe(lambda _: open_channel(target), IMPORTS_METHOD, held.subscribing)),
    ):
        await eventually(lambda: held.connected)
        await asyncio.sleep(0.1)
        assert not held.updates
        with offered.change() as caches:
            caches[CLUSTER].mark_synced()
        await eventually(lambda: held.stream.all_synced)


async def test_exports_are_acknowledged_after_they_were_applied_and_refused_one_by_one(tmp_path: Path) -> None:
    offered, held = publication(EXPORT, CAPACITY), Held(EXPORT, CAPACITY)
    acked, nacked = list[Acked](), list[Nacked]()

    publishing = Publishing(offered, on_acked=acked.append, on_nacked=nacked.append)
    async with (
        serving(tmp_path / "s", subscriber_handler(EXPORTS_METHOD, anybody, held.intake)) as target,
        running(publish(lambda _: open_channel(target), EXPORTS_METHOD, publishing)),
    ):
        with offered.change() as caches:
            caches[EXPORT].put("shop/cart", b"1")
            caches[EXPORT].put("shop/bad", b"bad")
        await eventually(lambda: nacked)
        assert nacked[0].rejected["shop/bad"].reason == "its body is bad"
        assert set(nacked[0].accepted) == {"shop/cart"} and held.bodies == {"shop/cart": b"1"}
        with offered.change() as caches:
            caches[EXPORT].put("shop/bad", b"mended")
        await eventually(lambda: held.bodies == {"shop/cart": b"1", "shop/bad": b"mended"})


async def test_exports_that_vanished_while_away_are_withdrawn(tmp_path: Path) -> None:
    held = Held(EXPORT)
    held.stream = SubscriberStream({EXPORT: {WILDCARD}}, known={EXPORT: {"shop/cart": "", "shop/gone": ""}})

    offered = publication(EXPORT)
    with offered.change() as caches:
        caches[EXPORT].put("shop/cart", b"1")
    async with (
        serving(tmp_path / "s", subscriber_handler(EXPORTS_METHOD, anybody, held.intake)) as target,
        running(publish(lambda _: open_channel(target), EXPORTS_METHOD, Publishing(offered))),
    ):
        await eventually(lambda: held.updates)
        update = held.updates[0]
        assert update.removed == {"shop/gone"} and set(update.changed) == {"shop/cart"}


async def test_what_could_not_be_applied_is_not_acknowledged_and_comes_again(tmp_path: Path) -> None:
    offered, held, acked = publication(EXPORT), Held(EXPORT), list[Acked]()
    held.fails = Unavailable("the registry does not answer")

    reasons: list[str] = []
    publishing = Publishing(offered, on_acked=acked.append, on_disconnected=reasons.append)
    with offered.change() as caches:
        caches[EXPORT].put("shop/cart", b"1")
    async with (
        serving(tmp_path / "s", subscriber_handler(EXPORTS_METHOD, anybody, held.intake)) as target,
        running(publish(lambda _: open_channel(target), EXPORTS_METHOD, publishing)),
    ):
        await eventually(lambda: reasons)
        assert reasons[0] == "UNAVAILABLE: the registry does not answer" and not acked
        held.fails = None
        await eventually(lambda: acked)
        assert held.bodies == {"shop/cart": b"1"}


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (Refused("cluster east was revoked"), "PERMISSION_DENIED: cluster east was revoked"),
        (InvalidInput("the certificate names nobody"), "UNAUTHENTICATED: the certificate names nobody"),
    ],
)
async def test_a_caller_that_may_not_is_told_why(tmp_path: Path, error: Exception, answer: str) -> None:
    def nobody(_: Caller) -> Caller:
        raise error

    held = Held(CLUSTER)
    handler = publisher_handler(IMPORTS_METHOD, nobody, feed_of(Publishing(publication(CLUSTER))))
    async with (
        serving(tmp_path / "s", handler) as target,
        running(subscribe(lambda _: open_channel(target), IMPORTS_METHOD, held.subscribing)),
    ):
        await eventually(lambda: held.reasons)
        assert held.reasons[0] == answer and not held.connected


def raw_stream(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(IMPORTS_METHOD)()
    return call


async def send_and_wait(call: grpc.aio.StreamStreamCall[bytes, bytes], payload: bytes) -> None:
    async with asyncio.timeout(5):
        await call.write(payload)
        await call.read()


async def test_bytes_that_are_no_message_end_the_stream_with_a_sentence(tmp_path: Path) -> None:
    reasons: list[str] = []
    publishing = Publishing(publication(CLUSTER), on_disconnected=reasons.append)
    async with serving(tmp_path / "s", publisher_handler(IMPORTS_METHOD, anybody, feed_of(publishing))) as target:
        async with open_channel(target) as channel:
            call = raw_stream(channel)
            await call.write(b"\xff\xff\xff")
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert await call.details() == "the peer sent bytes that are no DeltaDiscoveryRequest"
        assert reasons == ["the peer sent bytes that are no DeltaDiscoveryRequest"]


async def test_a_message_above_the_limit_ends_its_stream_and_no_other(tmp_path: Path) -> None:
    held, publishing = Held(CLUSTER), Publishing(publication(CLUSTER))
    async with (
        serving(tmp_path / "s", publisher_handler(IMPORTS_METHOD, anybody, feed_of(publishing))) as target,
        open_channel(target, options=[("grpc.max_send_message_length", -1)]) as channel,
        running(subscribe(lambda _: open_channel(target), IMPORTS_METHOD, held.subscribing)),
    ):
        await eventually(lambda: held.stream.all_synced)
        with pytest.raises(grpc.aio.AioRpcError):
            await send_and_wait(raw_stream(channel), Request(type_url="x" * 64 * 1024 * 1024).SerializeToString())
        with publishing.publication.change() as caches:
            caches[CLUSTER].put("east", b"1")
        await eventually(lambda: held.bodies)
        assert not held.reasons


async def test_a_type_that_is_not_published_is_reported(tmp_path: Path) -> None:
    unserved: list[Unserved] = []
    publishing = Publishing(publication(CLUSTER), on_unserved=unserved.append)
    held = Held(CLUSTER, EXPORT)
    async with (
        serving(tmp_path / "s", publisher_handler(IMPORTS_METHOD, anybody, feed_of(publishing))) as target,
        running(subscribe(lambda _: open_channel(target), IMPORTS_METHOD, held.subscribing)),
    ):
        await eventually(lambda: unserved == [Unserved(EXPORT)])
        await eventually(lambda: held.stream.synced(CLUSTER))
        assert not held.stream.synced(EXPORT)


async def test_every_attempt_dials_anew_and_walks_over_the_addresses(tmp_path: Path) -> None:
    held, attempts = Held(CLUSTER), list[int]()

    def dial(attempt: int) -> grpc.aio.Channel:
        attempts.append(attempt)
        if attempt == 0:
            raise Unavailable("there is no identity yet")
        return open_channel(f"unix:{tmp_path / ('s', 'nobody')[attempt % 2]}")

    handler = publisher_handler(IMPORTS_METHOD, anybody, feed_of(Publishing(publication(CLUSTER))))
    async with serving(tmp_path / "s", handler), running(subscribe(dial, IMPORTS_METHOD, held.subscribing)):
        await eventually(lambda: held.stream.all_synced)
        assert attempts == [0, 1, 2] and held.reasons[0] == "there is no identity yet"
        assert held.reasons[1] == "nothing listens there"


async def test_hundreds_of_changes_in_a_row_arrive_in_few_responses(tmp_path: Path) -> None:
    offered, held = publication(CLUSTER), Held(CLUSTER)
    handler = publisher_handler(IMPORTS_METHOD, anybody, feed_of(Publishing(offered)))
    async with (
        serving(tmp_path / "s", handler) as target,
        running(subscribe(lambda _: open_channel(target), IMPORTS_METHOD, held.subscribing)),
    ):
        await eventually(lambda: held.stream.all_synced)
        for number in range(500):
            with offered.change() as caches:
                caches[CLUSTER].put("east", str(number).encode())
            if number % 10 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: held.bodies.get("east") == b"499")
        assert len(held.updates) < 100
