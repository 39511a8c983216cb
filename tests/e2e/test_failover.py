"""Traffic moves by itself when something breaks, with no policy written, and no idempotent request is lost."""

import asyncio
import re
import signal
import socket
import struct
import time
from functools import partial

import dns.edns
import dns.message
import dns.query
import pytest

from isthmus_cli.demo.load import Load
from support.federation import DNS_PORT, Federation, Member
from support.traffic import HttpLoad, LineLoad, answered_by, loading, serves
from support.waiting import eventually, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
RATE = 200
NEAR = "near.shop.svc"


def http(federation: Federation, cluster: str = "west") -> HttpLoad:
    return HttpLoad("echo", federation[cluster].vip(), 8080, RATE)


async def test_requests_leave_a_backend_that_is_killed_and_come_back(three: Federation) -> None:
    backend = three["west"].processes["backend-10-8080"]
    async with loading(http(three), "west") as load:
        backend.kill()
        await serves(load, "neighbour")
        backend.start()
        await serves(load, "west")
    assert load.lost == []
    answers = load.answered_by(0)
    # On a busy machine some take so long that they are sent to the next cluster too.
    assert answers["neighbour"] > 4 * answers["east"], answers


async def test_requests_leave_a_backend_that_is_frozen(three: Federation) -> None:
    backend = three["west"].processes["backend-10-8080"]
    async with loading(http(three), "west") as load:
        backend.freeze()
        await serves(load, "neighbour")
        await asyncio.sleep(1)
        backend.thaw()
    assert load.lost == []


async def test_requests_leave_a_whole_cluster_that_is_killed(three: Federation) -> None:
    three["west"].processes["backend-10-8080"].kill()
    async with loading(http(three), "neighbour") as load:
        three["neighbour"].kill()
        await serves(load, "east")
    assert load.lost == []


async def test_requests_leave_a_whole_cluster_that_is_frozen_and_come_back(three: Federation) -> None:
    three["west"].processes["backend-10-8080"].kill()
    async with loading(http(three), "neighbour") as load:
        three["neighbour"].freeze()
        await serves(load, "east")
        three["neighbour"].thaw()
        await serves(load, "neighbour", within=20)
    assert load.lost == []


async def test_nothing_changes_for_traffic_when_the_controller_and_its_etcd_are_killed(three: Federation) -> None:
    three["west"].processes["backend-10-8080"].kill()
    assert three.process is not None
    async with loading(http(three), "neighbour") as load:
        three.process.kill()
        fault = time.monotonic()
        await asyncio.sleep(3)
        await asyncio.to_thread(three.start_controller)
        await asyncio.sleep(1)
        answers = load.answered_by(fault)
        # On a busy machine some take so long that they are sent to the next cluster too.
        assert answers["neighbour"] > answers.total() / 2 and not answers["west"], answers
    assert load.lost == []
    assert three.json("status")["exports"] == 3


async def test_envoy_goes_on_when_its_agent_is_killed_and_a_new_agent_takes_it_over(three: Federation) -> None:
    west = three["west"]
    async with loading(http(three), "west") as load:
        west.processes["gateway"].kill()
        await asyncio.sleep(1)
        west.start_gateway()
        await asyncio.to_thread(west.wait_ready)
        west.processes["backend-10-8080"].kill()
        await serves(load, "neighbour")
    assert load.lost == []


async def test_a_gateway_that_starts_itself_anew_loses_no_request_and_follows_changes(three: Federation) -> None:
    west = three["west"]
    gateway, envoy = west.processes["gateway"], west.envoy()

    def started(times: int) -> bool:
        return gateway.output().count("gateway starts") >= before + times

    before = gateway.output().count("gateway starts")
    async with loading(http(three), "west") as load:
        for times in (1, 2):
            gateway.send(signal.SIGUSR2)
            await eventually(partial(started, times), 20)
            await asyncio.to_thread(west.wait_ready)
        west.processes["backend-10-8080"].kill()
        await serves(load, "neighbour")
    assert load.lost == [] and west.envoy() == envoy


async def test_a_gateway_starts_from_its_last_state_with_the_controller_away(three: Federation) -> None:
    west = three["west"]
    west.processes["backend-10-8080"].kill()
    await answered_by(http(three), "neighbour")
    west.processes["gateway"].stop()
    three.stop_controller()
    west.start_gateway()
    await answered_by(http(three), "neighbour")
    assert three.process is not None and not three.process.running, "nobody but the snapshot told it"


