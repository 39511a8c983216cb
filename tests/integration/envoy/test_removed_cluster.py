"""A cluster that is removed loses the connections that it has open, and nobody else does (docs/decisions/0011)."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from integration.envoy.far_service import TCP_CHECK, healthy_at_b, publish_far
from integration.envoy.ingress_frames import PREFACE, connect_frame, status_of
from isthmus_core.model import AppProtocol
from isthmus_core.names import ClusterId
from isthmus_gateway.envoy import EnvoyProcess, find_envoy
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair
from support.waiting import eventually

A = ClusterId("a")
AUTHORITY = "lines.shop.svc.clusterset.local:8080"
DRAIN_S = 2


class Caller:
    """A gateway that keeps its connection as long as it can: it minds no GOAWAY."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._streams = 1
        self.heard = b""

    @classmethod
    @asynccontextmanager
    async def of(cls, pair: Pair, name: str) -> AsyncIterator["Caller"]:
        """Connected to b's ingress with a tunnel to the service."""
        context = ssl.create_default_context(cadata=pair.world.roots_pem.decode())
        context.check_hostname = False
        context.set_alpn_protocols(["h2", f"isthmus/{name}"])
        leaf = pair.folder / f"caller-{name}.pem"
        leaf.write_bytes(b"".join(pair.world.identity(name)))
        context.load_cert_chain(leaf)
        gateway = pair.b.me.gateways[0]
        reader, writer = await asyncio.open_connection(gateway.address, gateway.port, ssl=context)
        caller = cls(reader, writer)
        try:
            writer.write(PREFACE + connect_frame(AUTHORITY, 1))
            await eventually(caller.answered)
            yield caller
        finally:
            writer.transport.abort()

    async def says(self, word: bytes) -> bool:
        """Send a line through the tunnel; whether the service answers."""
        self._writer.write(len(word + b"\n").to_bytes(3) + b"\0\0" + (1).to_bytes(4) + word + b"\n")
        return await self._hears(b"far " + word)

    async def opens_another_tunnel(self) -> bool:
        self._streams += 2
        self._writer.write(connect_frame(AUTHORITY, self._streams))
        while status_of(self.heard, self._streams) is None:
            if not await self._read():
                return False
        return True

    async def answered(self) -> bool:
        await self._read()
        return status_of(self.heard) == 200

    async def ended(self) -> None:
        while await self._read():
            pass

    async def _hears(self, word: bytes) -> bool:
        while word not in self.heard:
            if not await self._read():
                return False
        return True

    async def _read(self) -> bytes:
        try:
            more = await self._reader.read(65536)
        except ConnectionError:
            return b""
        self.heard += more
        return more


@pytest.mark.anyio
async def test_a_removed_cluster_loses_its_open_connections_and_nobody_else_does(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    pair.b.process = EnvoyProcess(find_envoy(), pair.b.files, 1, drain_s=DRAIN_S)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            publish_far(pair, "lines", where, AppProtocol.TCP, TCP_CHECK)
            await healthy_at_b(pair, "lines")
            pair.world.add("c", "aws/eu-west-1/c", [])
            pair.b.admit()
            reader, writer = await asyncio.open_connection(pair.vip, 8080)
            writer.write(b"one\n")
            assert await reader.readline() == b"far one\n"
            async with asyncio.timeout(20), Caller.of(pair, "a") as leaver, Caller.of(pair, "c") as stayer:
                assert await leaver.says(b"hello") and await stayer.says(b"hello")

                gone = pair.world.members.pop(A)
                pair.b.admit()
                since = asyncio.get_running_loop().time()
                # Its own gateway minds the GOAWAY: new tunnels need a new connection at once, and get none.
                await eventually(lambda: refused(pair))
                assert await reader.read() == b""
                await leaver.ended()
                assert asyncio.get_running_loop().time() - since < DRAIN_S + 6
                with pytest.raises((ConnectionError, ssl.SSLError)):
                    async with Caller.of(pair, "a"):
                        pass
                assert await stayer.says(b"still here") and await stayer.opens_another_tunnel()

                pair.world.members[A] = gone
                pair.b.admit()
                await eventually(lambda: answered(pair), 10)
                assert await stayer.says(b"also when it is back")
            writer.close()
            assert pair.b.nacks == []


async def answered(pair: Pair) -> bool:
    """Whether a new connection of a client in cluster a gets an answer."""
    reader, writer = await asyncio.open_connection(pair.vip, 8080)
    try:
        writer.write(b"new\n")
        return await reader.readline() == b"far new\n"
    except ConnectionError:
        return False
    finally:
        writer.close()


async def refused(pair: Pair) -> bool:
    return not await answered(pair)
