"""What a running server shows: metrics under CoreDNS's names, dnstap that real tools read, a sampled query log."""

import asyncio
import logging
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import dns.asyncquery
import dns.exception
import pytest
import yaml

from isthmus_dns import run
from isthmus_dns.listening.addresses import Address
from isthmus_kit.tasks import own_tasks
from support.process import Process
from support.waiting import eventually
from unit.nameserver.builders import Feed, question, service, shown

pytestmark = pytest.mark.anyio

NAME = "web.shop.svc.clusterset.local"
FOUND = "NOERROR | A 10.1.2.3"

# What CoreDNS's `prometheus` plugin counts, as far as a server has it that is one plugin, without HTTPS and QUIC. Left
# out: coredns_plugin_enabled, responses over HTTPS and QUIC, queries with DO, EDNS sizes of queries; what it calls
# panics is `worker_restarts_total`.
COREDNS = {
    "coredns_dns_requests_total": ("counter", {"family", "proto"}),
    "coredns_dns_request_size_bytes": ("histogram", {"proto"}),
    "coredns_dns_request_duration_seconds": ("histogram", {"proto"}),
    "coredns_dns_response_size_bytes": ("histogram", {"proto"}),
    "coredns_dns_responses_total": ("counter", {"rcode"}),
}


@asynccontextmanager
async def server(folder: Path, **options: Any) -> AsyncIterator[tuple[Address, int]]:
    """A server that knows one service, and the port of its web pages."""
    feed = Feed(folder / "zone.sock")
    feed.publish([service("shop/web")])
    up: asyncio.Future[tuple[Address, int]] = asyncio.get_running_loop().create_future()
    async with feed.serving(), own_tasks() as tasks:
        started: Callable[..., None] = lambda addresses, web: up.set_result((addresses[0], web))  # noqa: E731
        arguments: dict[str, Any] = {"listen": ("127.53.0.6:0",), "workers": 0, "web": "127.0.0.1:0"}
        tasks.start("server", run(feed=feed.path, started=started, **(arguments | options)))
        address, web = await up
        await eventually(lambda: _found(address), within=10.0)
        yield address, web


async def asked(address: Address, name: str, rtype: str = "A", tcp: bool = False, patience: float = 5.0) -> str:
    query = question(name, rtype, 1232, id=7)
    if tcp:
        return shown(await dns.asyncquery.tcp(query, address.host, timeout=patience, port=address.port))
    return shown(await dns.asyncquery.udp(query, address.host, timeout=patience, port=address.port))


async def _found(address: Address) -> bool:
    try:
        return await asked(address, NAME, patience=1.0) == FOUND
    except (OSError, dns.exception.Timeout):
        return False  # no worker listens yet


async def page(web: int) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{web}/metrics") as answer:
        return await answer.text()


