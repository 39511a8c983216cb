"""Whole gateways: the agent with a real Envoy, real streams to a controller, real files and real backends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from isthmus_gateway import GatewaySettings
from isthmus_gateway.agent import run_gateway
from support.addresses import LoopbackNet, free_port
from support.fake_controller import FakeController
from support.waiting import eventually

pytestmark = pytest.mark.anyio

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


@pytest.fixture
def net(loopback_net: LoopbackNet) -> LoopbackNet:
    return loopback_net


@pytest.fixture
def controller(net: LoopbackNet) -> FakeController:
    address = net.next()
    return FakeController(f"{address}:{free_port(address)}")


def cluster(name: str, where: str, folder: Path, controller: FakeController, net: LoopbackNet, octet: int) -> Cluster:
    controller.join(name, where, folder / name)
    return Cluster(name, folder / name, net.next(), f"127.51.{octet}.0/24")


async def test_a_service_of_one_cluster_answers_in_another_and_follows_its_files_health_and_end(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net, 10)
    west = cluster("west", "gcp/us-east1/b", tmp_path, controller, net, 20)
    first, second = net.next(), net.next()
    port = free_port(first)
    one, two = Backend("one", first, port), Backend("two", second, port)
    east.describe(first, port=port)
    async with controller.serving(), one.serving(), two.serving(), west.running():
        async with east.running():
            await eventually(east.ready, 20)
            await eventually(west.ready, 20)
            await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 10)
            vip = await eventually(west.vip, 5)
            await eventually(lambda: answered_by(vip, "one"), 10)

            # A changed file moves new connections; those that stand go on until their endpoint closes them.
            east.describe(second, port=port)
            await eventually(lambda: _endpoints(east, second), 5)
            one.leave()
            await eventually(lambda: answered_by(vip, "two"), 5)
            east.describe(first, port=port)
            await eventually(lambda: _endpoints(east, first), 5)
            two.leave()
            await eventually(lambda: answered_by(vip, "one"), 5)

            # A sick endpoint is published as such.
            one.sick = True
            await eventually(lambda: controller.capacity("east", "shop/echo") == (0, 1), 5)
            one.sick = False
            await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 5)
            await eventually(lambda: answered_by(vip, "one"), 5)

            # A broken file changes nothing and is named.
            (east.services / "shop.yaml").write_text("kind: [")
            await eventually(lambda: _warned(east, "files", "shop.yaml"), 5)
            assert await call(vip) == "one"
        # A clean stop takes the gateway out, and nothing else.
        assert controller.gateways("east") == ()
        assert controller.capacity("east", "shop/echo") == (1, 1)
        assert await call(vip) != "one"


async def _endpoints(where: Cluster, *addresses: str) -> bool:
    exports = {e["service"]: e for e in (await where.state()).get("exports", [])}
    listed = exports["shop/echo"]["endpoints"]
    assert [e["address"] for e in listed] == [*addresses], listed
    assert all(all(e["healthy"].values()) for e in listed), listed
    return True


async def _warned(where: Cluster, part: str, text: str) -> bool:
    warnings = (await where.ask("/readyz")).get("warnings", {})
    assert text in warnings.get(part, ""), warnings
    return True


async def test_a_gateway_serves_from_its_snapshot_while_no_controller_answers(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net, 30)
    first = net.next()
    port = free_port(first)
    east.describe(first, port=port)
    async with Backend("one", first, port).serving():
        async with controller.serving(), east.running():
            await eventually(east.ready, 20)
            vip = await eventually(east.vip, 5)
            await eventually(lambda: answered_by(vip, "one"), 5)
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with east.running():
            await eventually(lambda: answered_by(vip, "one"), 10)
            took = loop.time() - start
            assert await east.vip() == vip
            await eventually(lambda: _warned(east, "controllers", "last known state"), 5)
            state = await east.state()
            assert state["ready"] and state["controllers"]["age_s"] > 0
            assert took < 3.0, took


async def test_capacity_of_a_restarted_gateway_never_dips(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net, 40)
    first = net.next()
    port = free_port(first)
    east.describe(first, port=port)
    async with Backend("one", first, port).serving(), controller.serving():
        async with east.running():
            await eventually(lambda: controller.capacity("east", "shop/echo") == (1, 1), 20)
        seen: set[object] = set()

        async def watch() -> None:
            while True:
                seen.add(controller.capacity("east", "shop/echo"))
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch(), name="watch")
            async with east.running():
                await eventually(east.ready, 20)
                await eventually(lambda: len(controller.gateways("east")) == 1, 5)
                await asyncio.sleep(1.5)
            watcher.cancel()
        assert seen == {(1, 1)}
    assert ("-Export", "shop/echo") not in controller.log


async def test_a_port_that_is_in_use_is_one_clear_sentence(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net, 50)
    server = await asyncio.start_server(lambda r, w: None, east.settings.listen_address, east.settings.listen_port)
    try:
        with pytest.raises(Exception, match="Another process listens there"):
            await run_gateway(east.settings, asyncio.Event())
    finally:
        server.close()


async def test_a_second_gateway_in_the_same_folder_is_refused(
    tmp_path: Path, controller: FakeController, net: LoopbackNet
) -> None:
    east = cluster("east", "aws/eu-west-1/a", tmp_path, controller, net, 60)
    async with east.running():
        await eventually(lambda: (east.folder / "agent.sock").exists(), 10)
        with pytest.raises(Exception, match="another gateway runs"):
            await run_gateway(east.settings, asyncio.Event())
