"""Faults of the DNS server: workers killed, the supervisor killed, hostile clients."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from isthmus_dns.listening.addresses import Address, claim_addresses
from isthmus_dns.serving.supervisor import Supervisor
from isthmus_dns.serving.worker import WorkerSpec
from isthmus_dns.watching.traffic import Report
from isthmus_kit.tasks import own_tasks
from support.waiting import eventually
from unit.nameserver.builders import Feed, question, service

pytestmark = pytest.mark.anyio

HOST = "127.53.0.2"
QUERY = question("web.shop.svc.clusterset.local").to_wire()


async def answered(address: Address, patience: float = 5.0) -> bool:
    """Whether one query is answered from a fresh port, so that the kernel may choose any worker."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            if not done.done():
                done.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=(address.host, address.port))
    try:
        transport.sendto(QUERY)
        async with asyncio.timeout(patience):
            return (await done)[3] & 15 == 0
    except TimeoutError:
        return False
    finally:
        transport.close()


async def test_a_killed_worker_comes_back_and_the_others_go_on(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "zone.sock")
    feed.publish([service("shop/web")])
    (address,) = claim_addresses([Address(HOST, 0)])
    reports: dict[str, Report | None] = {}
    spec = WorkerSpec(feed=str(feed.path), listen=(address,), log_level="error")
    supervisor = Supervisor(spec, 2, reports.__setitem__)

    def all_synced() -> bool:
        return len(reports) == 2 and all(report is not None and report.synced for report in reports.values())

    async with feed.serving(), own_tasks() as tasks:
        tasks.start("supervisor", supervisor.keep())
        await eventually(all_synced, within=15.0)
        victim, other = supervisor.pids["0"], supervisor.pids["1"]

        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: supervisor.restarts == 1)
        # The kernel gives the dead worker's share to the other at once; the new one joins when it knows the zone.
        for _ in range(40):
            assert await answered(address)
        await eventually(lambda: supervisor.pids.get("0", victim) != victim and all_synced(), within=15.0)
        assert supervisor.pids["1"] == other
        for _ in range(40):
            assert await answered(address)


async def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    (address,) = claim_addresses([Address(HOST, 0)])
    program = (
        "import asyncio, sys; from pathlib import Path; from isthmus_dns import run;"
        f"asyncio.run(run(feed=Path({str(tmp_path / 'zone.sock')!r}), listen=({str(address)!r},), workers=1,"
        "started=lambda *_: print('up', flush=True)))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    async with asyncio.timeout(15):
        await process.stdout.readline()

    def bound() -> bool:
        try:
            claim_addresses([address])
        except Exception:  # noqa: BLE001 - any reason will do: somebody is there
            return True
        return False

    await eventually(bound, within=15.0)
    process.kill()
    await process.wait()
    await eventually(lambda: not bound(), within=10.0)
