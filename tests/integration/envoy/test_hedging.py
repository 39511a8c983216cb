"""The hedging delay follows how long answers take, and changing it disturbs nobody."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from isthmus_core.model import CheckKind, HealthCheck
from isthmus_gateway.hedging import START_MS, Answer
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair, service_of
from support.waiting import eventually

ECHO = "service/shop/echo/8080"


class Slow:
    """A server that takes its time, counts what it is asked, and talks over WebSockets."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.asked = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        return web.Response(text="here")

    async def talk(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def start(self, address: str) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/talk", self.talk)
        app.router.add_route("*", "/{any:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, address, 9001).start()
        return runner


class Hedged:
    """A service here and in another cluster, whose gateways hedge what is asked of it."""

    def __init__(self, pair: Pair, session: aiohttp.ClientSession) -> None:
        self.near, self.far = Slow(), Slow()
        self.gateway = pair.a
        self.url = f"http://{pair.vip}:8080/"
        self._session = session

    async def ask(self, method: str = "GET") -> None:
        async with self._session.request(method, self.url) as answer:
            assert answer.status == 200

    async def served(self) -> bool:
        async with self._session.get(self.url) as answer:
            return answer.status == 200

    async def talking(self) -> aiohttp.ClientWebSocketResponse:
        return await self._session.ws_connect(self.url + "talk")

    async def asked_until(self, delay_ms: int) -> None:
        """Ask until Envoy has told of an answer, and this was decided."""

        async def decided() -> bool:
            await asyncio.gather(*(self.ask() for _ in range(4)))
            return self.gateway.hedges.delays[delay_ms] == 1

        await eventually(decided, 60, 0.02)

    async def hear_of_quick_answers(self) -> None:
        """What Envoy would tell on another machine: this one may be too busy to answer at once."""
        quick = [Answer(ECHO, START_MS, 1.0)] * 200

        async def heard() -> bool:
            self.gateway.hedges.take(quick)
            return self.gateway.hedges.delay_ms(ECHO) == 30

        await eventually(heard, 20, 0.5)
        await self.told({f"isthmus.hedge.30.{ECHO}"})

    async def told(self, keys: set[str]) -> None:
        """Until Envoy has been told just these."""

        async def so() -> bool:
            return {key for key in await self.gateway.admin.runtime() if "hedge" in key} == keys

        await eventually(so, 5)


@pytest.fixture
async def hedged(tmp_path: Path, loopback_net: LoopbackNet) -> AsyncIterator[Hedged]:
    pair = Pair(tmp_path, loopback_net)
    here, there = loopback_net.next(), loopback_net.next()
    check = HealthCheck(CheckKind.TCP)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4)) as session:
        found = Hedged(pair, session)
        runners = [await found.near.start(here), await found.far.start(there)]
        try:
            # Servers end last: a check of Envoy's that comes while they close would be left open.
            async with pair.running():
                remote = service_of("echo", [(there, 9001)], locality="gcp/eu-west-4/b", check=check)
                pair.b.export(remote)
                pair.a.serve(pair.vip, service_of("echo", [(here, 9001)], check=check), [("b", remote)])
                await pair.a.serving("egress/shop/echo/8080")
                await eventually(found.served, 10)
                yield found
        finally:
            for runner in runners:
                await runner.cleanup()


@pytest.mark.anyio
async def test_who_is_slow_is_not_waited_for_unless_nothing_may_be_sent_twice(hedged: Hedged) -> None:
    await hedged.asked_until(START_MS)
    await hedged.hear_of_quick_answers()
    hedged.near.delay_s, before = 2.0, hedged.far.asked
    async with asyncio.timeout(1.5):
        await hedged.ask()
    assert hedged.far.asked > before
    before = hedged.far.asked
    await hedged.ask("POST")
    assert hedged.far.asked == before


@pytest.mark.anyio
async def test_the_delay_follows_the_answers_and_no_connection_notices(hedged: Hedged) -> None:
    socket = await hedged.talking()
    await hedged.asked_until(START_MS)
    await hedged.hear_of_quick_answers()
    # When everybody is slow, nobody is asked twice for long.
    near, far = hedged.near, hedged.far
    near.delay_s = far.delay_s = 0.06
    await hedged.asked_until(START_MS)
    await hedged.told(set())

    async def nobody_is_asked_twice() -> bool:
        before = near.asked + far.asked
        for _ in range(20):
            await hedged.ask()
        return near.asked + far.asked == before + 20

    # Not at once on a machine so busy that what takes 60 ms now and then takes 250.
    await eventually(nobody_is_asked_twice, 20)
    await socket.send_str("still here")
    assert (await socket.receive(timeout=5)).data == "still here"
    await socket.close()
    assert not hedged.gateway.nacks
    counts = await hedged.gateway.admin.stats("listener_modified|egress.downstream_cx_drain_close")
    assert counts and not any(counts.values())
