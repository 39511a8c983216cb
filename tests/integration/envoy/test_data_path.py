"""HTTP, gRPC, WebSocket and TCP through two real Envoys, and who is refused at the ingress."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from aiohttp import web

from integration.envoy.far_service import FAR, TCP_CHECK, healthy_at_b, publish_far
from integration.envoy.ingress_frames import PREFACE, ask_ingress, connect_request, settings_came, status_of
from integration.trust.world import World as TrustWorld
from isthmus_core.model import AppProtocol, CheckKind, HealthCheck
from isthmus_gateway.envoy import IngressRefusals
from isthmus_gateway.resources import Resources, build_identity
from isthmus_gateway.resources.names import CLUSTER, ENDPOINT
from isthmus_kit.readiness import Readiness
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair, service_of
from support.waiting import eventually
from support.world import World


async def text(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as answer:
        return answer.status, await answer.text()


@pytest.mark.anyio
async def test_http_and_tcp_reach_the_other_cluster_over_one_tls_connection(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            publish_far(pair, "echo", where, AppProtocol.HTTP, HealthCheck(CheckKind.HTTP, "/healthz"))
            await healthy_at_b(pair, "echo")
            tcp = service_of("lines", [where], AppProtocol.TCP, FAR, TCP_CHECK, 8081)
            pair.b.export(tcp)
            pair.a.serve(pair.vip, None, [("b", tcp)])
            await pair.a.serving("egress/shop/lines/8081")
            await eventually(lambda: any(pair.b.verdict("local/lines.shop.svc.clusterset.local:8081")), 10)
            async with aiohttp.ClientSession() as session:
                for _ in range(20):
                    assert await text(session, f"http://{pair.vip}:8080/") == (200, "far")
            reader, writer = await asyncio.open_connection(pair.vip, 8081)
            writer.write(b"hello\n")
            assert await reader.readline() == b"far hello\n"
            writer.close()
            await writer.wait_closed()
            counts = await pair.a.admin.stats(r"^cluster\.gateway/b\.upstream_cx_total$")
            # One for all tunnels and one for the probe, which has its own.
            assert counts["cluster.gateway/b.upstream_cx_total"] <= 2
            assert not pair.a.nacks and not pair.b.nacks


@pytest.mark.anyio
async def test_grpc_reaches_the_other_cluster(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    address = loopback_net.next()

    async def echo(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port(f"{address}:0")
    await server.start()
    try:
        async with pair.running():
            publish_far(pair, "calls", (address, port), AppProtocol.GRPC, TCP_CHECK)
            await healthy_at_b(pair, "calls")
            async with grpc.aio.insecure_channel(f"{pair.vip}:8080") as channel:
                call: Callable[..., grpc.aio.UnaryUnaryCall[bytes, bytes]] = channel.unary_unary("/test.Echo/Echo")
                for number in range(20):
                    assert await call(b"%d" % number, timeout=5) == b"%d" % number
    finally:
        await server.stop(None)


@pytest.mark.anyio
async def test_a_websocket_reaches_the_other_cluster(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    address = loopback_net.next()

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str("far " + message.data)
        return socket

    app = web.Application()
    app.router.add_get("/talk", talk)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address, 9001).start()
    try:
        async with pair.running():
            publish_far(pair, "talk", (address, 9001), AppProtocol.HTTP, TCP_CHECK)
            await healthy_at_b(pair, "talk")
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"http://{pair.vip}:8080/talk") as socket,
            ):
                for word in ("one", "two"):
                    await socket.send_str(word)
                    assert (await socket.receive(timeout=5)).data == f"far {word}"
    finally:
        await runner.cleanup()


@pytest.mark.anyio
async def test_only_members_get_past_the_handshake(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    stranger = World()  # another federation of the same name, with another root
    pair.world.identity("c")  # a cluster whose CA is good but which is not a member
    async with pair.running():
        assert settings_came(await ask_ingress(pair, pair.world.identity("a"), PREFACE))
        assert await ask_ingress(pair, None, PREFACE) == b""
        assert await ask_ingress(pair, stranger.identity("a"), PREFACE) == b""
        for name in "cb":  # nobody tunnels to itself
            for says in (name, "a"):
                assert await ask_ingress(pair, pair.world.identity(name), PREFACE, says=says) == b""


@pytest.mark.anyio
async def test_a_member_with_a_second_uri_name_is_refused(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    """A member's CA may sign a leaf that is two things at once, and the list of peers would take either name."""
    pair = Pair(tmp_path, loopback_net)
    forge, authority = TrustWorld().forge, pair.world.authority("a")
    good, other = "spiffe://a.fed.test/gateway", "spiffe://a.fed.test/other"
    async with pair.running():
        refusals = IngressRefusals(pair.b.admin.stats, readiness := Readiness(), lambda: 0.0)
        await refusals.look()
        for uris, welcome in (([good], True), ([good, other], False), ([other, good], False), ([good, good], False)):
            leaf = forge(authority, uris, ["gateway.a.fed.test"])
            for request in (PREFACE, connect_request("echo.shop.svc.clusterset.local:8080")):
                answer = await ask_ingress(pair, (leaf.chain, leaf.key), request)
                assert settings_came(answer) if welcome else answer == b"", (uris, answer)
        counts = await pair.b.admin.stats(r"^ingress\.rbac\.denied$")
        assert counts == {"ingress.rbac.denied": 6}
        await refusals.look()
        assert refusals.count == 6
        assert readiness.warnings()["refused callers"].startswith("6 connections were refused at the ingress")
        assert not pair.b.nacks


