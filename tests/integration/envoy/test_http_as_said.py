"""HTTP/1 through two gateways arrives as it was said: names, reasons, trailers of answers, and what comes early."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from isthmus_core.model import AppProtocol, CheckKind, HealthCheck
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair, service_of
from support.waiting import eventually

HEADERS = b"".join(b"X-Number-%d: 1\r\n" % number for number in range(150))
ANSWERS = {
    b"/reason": b"HTTP/1.1 200 Very Fine\r\nX-CamelCase: One\r\nContent-Length: 0\r\n\r\n",
    b"/trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n",
    b"/early": b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate",
    b"/refused": b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n",
    b"/many": b"HTTP/1.1 200 OK\r\n" + HEADERS + b"Content-Length: 4\r\n\r\nmany",
}


@asynccontextmanager
async def backend(address: str, heard: list[bytes]) -> AsyncIterator[tuple[str, int]]:
    """Answers by path with bytes as they stand above, or with nothing special, and writes down what it hears."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"chunked" in head:
                    head += await reader.readuntil(b"\r\n0\r\n") + await reader.readuntil(b"\r\n\r\n")
                heard.append(head)
                writer.write(ANSWERS.get(head.split(b" ")[1], b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, address, 0, limit=1 << 20) as server:
        yield address, server.sockets[0].getsockname()[1]


async def said(vip: str, request: bytes, last: bytes) -> bytes:
    """What comes back for these bytes, up to `last`."""
    reader, writer = await asyncio.open_connection(vip, 8080)
    answer = b""
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            while last not in answer and (content := await reader.read(65536)):
                answer += content
    except TimeoutError as error:
        raise AssertionError(f"only {answer!r} came for {request[:60]!r}") from error
    finally:
        writer.close()
    return answer


@pytest.mark.anyio
async def test_http_1_arrives_as_it_was_said(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    heard: list[bytes] = []
    async with backend(loopback_net.next(), heard) as where, pair.running():
        service = service_of("echo", [where], AppProtocol.HTTP, "gcp/eu-west-4/b", HealthCheck(CheckKind.TCP))
        pair.b.export(service)
        pair.a.serve(pair.vip, None, [("b", service)])
        await eventually(lambda: any(pair.b.verdict("local/echo.shop.svc.clusterset.local:8080")), 10)
        await pair.a.serving("egress/shop/echo/8080")

        answer = await said(pair.vip, b"GET /reason HTTP/1.1\r\nHost: x\r\nX-MixedCase: Two\r\n\r\n", b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 Very Fine\r\nX-CamelCase: One\r\n")
        assert b"\r\nX-MixedCase: Two\r\n" in heard[-1]
        answer = await said(pair.vip, b"GET /trailers HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n", b": 42\r\n\r\n")
        assert answer.lower().endswith(b"\r\n3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n")
        chunks = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
        await said(pair.vip, b"POST /fine HTTP/1.1\r\nHost: x\r\n" + chunks, b"fine")
        assert heard[-1].lower().endswith(b"\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n")
        answer = await said(pair.vip, b"GET /early HTTP/1.1\r\nHost: x\r\n\r\n", b"late")
        assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n")
        asked = b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        assert (await said(pair.vip, asked, b"\r\n\r\n")).startswith(b"HTTP/1.1 417 Expectation Failed\r\n")
        many = b"GET /many HTTP/1.1\r\nHost: x\r\n" + HEADERS + b"\r\n"
        assert (await said(pair.vip, many, b"many")).count(b"X-Number-") == heard[-1].count(b"X-Number-") == 150
        assert b" 200 " in await said(pair.vip, b"GET /old HTTP/1.0\r\n\r\n", b"fine")
        assert b"\r\nHost: echo.shop.svc.clusterset.local\r\n".lower() in heard[-1].lower()
        assert not pair.a.nacks and not pair.b.nacks