async def test_new_tcp_connections_leave_a_cluster_that_is_killed(three: Federation) -> None:
    for member in three.members.values():
        member.offer("line", 9000, protocol="tcp")
        if member.name != "west":
            member.start_backend(port=9000)
    load = LineLoad("line", three["west"].vip("line"), 9000, 50)
    async with loading(load, "neighbour"):
        three["neighbour"].kill()
        await serves(load, "east")
    assert load.lost == []


async def test_a_drained_cluster_gets_no_new_requests(three: Federation) -> None:
    three["west"].processes["backend-10-8080"].kill()
    async with loading(http(three), "neighbour") as load:
        three.cli("cluster", "drain", "neighbour")
        await eventually(lambda: alone(load, "east"), within=10)
        three.cli("cluster", "undrain", "neighbour")
        await serves(load, "neighbour")
    assert load.lost == []


async def alone(load: Load, name: str) -> bool:
    """Whether nobody else is sent what is due in the next half second."""
    since = time.monotonic()
    await asyncio.sleep(0.5)
    answers = load.answered_by(since)
    assert set(answers) == {name}, answers
    return True


async def test_a_backend_that_starts_and_crashes_all_the_time_costs_no_request(three: Federation) -> None:
    backend = three["west"].processes["backend-10-8080"]
    async with loading(http(three), "west") as load:
        for _ in range(6):
            backend.kill()
            await asyncio.sleep(0.15)
            backend.start()
            await asyncio.sleep(0.3)
        await serves(load, "west")
    assert load.lost == []


async def test_a_service_that_moves_to_another_port_refuses_at_once_on_the_old_one(three: Federation) -> None:
    for member in three.members.values():
        member.offer("mover", 8081)
        member.start_backend(port=8081)
    vip = three["west"].vip("mover")
    await answered_by(HttpLoad("mover", vip, 8081, RATE), "west")
    for member in three.members.values():
        member.offer("mover", 8080)
    await answered_by(HttpLoad("mover", vip, 8080, RATE), "west", within=5)

    async def refused() -> bool:
        try:
            _, writer = await asyncio.open_connection(vip, 8081)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    await eventually(refused, within=5)  # the new listener is there before the old one goes


@pytest.mark.parametrize("where", ["west", "neighbour"])
async def test_a_client_sees_that_an_answer_was_cut_off(three: Federation, where: str) -> None:
    member = three[where]
    async with await asyncio.start_server(half_an_answer, member.net.address(30), 8082):
        member.offer(f"half-{where}", 8082, hosts=(30,))
        vip = three["west"].vip(f"half-{where}")
        await eventually(lambda: whole(vip, "/healthz"), 10)
        for path in ("/length/closed", "/length/reset", "/chunks/closed", "/chunks/reset"):
            assert not await whole(vip, path), path


async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """GET /<how the end is known>/<how the connection ends>: fifty bytes of a hundred; /healthz is answered."""
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    if path == b"/healthz":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    elif path.startswith(b"/length"):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 50)
    else:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n32\r\n" + b"x" * 50 + b"\r\n")
    await writer.drain()
    if path.endswith(b"/reset"):
        await asyncio.sleep(0.05)  # a reset overtakes what has not been read
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def whole(vip: str, path: str) -> bool:
    """Whether an answer with 200 comes to the end that its head tells of.

    A reset may overtake the head too, when Envoy has its turn late: then the client gets an answer of Envoy's own.
    """
    reader, writer = await asyncio.open_connection(vip, 8082)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: half\r\nconnection: close\r\n\r\n".encode())
    try:
        async with asyncio.timeout(5):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    except ConnectionResetError:
        return False
    finally:
        writer.close()
    if path.endswith("/reset") and head.startswith(b"HTTP/1.1 503"):
        return False
    assert head.startswith(b"HTTP/1.1 200"), head
    length = re.search(rb"content-length: (\d+)", head.lower())
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")


# -- DNS, for clients that do not pass through a gateway


def ask(member: Member, name: str, kind: str = "A", client: str = "", tcp: bool = False) -> dns.message.Message:
    options: list[dns.edns.Option] = [dns.edns.ECSOption(client, 24)] if client else []
    query = dns.message.make_query(name, kind, options=options)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, member.net.address(53), timeout=2, port=DNS_PORT)


