"""Both directions over real gRPC: who may open a stream, what travels, and what happens when it breaks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import grpc
import grpc.aio
import pytest

from isthmus_core.errors import InvalidInput, Refused, Unavailable
from isthmus_kit.pki import Authority, Subject, encode, issue_leaf, make_key, make_root, sign_authority
from isthmus_sync import (
    CAPACITY,
    CLUSTER,
    EXPORT,
    EXPORTS_METHOD,
    FEDERATION,
    IMPORTS_METHOD,
    WILDCARD,
    Acked,
    Caller,
    Nacked,
    Publication,
    Publishing,
    ResourceCache,
    SubscriberStream,
    Subscribing,
    Unserved,
    Update,
    new_server,
    open_channel,
    publish,
    publisher_handler,
    subscribe,
    subscriber_handler,
)
from isthmus_sync.wire import Request
from support.relay import Relay
from support.waiting import eventually

pytestmark = pytest.mark.anyio


class Held:
    """A subscriber's state, kept by its `apply`."""

    def __init__(self, *types: str) -> None:
        self.stream = SubscriberStream({type_url: {WILDCARD} for type_url in types})
        self.bodies: dict[str, bytes] = {}
        self.updates: list[Update] = []
        self.reasons: list[str] = []
        self.connected = 0
        self.fails: Exception | None = None

    async def apply(self, update: Update) -> Mapping[str, str]:
        if self.fails is not None:
            raise self.fails
        self.updates.append(update)
        errors = {name: "its body is bad" for name, changed in update.changed.items() if changed.body == b"bad"}
        self.bodies |= {name: changed.body for name, changed in update.changed.items() if name not in errors}
        for name in update.removed:
            self.bodies.pop(name, None)
        return errors

    def on_connected(self) -> None:
        self.connected += 1

    @property
    def subscribing(self) -> Subscribing:
        return Subscribing(self.stream, self.apply, self.on_connected, self.reasons.append)


def publication(*types: str) -> Publication:
    made = Publication([ResourceCache(type_url) for type_url in types], FEDERATION)
    with made.change() as caches:
        for cache in caches.values():
            cache.mark_synced()
    return made


def anybody(caller: Caller) -> Caller:
    return caller


def feed_of(publishing: Publishing) -> Callable[[Caller], AbstractAsyncContextManager[Publishing]]:
    @asynccontextmanager
    async def feed(_: Caller) -> AsyncIterator[Publishing]:
        yield publishing

    return feed


@asynccontextmanager
async def serving(socket: Path, *handlers: grpc.GenericRpcHandler) -> AsyncIterator[str]:
    server = new_server(handlers)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield f"unix:{socket}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def running(*parts: Coroutine[object, object, NoReturn]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part, name=f"part {number}") for number, part in enumerate(parts)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


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

    @asynccontextmanager
    async def intake(_: Caller) -> AsyncIterator[Subscribing]:
        yield held.subscribing

    publishing = Publishing(offered, on_acked=acked.append, on_nacked=nacked.append)
    async with (
        serving(tmp_path / "s", subscriber_handler(EXPORTS_METHOD, anybody, intake)) as target,
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

    @asynccontextmanager
    async def intake(_: Caller) -> AsyncIterator[Subscribing]:
        yield held.subscribing

    offered = publication(EXPORT)
    with offered.change() as caches:
        caches[EXPORT].put("shop/cart", b"1")
    async with (
        serving(tmp_path / "s", subscriber_handler(EXPORTS_METHOD, anybody, intake)) as target,
        running(publish(lambda _: open_channel(target), EXPORTS_METHOD, Publishing(offered))),
    ):
        await eventually(lambda: held.updates)
        update = held.updates[0]
        assert update.removed == {"shop/gone"} and set(update.changed) == {"shop/cart"}


async def test_what_could_not_be_applied_is_not_acknowledged_and_comes_again(tmp_path: Path) -> None:
    offered, held, acked = publication(EXPORT), Held(EXPORT), list[Acked]()
    held.fails = Unavailable("the registry does not answer")

    @asynccontextmanager
    async def intake(_: Caller) -> AsyncIterator[Subscribing]:
        yield held.subscribing

    reasons: list[str] = []
    publishing = Publishing(offered, on_acked=acked.append, on_disconnected=reasons.append)
    with offered.change() as caches:
        caches[EXPORT].put("shop/cart", b"1")
    async with (
        serving(tmp_path / "s", subscriber_handler(EXPORTS_METHOD, anybody, intake)) as target,
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


# -- mutual TLS -------------------------------------------------------------------------------------------------------


class Certificates:
    """One root, one cluster, and leaves for a controller and a gateway."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        root = make_root("test", now)
        key = make_key()
        authority = Authority(sign_authority(root, key.public_key(), "east.fed.test", "east.fed.test", now), key)
        self.root = encode(root.certificate)
        self.gateway = issue_leaf(authority, Subject("gateway", "spiffe://east.fed.test/gateway", ()), now)
        name = ("controller.east.fed.test",)
        self.server = issue_leaf(authority, Subject("controller", "spiffe://east.fed.test/controller", name), now)

    def listen(self, server: grpc.aio.Server) -> int:
        chain, key = self.server
        return server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)], self.root, require_client_auth=True)
        )

    def dial(self, port: int) -> grpc.aio.Channel:
        chain, key = self.gateway
        credentials = grpc.ssl_channel_credentials(self.root, key, chain)
        name = [("grpc.ssl_target_name_override", "controller.east.fed.test")]
        return open_channel(f"127.0.0.1:{port}", credentials, name)


async def test_the_callers_certificate_reaches_identify(tmp_path: Path) -> None:
    certificates, held, callers = Certificates(), Held(CLUSTER), list[Caller]()

    def identify(caller: Caller) -> Caller:
        callers.append(caller)
        return caller

    server = new_server([publisher_handler(IMPORTS_METHOD, identify, feed_of(Publishing(publication(CLUSTER))))])
    port = certificates.listen(server)
    await server.start()
    async with running(subscribe(lambda _: certificates.dial(port), IMPORTS_METHOD, held.subscribing)):
        await eventually(lambda: held.stream.all_synced)
    await server.stop(0)
    leaf = certificates.gateway[0].split(b"-----END")[0]
    assert callers[0].certificate is not None and callers[0].certificate.startswith(leaf)


async def test_a_peer_behind_a_black_hole_is_noticed_by_both_sides(tmp_path: Path) -> None:
    certificates, held, served = Certificates(), Held(CLUSTER), list[str]()
    publishing = Publishing(publication(CLUSTER), on_disconnected=served.append)
    server = new_server([publisher_handler(IMPORTS_METHOD, anybody, feed_of(publishing))], vigilant=True)
    port = certificates.listen(server)
    await server.start()
    async with (
        Relay(("127.0.0.1", port)) as relay,
        running(subscribe(lambda _: certificates.dial(relay.port), IMPORTS_METHOD, held.subscribing)),
    ):
        await eventually(lambda: held.stream.all_synced)
        relay.black_hole()
        await eventually(lambda: held.reasons and served, within=5.0)
        relay.restore()
        await eventually(lambda: held.connected >= 2, within=6.0)
    await server.stop(0)


def test_a_channel_over_the_network_needs_credentials() -> None:
    with pytest.raises(ValueError, match="needs credentials"):
        open_channel("127.0.0.1:1")
