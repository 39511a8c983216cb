"""etcd freezes or restarts, a controller is killed: nothing is acknowledged too early, nothing is lost or withdrawn."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.controller.world import (
    ECHO,
    HOST,
    Admin,
    FakeGateway,
    controller,
    enrol,
    make_federation,
    settings,
    soon,
)
from isthmus_controller.controller import run_controller
from isthmus_controller.settings import Listen
from isthmus_core.errors import InvalidInput
from isthmus_core.names import ClusterId, ServiceName
from isthmus_sync import CAPACITY, EXPORT, EXPORT_STATUS, IMPORT
from support.addresses import free_port
from support.etcd import Etcd
from support.process import Process
from support.waiting import eventually, wait_until

pytestmark = pytest.mark.anyio

CART = ServiceName("shop", "cart")


def accepted(gateway: FakeGateway, type_url: str, name: str) -> bool:
    return any(name in acked.accepted for acked in gateway.acked if acked.type_url == type_url)


async def test_nothing_is_acknowledged_while_etcd_is_frozen_and_everything_after(
    new_etcd: Callable[..., Etcd], federation_name: str, tmp_path: Path
) -> None:
    etcd = new_etcd()
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        identity = await enrol(federation, replica.admin, "a", tmp_path / "a")
        a = FakeGateway(ClusterId("a"), federation.domain, identity, [replica.grpc])
        a.introduce()
        a.export(ECHO)
        async with a.running():
            await soon(lambda: accepted(a, CAPACITY, "shop/echo") and a.names(IMPORT) == {"shop/echo"})
            await asyncio.to_thread(etcd.freeze)
            a.export(CART)
            with pytest.raises(AssertionError):
                await eventually(lambda: accepted(a, EXPORT, "shop/cart"), within=2.0)
            assert a.names(IMPORT) == {"shop/echo"}, "what was known stays"
            await asyncio.to_thread(etcd.thaw)
            await soon(lambda: accepted(a, EXPORT, "shop/cart"))
            await soon(lambda: a.names(IMPORT) == {"shop/echo", "shop/cart"})
            assert a.nacked == []


async def test_health_reaches_other_clusters_while_etcd_is_frozen_and_is_acknowledged_when_it_is_written(
    new_etcd: Callable[..., Etcd], federation_name: str, tmp_path: Path
) -> None:
    etcd = new_etcd()
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        ids = {name: await enrol(federation, replica.admin, name, tmp_path / name) for name in ("a", "b")}
        a, b = (FakeGateway(ClusterId(n), federation.domain, ids[n], [replica.grpc]) for n in ("a", "b"))
        a.introduce()
        a.export(ECHO)
        async with a.running(), b.running():
            await soon(lambda: accepted(a, CAPACITY, "shop/echo") and b.names(CAPACITY) == {"shop/echo/a"})
            before, acknowledged = b.body(CAPACITY, "shop/echo/a"), len(a.acked)
            await asyncio.to_thread(etcd.freeze)
            a.capacity(ECHO, ready=0)
            await soon(lambda: b.body(CAPACITY, "shop/echo/a") != before)
            assert len(a.acked) == acknowledged, "only what is in etcd is acknowledged"
            await asyncio.to_thread(etcd.thaw)
            await soon(lambda: len(a.acked) > acknowledged)
            services = (await Admin(federation, replica.admin).get("/v1/services"))["services"]
            assert [(s["service"], s["ready"]) for s in services] == [("shop/echo", 0)]


async def test_an_etcd_that_is_away_for_longer_than_a_request_loses_and_withdraws_nothing(
    new_etcd: Callable[..., Etcd], federation_name: str, tmp_path: Path
) -> None:
    etcd = new_etcd()
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address, session_ttl_seconds=2) as replica:
        admin = Admin(federation, replica.admin)
        identity = await enrol(federation, replica.admin, "a", tmp_path / "a")
        a = FakeGateway(ClusterId("a"), federation.domain, identity, [replica.grpc])
        a.introduce()
        a.export(ECHO)
        async with a.running():
            await soon(lambda: a.names(CAPACITY) == {"shop/echo/a"})
            await asyncio.to_thread(etcd.stop)
            a.export(CART)
            a.capacity(ECHO, ready=1)

            async def named() -> bool:
                ready = await admin.get("/readyz")
                return ready["ready"] and "etcd" in ready["warnings"]

            await soon(named)
            status, answer = await admin.ask("POST", "/v1/tokens", {"cluster": "c", "locality": "aws/eu/1"})
            assert status == 503 and "etcd" in answer["error"]
            assert (await admin.get("/v1/services"))["services"][0]["service"] == "shop/echo"
            assert a.names(CAPACITY) == {"shop/echo/a"}
            await asyncio.to_thread(etcd.start)
            await soon(lambda: a.names(CAPACITY) == {"shop/echo/a", "shop/cart/a"})
            removed = [update for update in a.updates if update.removed]
            assert removed == []

            async def held() -> bool:
                [cluster] = (await admin.get("/v1/clusters"))["clusters"]
                return bool(cluster["session_held"])

            await soon(held)


async def test_while_etcd_is_frozen_the_status_contradicts_nothing_and_a_change_is_refused_with_a_mend(
    new_etcd: Callable[..., Etcd], federation_name: str, tmp_path: Path
) -> None:
    etcd = new_etcd()
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        admin = Admin(federation, replica.admin)
        await enrol(federation, replica.admin, "a", tmp_path / "a")

        seen: set[tuple[bool, bool]] = set()

        async def well() -> bool:
            status = await admin.get("/v1/status")
            seen.add((status["etcd"][0]["healthy"], "etcd" in status["warnings"]))
            return bool(status["etcd"][0]["healthy"])

        async def in_trouble() -> bool:
            warned = "etcd" in (await admin.get("/readyz"))["warnings"]
            await well()
            return warned

        await soon(well)
        await asyncio.to_thread(etcd.freeze)
        body = {"cluster": "b", "locality": "aws/eu/1"}
        asked = [admin.ask("POST", "/v1/tokens", body), admin.ask("POST", "/v1/clusters/a/drain")]
        *answers, _ = await asyncio.gather(*asked, soon(in_trouble, every=0.1))
        assert (True, True) not in seen, "healthy, and does not answer"
        for status, answer in answers:
            assert status == 503 and "etcd" in answer["error"] and "isthmus status" in answer["mend"], answer
        await asyncio.to_thread(etcd.thaw)
        await soon(well)


class Replica:
    """A controller as a program of its own, with an etcd of its own."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.grpc = f"{HOST}:{free_port(HOST)}"
        self.admin = f"{HOST}:{free_port(HOST)}"
        self._folder = folder
        self._log = log
        self.process = self._make()

    def _make(self) -> Process:
        isthmus = Path(sys.executable).with_name("isthmus")
        where = ["--listen", self.grpc, "--admin-listen", self.admin, "--data-dir", str(self._folder)]
        return Process([isthmus, "controller", *where], self._log)

    def start(self) -> None:
        self._log.unlink(missing_ok=True)
        self.process = self._make().start()
        wait_until(lambda: self.process.says("controller is ready"), within=60)