def answer(member: Member, client: str = "") -> list[str]:
    """The clusters whose endpoints shop/near is answered with, in order; the VIP as it is."""
    owners = {other.net.address(10): other.name for other in member.federation.members.values()}
    found = ask(member, f"{NEAR}.clusterset.local", client=client).answer
    return [owners.get(rdata.to_text(), rdata.to_text()) for rrset in found for rdata in rrset]


def reasons(member: Member) -> list[tuple[str, str]]:
    """Clusters in the order of failover, and by which way the answer leads to each."""
    found = ask(member, f"_why.{NEAR}.clusterset.local", "TXT").answer
    told = [dict(text.decode().split("=", 1) for text in rdata.strings) for rrset in found for rdata in rrset]
    return [(why["cluster"], why["via"]) for why in told if "cluster" in why]


@pytest.fixture
def near(three: Federation) -> Federation:
    """Every cluster offers shop/near, which is answered with endpoints."""
    for member in three.members.values():
        member.offer("near", dns="endpoints")
    wait_until(lambda: answer(three["west"]) == ["west"], within=20, every=0.02)
    wait_until(lambda: [name for name, _ in reasons(three["west"])] == ["west", "neighbour", "east"], within=20)
    return three


def test_a_dns_answer_moves_to_the_next_cluster_when_the_nearest_endpoint_dies_and_back(near: Federation) -> None:
    west = near["west"]
    at_home = [("west", "endpoints"), ("neighbour", "none"), ("east", "none")]
    wait_until(lambda: reasons(west) == at_home, within=5, every=0.01)
    west.processes["backend-10-8080"].kill()
    # Two health checks, 100 ms apart, notice it.
    wait_until(lambda: answer(west) == ["neighbour"], within=5, every=0.01)
    # On a busy machine checks may fail, and pass again, just before the backend dies.
    wait_until(lambda: reasons(west)[:2] == [("west", "none"), ("neighbour", "endpoints")], within=5, every=0.01)
    near["neighbour"].processes["backend-10-8080"].kill()
    wait_until(lambda: answer(west) == ["east"], within=5, every=0.01)
    wait_until(lambda: reasons(west) == [("west", "none"), ("east", "endpoints")], within=5, every=0.01)

    west.processes["backend-10-8080"].start()
    wait_until(lambda: answer(west) == ["west"], within=10, every=0.02)


def test_a_dns_answer_leaves_a_drained_cluster_and_a_killed_one(near: Federation) -> None:
    west = near["west"]
    west.processes["backend-10-8080"].kill()
    near.cli("cluster", "drain", "neighbour")
    wait_until(lambda: answer(west) == ["east"], within=5, every=0.01)
    near["east"].kill()
    # Nobody is left whose addresses are known: the VIP never fails to be an answer.
    wait_until(lambda: answer(west)[0].startswith(f"{west.net.prefix}."), within=10, every=0.02)
    near.cli("cluster", "undrain", "neighbour")
    wait_until(lambda: answer(west) == ["neighbour"], within=5, every=0.01)


def test_the_client_of_a_named_resolver_is_sent_to_what_is_near_to_it(near: Federation) -> None:
    west = near["west"]
    assert answer(west, "10.2.3.0") == ["east"]
    (subnet,) = [o for o in ask(west, f"{NEAR}.fed.example.com", client="10.2.3.0").options if o.otype == 8]
    assert isinstance(subnet, dns.edns.ECSOption) and (subnet.srclen, subnet.scopelen) == (24, 16)
    assert answer(west, "10.9.9.0") == ["west"]


def test_a_parent_can_delegate_an_own_domain_to_us(near: Federation) -> None:
    west, own = near["west"], "fed.example.com"
    for tcp in (False, True):
        response = ask(west, own, "NS", tcp=tcp)
        assert [rdata.to_text() for rdata in response.answer[0]] == [f"ns1.{own}.", "ns2.example.net."]
        assert [rrset.to_text() for rrset in response.additional] == [f"ns1.{own}. 3600 IN A {west.net.address(53)}"]
    (soa,) = ask(west, own, "SOA").answer[0]
    assert soa.to_text().startswith(f"ns1.{own}. dns\\.team.example.com. ")
    (srv,) = ask(west, f"_http._tcp.{NEAR}.{own}", "SRV").answer[0]
    assert srv.to_text().startswith("0 100 8080 127-") and srv.to_text().endswith(f".{NEAR}.{own}.")
