"""Whole gateways inside the test process: the agent with a real Envoy, real files, and backends that may be sick."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from isthmus_gateway import GatewaySettings
from isthmus_gateway.agent import run_gateway
from support.addresses import LoopbackNet, free_port
from support.fake_controller import FakeController

ECHO = """apiVersion: isthmus.dev/v1alpha1
kind: Service
metadata: {{name: echo, namespace: shop}}
spec:
  ports: [{{name: http, port: 8080, targetPort: {port}}}]
  endpoints: [{endpoints}]
  healthCheck: {{http: {{path: /healthz}}, interval: 50ms}}
"""
EXPORT = """---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {name: echo, namespace: shop}
"""


class Backend:
    """An HTTP server that answers with its name; `sick` makes its health check fail."""

    def __init__(self, name: str, address: str, port: int) -> None:
        self.name, self.address, self.port = name, address, port
        self.sick = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                bad = self.sick and b"/healthz" in head.split(b"\r\n")[0]
                status = b"503 Sick" if bad else b"200 OK"
                body = self.name.encode()
                writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))
                await writer.drain()
        writer.close()

    def leave(self) -> None:
        """Close all connections, as a server does that is taken out of service; new ones are still answered."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Backend"]:
        server = await asyncio.start_server(self._answer, self.address, self.port)
        try:
            yield self
        finally:
            server.close()
            self.leave()


class Cluster:
    """One cluster's gateway, run inside this process."""

    def __init__(self, name: str, folder: Path, address: str, vips: str) -> None:
        self.name, self.folder, self.address = name, folder, address
        self.services = folder / "services"
        self.services.mkdir(parents=True, exist_ok=True)
        self.settings = GatewaySettings(
            data_dir=folder,
            services_dir=self.services,
            gateway_id=f"{name}-1",
            listen_address=address,
            listen_port=free_port(address),
            vip_range=vips,
            web_address=address,
            web_port=free_port(address),
            drain_s=0.2,
        )
        self.stop = asyncio.Event()

    def describe(self, *endpoints: str, port: int = 0, export: bool = True) -> None:
        listed = ", ".join(f"{{address: {address}}}" for address in endpoints)
        aside = self.services / ".shop.yaml"
        aside.write_text(ECHO.format(port=port, endpoints=listed) + (EXPORT if export else ""))
        aside.rename(self.services / "shop.yaml")

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Cluster"]:
        self.stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_gateway(self.settings, self.stop), name=f"gateway {self.name}")
            try:
                yield self
            finally:
                self.stop.set()

    async def ask(self, path: str) -> dict:  # type: ignore[type-arg]
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.folder / "agent.sock"))) as client,
                client.get(f"http://agent{path}") as answer,
            ):
                return await answer.json()  # type: ignore[no-any-return]
        except (aiohttp.ClientError, OSError):
            return {}

    async def metrics(self) -> str:
        page = f"http://{self.address}:{self.settings.web_port}/metrics"
        async with aiohttp.ClientSession() as client, client.get(page) as answer:
            return await answer.text()

    async def state(self) -> dict:  # type: ignore[type-arg]
        return await self.ask("/v1/state")

    async def ready(self) -> bool:
        told = await self.ask("/readyz")
        assert told.get("ready"), told
        return True

    async def vip(self) -> str:
        services = {s["service"]: s for s in (await self.state()).get("services", [])}
        assert services.get("shop/echo", {}).get("vip"), services
        return str(services["shop/echo"]["vip"])


async def call(vip: str) -> str:
    """One request to shop/echo; the status when it is not 200."""
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as client, client.get(f"http://{vip}:8080/") as answer:
            return await answer.text() if answer.status == 200 else str(answer.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__


async def answered_by(vip: str, name: str) -> bool:
    answer = await call(vip)
    assert answer == name, answer
    return True


def cluster(
    name: str, where: str, folder: Path, controller: FakeController, net: LoopbackNet, *controllers: str
) -> Cluster:
    """A cluster that has joined."""
    controller.join(name, where, folder / name, *controllers)
    return Cluster(name, folder / name, net.next(), net.next_range())


async def endpoints_are(where: Cluster, *addresses: str) -> bool:
    exports = {e["service"]: e for e in (await where.state()).get("exports", [])}
    listed = exports["shop/echo"]["endpoints"]
    assert [e["address"] for e in listed] == [*addresses], listed
    assert all(all(e["healthy"].values()) for e in listed), listed
    return True


async def warned(where: Cluster, part: str, text: str) -> bool:
    warnings = (await where.ask("/readyz")).get("warnings", {})
    assert text in warnings.get(part, ""), warnings
    return True