async def test_a_controller_that_is_killed_comes_back_with_everything_and_gateways_go_on(
    federation_name: str, tmp_path: Path
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    replica = Replica(federation.folder, tmp_path / "controller.log")
    try:
        await asyncio.to_thread(replica.start)
        ids = {name: await enrol(federation, replica.admin, name, tmp_path / name) for name in ("a", "b")}
        a, b = (FakeGateway(ClusterId(n), federation.domain, ids[n], [replica.grpc]) for n in ("a", "b"))
        async with a.running(), b.running():
            for gateway in (a, b):
                gateway.introduce()
            a.export(ECHO)
            await soon(lambda: b.names(CAPACITY) == {"shop/echo/a"})
            await soon(lambda: a.names(EXPORT_STATUS) == {"shop/echo"})
            replica.process.kill()
            a.export(CART)
            assert b.names(CAPACITY) == {"shop/echo/a"}
            await asyncio.to_thread(replica.start)
            await soon(lambda: b.names(CAPACITY) == {"shop/echo/a", "shop/cart/a"}, within=20)
            assert [u for gateway in (a, b) for u in gateway.updates if u.removed] == []
            services = (await Admin(federation, replica.admin).get("/v1/services"))["services"]
            assert [s["service"] for s in services] == ["shop/cart", "shop/echo"]
    finally:
        status = await asyncio.to_thread(replica.process.stop)
    assert status == 0, replica.process.output()


async def test_a_controller_that_has_not_read_etcd_answers_nobody_instead_of_saying_empty(
    new_etcd: Callable[..., Etcd], federation_name: str, tmp_path: Path
) -> None:
    etcd = new_etcd()
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as first:
        identity = await enrol(federation, first.admin, "a", tmp_path / "a")
    await asyncio.to_thread(etcd.stop)
    at = {"grpc": Listen(HOST, free_port(HOST)), "admin": Listen(HOST, free_port(HOST))}
    stop = asyncio.Event()
    a = FakeGateway(ClusterId("a"), federation.domain, identity, [str(at["grpc"])])
    a.introduce()
    a.export()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_controller(settings(federation, etcd.address, **at), stop), name="controller")
        async with a.running():
            await soon(lambda: any("has not read the registry yet" in why for why in a.ended))
            admin = Admin(federation, str(at["admin"]))
            status, ready = await admin.ask("GET", "/readyz")
            assert status == 503 and "etcd was not read" in ready["missing"]["registry"]
            status, answer = await admin.ask("GET", "/v1/services")
            assert status == 503 and "not read the registry" in answer["error"]
            assert a.known == {}
            await asyncio.to_thread(etcd.start)
            await soon(lambda: a.names(CAPACITY) == {"shop/echo/a"})
        stop.set()


async def test_a_port_in_use_is_one_sentence_before_anything_is_started(federation_name: str, tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with asyncio.timeout(10):
        server = await asyncio.start_server(lambda _r, _w: None, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            for which in ("grpc", "admin"):
                taken = settings(federation, None, **{which: Listen(HOST, port)})
                with pytest.raises(InvalidInput, match=f"cannot listen on {HOST}:{port}.*in use.*another port"):
                    await run_controller(taken, asyncio.Event())
    assert not (federation.folder / "etcd").exists()


async def test_a_folder_without_a_federation_is_one_sentence(tmp_path: Path, federation_name: str) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    with pytest.raises(InvalidInput, match=r"description is missing.*isthmus init"):
        await run_controller(settings(federation, None, data_dir=tmp_path / "nothing"), asyncio.Event())