def value(text: str, start: str) -> float:
    """The sum of all samples that begin so."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))


# Metrics.


@pytest.mark.parametrize("workers", [0, 1])
async def test_dashboards_for_coredns_need_only_another_prefix(tmp_path: Path, workers: int) -> None:
    async with server(tmp_path, workers=workers) as (address, web):
        before = await page(web)
        for _ in range(5):
            assert await asked(address, NAME) == FOUND
        assert await asked(address, "nope.clusterset.local") == "NXDOMAIN"
        assert await asked(address, "example.com") == "REFUSED"
        assert await asked(address, NAME, tcp=True) == FOUND

        async def counted() -> str:
            text = await page(web)
            for start, least in (
                ('isthmus_dns_requests_total{family="1",proto="udp"', 7),
                ('isthmus_dns_requests_by_type_total{type="A"', 6),
                ('isthmus_dns_request_size_bytes_count{proto="udp"', 7),
                ('isthmus_dns_request_size_bytes_sum{proto="udp"', 7 * 30),
                ('isthmus_dns_requests_total{family="1",proto="tcp"', 1),
                ('isthmus_dns_responses_total{rcode="NOERROR"', 6),
                ('isthmus_dns_responses_total{rcode="NXDOMAIN"', 1),
                ('isthmus_dns_responses_total{rcode="REFUSED"', 1),
                ('isthmus_dns_request_duration_seconds_count{proto="udp"', 7),
                ('isthmus_dns_response_size_bytes_count{proto="udp"', 7),
                ('isthmus_dns_response_size_bytes_sum{proto="udp"', 7 * 30),
            ):
                assert value(text, start) - value(before, start) >= least, start
            return text

        text = await eventually(counted, within=5.0)
    for theirs, (kind, labels) in COREDNS.items():
        ours = theirs.replace("coredns", "isthmus")
        assert f"# TYPE {ours} {kind}" in text
        sample = next(line for line in text.splitlines() if line.startswith((f"{ours}{{", f"{ours}_count{{")))
        assert set(re.findall(r'(\w+)="', sample)) - {"le"} == {"worker"} | labels
    responses = sum(1 for _ in re.finditer(r"^isthmus_dns_responses_total", text, re.MULTILINE))
    assert value(text, "isthmus_dns_responses_total") == value(text, "isthmus_dns_response_size_bytes_count")
    assert responses >= 3
    assert "isthmus_dns_dnstap_dropped_total{" in text


# dnstap.


@asynccontextmanager
async def capture(folder: Path) -> AsyncIterator[tuple[Path, Callable[[], list[dict[str, Any]]]]]:
    """Debian's receiver of frame streams, and what `dnstap-read` makes of its file once it has ended."""
    absent = [tool for tool in ("fstrm_capture", "dnstap-read") if shutil.which(tool) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not found: apt-get install fstrm-bin bind9-dnsutils")
    path, file = folder / "tap.sock", folder / "frames.fstrm"
    receiver = Process(
        ["fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-u", path, "-w", file, "-ddd"], folder / "capture.log"
    )

    def read() -> list[dict[str, Any]]:
        receiver.stop()
        with Process(["dnstap-read", "-y", file], folder / "read.log") as reader:
            assert reader.wait() == 0, reader.output()
            return [frame for frame in yaml.safe_load_all(reader.output()) if frame]

    with receiver:
        await eventually(path.is_socket)
        yield path, read


@pytest.mark.parametrize("workers", [0, 1])
async def test_real_tools_read_what_was_asked_and_answered(tmp_path: Path, workers: int) -> None:
    async with capture(tmp_path) as (path, read):
        async with server(tmp_path, workers=workers, dnstap=str(path), server_id="dns-7") as (address, _):
            # The receiver is there before the server: what comes once it is connected is told.
            for number in range(40):
                assert await asked(address, f"n{number}.clusterset.local") == "NXDOMAIN"
                await asyncio.sleep(0.01)
            assert await asked(address, NAME) == FOUND
            assert await asked(address, NAME, "SRV", tcp=True)
        frames = read()
    assert {frame["type"] for frame in frames} == {"MESSAGE"}
    assert {frame["identity"] for frame in frames} == {"dns-7"}
    messages = [frame["message"] for frame in frames]
    (query,) = [m for m in messages if m["type"] == "AUTH_QUERY" and f"{NAME}. IN A" in _questions(m, "query")][-1:]
    (answer,) = [m for m in messages if m["type"] == "AUTH_RESPONSE" and f"{NAME}. IN A" in _questions(m, "response")][
        -1:
    ]
    for message in (query, answer):
        assert (message["socket_family"], message["socket_protocol"]) == ("INET", "UDP")
        assert message["query_address"] == "127.0.0.1"
        assert message["query_port"] == query["query_port"] > 0
    assert answer["response_message_data"]["status"] == "NOERROR"
    assert answer["response_message_data"]["ANSWER_SECTION"] == [f"{NAME}. 5 IN A 10.1.2.3"]
    over_tcp = [m for m in messages if m["socket_protocol"] == "TCP"]
    assert [m["type"] for m in over_tcp] == ["AUTH_QUERY", "AUTH_RESPONSE"]
    assert len([m for m in messages if m["type"] == "AUTH_QUERY"]) == len(messages) / 2


def _questions(message: dict[str, Any], kind: str) -> list[str]:
    return list(message[f"{kind}_message_data"]["QUESTION_SECTION"])


# The query log.


@pytest.mark.parametrize("every", [1, 4])
async def test_every_nth_query_is_logged(tmp_path: Path, every: int, caplog: pytest.LogCaptureFixture) -> None:
    async with server(tmp_path, log_queries=every) as (address, _):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="isthmus_dns.listening.tap"):
            for number in range(20):
                assert await asked(address, f"n{number}.clusterset.local", tcp=number % 2 == 1) == "NXDOMAIN"
        lines = [vars(record) for record in caplog.records if record.name == "isthmus_dns.listening.tap"]
        assert len(lines) == 20 / every
        assert {line["of"] for line in lines} == {every}
        assert {line["rcode"] for line in lines} == {"NXDOMAIN"}
        assert {line["client"] for line in lines} == {"127.0.0.1"}
        assert all(
            re.fullmatch(r"n\d+\.clusterset\.local\.", line["question"]) and line["type"] == "A" for line in lines
        )
