"""What a running DNS server answers: to packets that are wrong, with nothing or old things known, after restarts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import dns.edns
import dns.message
import pytest

from fault.running_nameserver import FOUND, NAME, asked, asked_over_tcp, client, listening, server
from isthmus_dns.listening.addresses import Address
from isthmus_sync.proto import isthmus_pb2 as pb
from support.waiting import eventually
from unit.nameserver.builders import Feed, header, question, resources, service, shown
from unit.nameserver.test_malformed_classes import CLASSES
from unit.nameserver.test_rfc8906 import ROWS, written

pytestmark = pytest.mark.anyio


async def test_every_class_of_bad_packets_is_answered_so_by_a_running_server(tmp_path: Path) -> None:
    good = question(NAME, "A", 1232, id=1).to_wire()
    async with server(tmp_path, server_id="dns-7", subnet_resolvers=("127.0.0.0/8",)) as address:
        with client("127.0.0.1", address) as sock:
            for title, case in CLASSES.items():
                if case.answer is None:
                    # Silence: the next answer that comes is the one to the next question.
                    await asyncio.get_running_loop().sock_sendall(sock, case.packet)
                    assert (await asked(sock, good))[:2] == good[:2], title
                else:
                    assert await asked(sock, case.packet) == case.answer, title
                    assert await asked_over_tcp(address, case.packet) == case.answer, title


async def test_the_table_of_rfc_8906_holds_for_a_running_server(tmp_path: Path) -> None:
    async with server(tmp_path, server_id="dns-7", subnet_resolvers=("127.0.0.0/8",)) as address:
        soa = dns.message.from_wire(await asked_over_tcp(address, ROWS[0].packet())).answer[0][0]
        with client("127.0.0.1", address) as sock:
            for row in ROWS:
                expected = row.answer.replace(" 100 7200 ", f" {soa.serial} 7200 ")
                if not row.tcp:
                    assert written(await asked(sock, row.packet())) == expected, row.title
                assert written(await asked_over_tcp(address, row.packet())) == expected, row.title


def _errors(packet: bytes) -> list[int]:
    """The extended errors of an answer."""
    options = dns.message.from_wire(packet).options
    return [int(option.code) for option in options if isinstance(option, dns.edns.EDEOption)]


@pytest.mark.parametrize("workers", [0, 1])
async def test_every_answer_says_when_nothing_is_known_yet_and_when_what_is_known_is_old(
    tmp_path: Path, workers: int
) -> None:
    feed = Feed(tmp_path / "zone.sock")
    feed.publish([service("shop/web")])
    queries = {
        (name, edns): question(f"{name}.clusterset.local", "A", edns, id=7).to_wire()
        for name in ("web.shop.svc", "nope", "svc")
        for edns in (None, 1232)
    }
    known = {"web.shop.svc": FOUND, "nope": "NXDOMAIN", "svc": "NOERROR"}

    async def all_say(address: Address, error: list[int], unknown: bool = False) -> bool:
        """Whether all questions, over UDP and TCP, are answered so; those without EDNS cannot be told why."""
        for (name, edns), query in queries.items():
            with client("127.0.0.1", address) as sock:
                packets = [await asked(sock, query), await asked_over_tcp(address, query)]
            for packet in packets:
                assert shown(dns.message.from_wire(packet)) == ("SERVFAIL" if unknown else known[name])
                assert _errors(packet) == (error if edns else [])
        return True

    async with listening(feed.path, workers=workers, stale_after=0.5) as address:

        async def in_time(error: list[int], unknown: bool = False) -> bool:
            try:
                return await all_say(address, error, unknown)
            except OSError:
                return False  # no worker listens yet

        await eventually(lambda: in_time([14], unknown=True), within=15.0)
        async with feed.serving():
            await eventually(lambda: in_time([]), within=15.0)
        await eventually(lambda: in_time([3]), within=15.0)
        async with feed.serving():
            await eventually(lambda: in_time([]), within=15.0)


async def test_the_serial_only_grows_whatever_restarts(tmp_path: Path) -> None:
    path = tmp_path / "zone.sock"
    async with listening(path) as address:

        async def serial() -> int:
            answer = await asked_over_tcp(address, question("clusterset.local", "SOA").to_wire())
            message = dns.message.from_wire(answer)
            return message.answer[0][0].serial if message.answer else 0

        async def changed() -> bool:
            query = question("new.shop.svc.clusterset.local").to_wire()
            return shown(dns.message.from_wire(await asked_over_tcp(address, query))) != "NXDOMAIN"

        first = Feed(path)
        _tell(first, 2**32 - 2, [service("shop/web")])
        async with first.serving():
            await eventually(lambda: _equals(serial, 2**32 - 2), within=10.0)
            for following in (2**32 - 1, 0, 1):  # around the end of the numbers: RFC 1982
                _tell(first, following)
            await eventually(lambda: _equals(serial, 1), within=10.0)
        second = Feed(path)
        _tell(second, 2**32 - 99, [service("shop/web"), service("shop/new", ["10.3.3.3"])])  # it lost what it knew
        async with second.serving():
            await eventually(changed, within=10.0)
            assert await serial() == 1


def _tell(feed: Feed, serial: int, services: Iterable[pb.ZoneService] = ()) -> None:
    with feed.publication.change():
        for name, body in resources(services).items():
            feed.services.put(name, body)
        feed.header.put("zone", header(serial))
        feed.services.mark_synced()
        feed.header.mark_synced()


async def _equals(ask: Callable[[], Awaitable[int]], expected: int) -> bool:
    return await ask() == expected
