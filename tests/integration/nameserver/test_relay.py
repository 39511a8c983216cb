"""One subscription at the agent for all workers: what they get, when they start later, and when the agent is away."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import pytest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.feeding.feed import ZoneFollower
from isthmus_dns.feeding.relay import Relay
from isthmus_dns.listening.addresses import Address, claim_addresses
from isthmus_dns.serving.supervisor import Supervisor
from isthmus_dns.serving.worker import WorkerSpec
from isthmus_dns.watching.traffic import Report
from isthmus_dns.zone.zone import Zone
from isthmus_kit.tasks import Owner, own_tasks
from isthmus_sync.proto import isthmus_pb2 as pb
from support.waiting import eventually
from unit.nameserver.builders import HTTP, Feed, ask, header, question, service, shown

pytestmark = pytest.mark.anyio

HOST = "127.53.0.4"
NAME = "web.shop.svc.clusterset.local"


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path / "zone.sock")


@asynccontextmanager
async def relay(feed: Feed) -> AsyncIterator[Callable[[], Responder]]:
    """A relay of the feed; each call starts one more worker and gives what answers for it."""
    async with own_tasks() as tasks:
        hub = Relay(feed.path, Zone(), time.monotonic)
        tasks.start("relay", hub.follow())
        yield lambda: _worker(tasks, hub)


def _worker(tasks: Owner, hub: Relay) -> Responder:
    ours, theirs = socket.socketpair()
    answers = Responder(Zone())
    follower = ZoneFollower(answers, 60.0, time.monotonic)
    tasks.once("relay to worker", hub.serve(ours))
    tasks.once("worker", follower.follow_relay(theirs))
    return answers


def answered(server: Responder, name: str = NAME) -> str:
    return shown(ask(server, name))


async def test_every_worker_follows_and_one_that_starts_later_has_it_all(feed: Feed) -> None:
    feed.publish([service("shop/web")])
    async with feed.serving(), relay(feed) as start:
        first = start()
        assert answered(first) == "SERVFAIL"
        await eventually(lambda: answered(first) == "NOERROR | A 10.1.2.3")
        second = start()
        await eventually(lambda: answered(second) == "NOERROR | A 10.1.2.3")

        feed.publish([service("shop/web", ["10.7.7.7"])])
        await eventually(lambda: {answered(first), answered(second)} == {"NOERROR | A 10.7.7.7"})
        feed.publish(removed=["shop/web"])
        await eventually(lambda: {answered(first), answered(second)} == {"NXDOMAIN"})


async def test_a_worker_that_starts_while_the_agent_is_away_has_the_last_state(feed: Feed) -> None:
    feed.publish([service("shop/web")])
    async with relay(feed) as start:
        async with feed.serving():
            first = start()
            await eventually(lambda: answered(first) == "NOERROR | A 10.1.2.3")
        second = start()
        await eventually(lambda: answered(second) == "NOERROR | A 10.1.2.3")

        async with feed.serving():
            feed.publish([service("shop/web", ["10.7.7.7"])])
            await eventually(lambda: {answered(first), answered(second)} == {"NOERROR | A 10.7.7.7"}, within=10.0)


async def test_what_is_refused_is_told_and_later_workers_have_what_the_others_have(feed: Feed) -> None:
    feed.publish([service("shop/web"), service("shop/other", ["nonsense"])])
    async with feed.serving(), relay(feed) as start:
        first = start()
        await eventually(lambda: answered(first) == "NOERROR | A 10.1.2.3")
        feed.publish([service("shop/web", ["nonsense"]), service("shop/last")])
        await eventually(lambda: feed.refused.keys() == {"shop/web", "shop/other"})

        second = start()
        await eventually(lambda: answered(second, "last.shop.svc.clusterset.local") == "NOERROR | A 10.1.2.3")
        for server in (first, second):
            assert answered(server) == "NOERROR | A 10.1.2.3"
            assert answered(server, "other.shop.svc.clusterset.local") == "NXDOMAIN"


async def test_the_serial_grows_for_a_later_worker_too(feed: Feed) -> None:
    feed.publish([service("shop/web")])
    async with feed.serving(), relay(feed) as start:
        first = start()
        await eventually(lambda: answered(first) == "NOERROR | A 10.1.2.3")
        serial = first.zone.serial

        with feed.publication.change():  # an agent that has lost its memory
            feed.header.put("zone", header(serial - 50, cluster="later"))
        await eventually(lambda: first.zone.cluster == "later")
        second = start()
        await eventually(lambda: second.zone.cluster == "later")
        assert first.zone.serial == second.zone.serial == serial


def many(octet: int, count: int = 500) -> list[pb.ZoneService]:
    return [service(f"shop/s{n}", [f"10.{octet}.{n >> 8}.{n & 255}"], [HTTP]) for n in range(count)]


async def test_clients_are_answered_while_a_large_change_is_taken_in_and_never_half_of_one(feed: Feed) -> None:
    feed.publish(many(1))
    async with feed.serving(), relay(feed) as start:
        server = start()
        last = "s499.shop.svc.clusterset.local"
        await eventually(lambda: answered(server, last) == "NOERROR | A 10.1.1.243")

        feed.publish(many(2))
        between = 0
        async with asyncio.timeout(10):
            while answered(server, last) != "NOERROR | A 10.2.1.243":
                between += answered(server, "s0.shop.svc.clusterset.local") == "NOERROR | A 10.2.0.0"
                for n in range(0, 500, 50):
                    name = f"s{n}.shop.svc.clusterset.local"
                    bundle = ask(server, f"_http._tcp.{name}", "SRV")
                    assert shown(ask(server, name)) == f"NOERROR | A {bundle.additional[0][0]}"
                await asyncio.sleep(0)
        assert between > 1, "all of it came at once"


async def test_a_worker_answers_when_it_knows_everything_and_not_before(feed: Feed) -> None:
    feed.publish(many(1, 2500))
    async with feed.serving(), relay(feed) as start:
        early = start()
        async with asyncio.timeout(20):
            while not early.zone.freshness.synced:
                await asyncio.sleep(0)
            assert len(early.zone) == 2500
            late = start()
            while not late.zone.freshness.synced:
                await asyncio.sleep(0)
            assert len(late.zone) == 2500


@pytest.mark.slow
async def test_a_frozen_worker_holds_nobody_up_and_has_the_newest_state_when_it_wakes(feed: Feed) -> None:
    feed.publish([service("shop/web"), *many(1)])
    (address,) = claim_addresses([Address(HOST, 0)])
    reports: dict[str, Report | None] = {}
    spec = WorkerSpec(feed=str(feed.path), listen=(address,), log_level="error")
    supervisor = Supervisor(spec, 2, reports.__setitem__)

    def serials() -> set[int]:
        return {report.serial if report is not None else 0 for report in reports.values()}

    async with feed.serving(), own_tasks() as tasks:
        tasks.start("supervisor", supervisor.keep())
        await eventually(lambda: len(reports) == 2 and serials() == {feed.serial}, within=20.0)
        frozen = supervisor.pids["0"]
        os.kill(frozen, signal.SIGSTOP)
        try:
            for octet in range(2, 12):
                feed.publish([service("shop/web", [f"10.0.0.{octet}"]), *many(octet)])
                await eventually(lambda: feed.serial in serials(), within=20.0)
        finally:
            os.kill(frozen, signal.SIGCONT)
        await eventually(lambda: serials() == {feed.serial}, within=20.0)
        assert supervisor.pids["0"] == frozen
        assert {await _asked(address) for _ in range(20)} == {"NOERROR | A 10.0.0.11"}


async def _asked(address: Address) -> str:
    """One answer over a fresh port, so that the kernel may choose any worker."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (address.host, address.port))
        await loop.sock_sendall(sock, question(NAME).to_wire())
        async with asyncio.timeout(5):
            return shown(dns.message.from_wire(await loop.sock_recv(sock, 4096)))


async def test_a_worker_killed_while_the_agent_is_away_comes_back_with_the_zone(feed: Feed) -> None:
    feed.publish([service("shop/web")])
    (address,) = claim_addresses([Address(HOST, 0)])
    reports: dict[str, Report | None] = {}
    spec = WorkerSpec(feed=str(feed.path), listen=(address,), log_level="error")
    supervisor = Supervisor(spec, 2, reports.__setitem__)

    def all_synced() -> bool:
        return len(reports) == 2 and all(report is not None and report.synced for report in reports.values())

    async with own_tasks() as tasks:
        async with feed.serving():
            tasks.start("supervisor", supervisor.keep())
            await eventually(lambda: all_synced() and supervisor.knows_zone, within=15.0)
        victim = supervisor.pids["0"]
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: supervisor.restarts == 1)
        await eventually(lambda: supervisor.pids.get("0", victim) != victim and all_synced(), within=15.0)
        assert {await _asked(address) for _ in range(40)} == {"NOERROR | A 10.1.2.3"}
        # Told with the next report, once a second.
        await eventually(lambda: not any(report.connected for report in reports.values() if report is not None))
