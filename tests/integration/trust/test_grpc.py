"""gRPC (imports and exports): who gets in, who does not, TLS 1.3 only, and how leaves are replaced."""

import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import pytest

from integration.trust.grpc_servers import METHOD
from integration.trust.world import DOMAIN, World, attacks
from isthmus_core.spiffe import controller_name, gateway_name
from isthmus_kit.pki import Identity
from isthmus_kit.tls import client_context, grpc_client_credentials, grpc_server_name
from support.process import Process

WORLD = World()
ATTACKS = attacks(WORLD)


class Servers:
    """The running servers; `port[name]`."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.folder = folder
        process.wait_for_line("^ready$")
        lines = (line.rsplit(" ", 1) for line in process.output().splitlines() if line[-1:].isdigit())
        self.port = {name: int(port) for name, port in lines}

    def __getitem__(self, name: str) -> int:
        return self.port[name]


def write_identity(folder: Path, name: str, identity: Identity) -> None:
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(identity))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    write_identity(folder, "controller", WORLD.controller())
    write_identity(folder, "renewed", WORLD.controller())
    for attack, identity in ATTACKS.items():
        write_identity(folder, attack, identity)
    script = Path(__file__).with_name("grpc_servers.py")
    with Process([sys.executable, script, folder, DOMAIN], folder / "log") as process:
        yield Servers(process, folder)


async def ask(port: int, identity: Identity, name: str = controller_name(DOMAIN)) -> str:
    options = [*grpc_server_name(name), ("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc_client_credentials(identity)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return (await call(b"", timeout=10.0)).decode()


async def refused(port: int, identity: Identity, name: str = controller_name(DOMAIN)) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(port, identity, name)
    return caught.value


@pytest.mark.anyio
async def test_a_gateway_is_known_by_its_cluster(servers: Servers) -> None:
    assert await ask(servers["controller"], WORLD.gateway("b")) == "gateway b"


@pytest.mark.anyio
@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_server_refuses(servers: Servers, attack: str) -> None:
    error = await refused(servers["controller"], ATTACKS[attack])
    assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.anyio
@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_client_refuses(servers: Servers, attack: str) -> None:
    name = controller_name(DOMAIN) if "controller" in attack else gateway_name("b", DOMAIN)
    error = await refused(servers[attack], WORLD.gateway("a"), name)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "CERTIFICATE_VERIFY_FAILED" in str(error.details())


@pytest.mark.anyio
async def test_two_uris_pass_the_tls_stack_and_are_refused_by_us(servers: Servers) -> None:
    two = WORLD.forge(WORLD.cas["a"], ["spiffe://a.fed.test/gateway", "spiffe://a.fed.test/other"])
    error = await refused(servers["controller"], two)
    assert (error.code(), "2 URI names" in str(error.details())) == (grpc.StatusCode.PERMISSION_DENIED, True)


@pytest.mark.anyio
async def test_a_client_that_expects_another_name_refuses(servers: Servers) -> None:
    error = await refused(servers["controller"], WORLD.gateway("a"), gateway_name("b", DOMAIN))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def handshake(port: int, version: ssl.TLSVersion, identity: Identity | None = None) -> tuple[str | None, bytes | None]:
    context = client_context(WORLD.roots, identity)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), 5.0) as raw,
        context.wrap_socket(raw, server_hostname=controller_name(DOMAIN)) as wrapped,
    ):
        return wrapped.version(), wrapped.getpeercert(binary_form=True)


def test_tls_1_2_finds_no_common_suite(servers: Servers) -> None:
    member = WORLD.gateway("a")
    assert handshake(servers["controller"], ssl.TLSVersion.TLSv1_3, member)[0] == "TLSv1.3"
    with pytest.raises(OSError, match=r"(?i)eof|reset|handshake"):
        handshake(servers["controller"], ssl.TLSVersion.TLSv1_2, member)


def test_a_renewed_leaf_is_shown_to_the_next_client_without_a_restart(servers: Servers) -> None:
    member = WORLD.gateway("a")
    before = handshake(servers["renewed"], ssl.TLSVersion.TLSv1_3, member)[1]
    assert before == handshake(servers["renewed"], ssl.TLSVersion.TLSv1_3, member)[1]
    write_identity(servers.folder, "renewed", WORLD.controller())
    assert handshake(servers["renewed"], ssl.TLSVersion.TLSv1_3, member)[1] not in (before, None)