@pytest.mark.anyio
async def test_the_ingress_speaks_no_plaintext(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    async with pair.running():
        gateway = pair.b.me.gateways[0]
        reader, writer = await asyncio.open_connection(gateway.address, gateway.port)
        writer.write(b"GET /.isthmus/health HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                assert await reader.read(100) == b""
        writer.close()


async def connect_status(pair: Pair, authority: str, extra: str = "") -> int:
    """The status with which b's ingress answers a CONNECT of member a."""
    return status_of(await ask_ingress(pair, pair.world.identity("a"), connect_request(authority, extra))) or 0


@pytest.mark.anyio
async def test_only_exported_services_can_be_reached(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            exported = service_of("echo", [where], AppProtocol.HTTP, FAR)
            secret = service_of("secret", [where], AppProtocol.HTTP, FAR)
            pair.b.export(exported)
            pair.b.serve(pair.vip, secret)
            await pair.b.serving("egress/shop/secret/8080")
            await eventually(lambda: any(pair.b.verdict("local/echo.shop.svc.clusterset.local:8080")), 10)
            assert await connect_status(pair, "echo.shop.svc.clusterset.local:8080") == 200
            for authority in (
                "secret.shop.svc.clusterset.local:8080",
                "echo.shop.svc.clusterset.local:8081",
                "gateway/a",
                "gateway/a:443",
                "service/shop/secret/8080",
                f"{where[0]}:{where[1]}",
                "xds",
                "xds:1",
                "%2e%2e/xds.shop.svc.clusterset.local:1",
            ):
                assert await connect_status(pair, authority) in (0, 400, 404), authority
            # A caller's own header must not choose.
            for name in ("service/shop/secret/8080", "gateway/a", "xds"):
                assert await connect_status(pair, "secret.shop.svc.clusterset.local:8080", name) in (0, 404)


@pytest.mark.anyio
async def test_an_unexported_service_is_refused_at_once(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            pair.b.export(service_of("echo", [where], AppProtocol.HTTP, FAR))
            name = "local/echo.shop.svc.clusterset.local:8080"
            await eventually(lambda: any(pair.b.verdict(name)), 10)
            pair.b.remove(CLUSTER, name)
            pair.b.remove(ENDPOINT, name)

            async def refused() -> bool:
                return await connect_status(pair, "echo.shop.svc.clusterset.local:8080") == 404

            await eventually(refused, 5)


@pytest.mark.anyio
async def test_a_gateway_of_another_cluster_is_not_believed(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    """b's address is answered by somebody with c's good certificate: a sends nothing there."""
    pair = Pair(tmp_path, loopback_net)
    pair.a.join()
    pair.b.join()
    pair.b.publish(Resources(secrets=build_identity(*pair.world.identity("c"))))
    async with pair.a.running(), pair.b.running():
        await eventually(lambda: pair.a.verdict("gateway/b") == [False], 10)

        async def doubted() -> bool:
            return sum((await pair.a.admin.stats(r"^cluster\.gateway/b\.ssl\.fail_verify_san$")).values()) > 0

        await eventually(doubted, 10)
        assert pair.a.verdict("gateway/b") == [False]


@pytest.mark.anyio
async def test_certificates_rotate_under_load_without_a_failed_request(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            publish_far(pair, "echo", where, AppProtocol.HTTP, HealthCheck(CheckKind.HTTP, "/healthz"))
            await healthy_at_b(pair, "echo")
            answers: list[tuple[int, str]] = []
            async with aiohttp.ClientSession() as session:
                for turn in range(10):
                    for gateway in (pair.a, pair.b):
                        identity = build_identity(*pair.world.identity(gateway.me.id))
                        gateway.publish(Resources(secrets=identity))
                    answers += [await text(session, f"http://{pair.vip}:8080/?{turn}") for _ in range(30)]
            assert set(answers) == {(200, "far")}
            assert not pair.a.nacks and not pair.b.nacks
