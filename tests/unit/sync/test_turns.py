"""A server that reads on while an update is applied: bounded, in turn, and what waits is heard of."""

import asyncio

import pytest

from isthmus_core.errors import InvalidInput, Unavailable
from isthmus_kit.tasks import own_tasks
from isthmus_sync import WILDCARD, SubscriberStream, Subscribing, Update
from isthmus_sync.turns import subscribe_in_turn
from isthmus_sync.wire import AHEAD, Request, Response
from support.waiting import eventually
from unit.sync.playbook import RED

pytestmark = pytest.mark.anyio


def response(nonce: str, name: str = "a") -> bytes:
    made = Response(type_url=RED, nonce=nonce, system_version_info="" if nonce else AHEAD)
    made.resources.add(name=name, version="1").resource.type_url = RED
    return made.SerializeToString()


class Peer:
    """A publisher that sends what it likes, and an `apply` that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.sends: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.answers: list[str] = []
        self.applied: list[str] = []
        self.foretold: list[str] = []
        self.committed = asyncio.Event()
        self.trouble: Exception | None = None

    async def read(self) -> bytes | None:
        return await self.sends.get()

    async def write(self, payload: bytes) -> None:
        self.answers += [nonce for nonce in [Request.FromString(payload).response_nonce] if nonce]

    async def apply(self, update: Update) -> dict[str, str]:
        self.applied.append(update.nonce)
        await self.committed.wait()
        if self.trouble is not None:
            raise self.trouble
        return {}

    def send(self, *payloads: bytes | None) -> None:
        for payload in payloads:
            self.sends.put_nowait(payload)

    async def serve(self) -> None:
        stream = SubscriberStream({RED: {WILDCARD}}, ahead={RED})
        await subscribe_in_turn(
            self, Subscribing(stream, self.apply, foretell=lambda u: self.foretold.append(u.nonce or "ahead"))
        )


async def test_updates_are_applied_and_answered_in_turn_and_those_that_wait_are_heard_of() -> None:
    peer = Peer()
    async with own_tasks() as owner:
        serving = owner.once("serving", peer.serve())
        peer.send(response("1"))
        await eventually(lambda: peer.applied == ["1"])
        peer.send(response("2"), response(""))
        await eventually(lambda: peer.foretold == ["2", "ahead"])
        assert peer.answers == [] and peer.applied == ["1"]
        peer.committed.set()
        await eventually(lambda: peer.answers == ["1", "2"])
        peer.send(response(""), response("3"), None)
        await serving
    assert peer.applied == peer.answers == ["1", "2", "3"]
    assert peer.foretold == ["2", "ahead"], "what comes while nothing waits has its turn at once"


async def test_of_a_peer_that_waits_for_no_answer_no_more_is_read_than_one_that_keeps_the_rules_sends() -> None:
    peer = Peer()
    async with own_tasks() as owner:
        serving = owner.once("serving", peer.serve())
        peer.send(*(response(str(n)) for n in range(1, 100)), None)
        await eventually(lambda: peer.sends.qsize() == 96)
        for _ in range(20):
            await asyncio.sleep(0)
        assert peer.sends.qsize() == 96
        peer.committed.set()
        await serving
    assert len(peer.answers) == 99


async def test_what_apply_raises_and_what_a_broken_peer_sends_end_the_stream_with_that_word() -> None:
    peer = Peer()
    peer.trouble = Unavailable("etcd is away")
    peer.committed.set()
    peer.send(response("1"))
    with pytest.raises(Unavailable, match="etcd is away"):
        await peer.serve()
    peer = Peer()
    peer.send(response("1"), b"\xff")
    with pytest.raises(InvalidInput, match="no DeltaDiscoveryResponse"):
        await peer.serve()
