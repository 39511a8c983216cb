"""The hedging delay follows how long answers take, and changing it disturbs nobody."""

import asyncio
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
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, address, 9001).start()
        return runner


@pytest.mark.anyio
async def test_the_delay_follows_the_answers_and_no_connection_notices(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    near, far = Slow(), Slow()
    here, there = loopback_net.next(), loopback_net.next()
    runners = [await near.start(here), await far.start(there)]
    check = HealthCheck(CheckKind.TCP)
    url = f"http://{pair.vip}:8080/"
    try:
        async with pair.running(), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4)) as session:
            remote = service_of("echo", [(there, 9001)], locality="gcp/eu-west-4/b", check=check)
            pair.b.export(remote)
            pair.a.serve(pair.vip, service_of("echo", [(here, 9001)], check=check), [("b", remote)])
            await pair.a.serving("egress/shop/echo/8080")
            socket = await session.ws_connect(url + "talk")
            kept = pair.a.hedges

            async def ask(method: str = "GET") -> None:
                async with session.request(method, url) as answer:
                    assert answer.status == 200

            async def asked_until(delay_ms: int) -> None:
                async def there_yet() -> bool:
                    await asyncio.gather(*(ask() for _ in range(4)))
                    return kept.delays[delay_ms] == 1  # Envoy has told of an answer, and this was decided

                await eventually(there_yet, 60, 0.02)

            async def told(keys: set[str]) -> None:
                async def so() -> bool:
                    return {key for key in await pair.a.admin.runtime() if "hedge" in key} == keys

                await eventually(so, 5)

            async def served() -> bool:
                async with session.get(url) as answer:
                    return answer.status == 200

            await eventually(served, 10)
            await asked_until(START_MS)
            # This machine may be too busy to answer at once: what Envoy would tell on another.
            quick = [Answer(ECHO, START_MS, 1.0)] * 1000

            async def hear() -> bool:
                kept.take(quick)
                return kept.delay_ms(ECHO) == 30

            await eventually(hear, 20, 0.5)
            await told({f"isthmus.hedge.30.{ECHO}"})
            # Whoever is slow is not waited for: the other cluster answers ...
            near.delay_s, before = 2.0, far.asked
            async with asyncio.timeout(1.5):
                await ask()
            assert far.asked > before
            # ... but what may not be sent twice is not, and is waited for.
            before = far.asked
            await ask("POST")
            assert far.asked == before
            # When everybody is slow, nobody is asked twice for long.
            near.delay_s = far.delay_s = 0.06
            await asked_until(START_MS)
            await told(set())
            total = near.asked + far.asked
            for _ in range(20):
                await ask()
            assert near.asked + far.asked == total + 20
            await socket.send_str("still here")
            assert (await socket.receive(timeout=5)).data == "still here"
            await socket.close()
            assert not pair.a.nacks
            counts = await pair.a.admin.stats("listener_modified|egress.downstream_cx_drain_close")
            assert counts and not any(counts.values())
    finally:
        for runner in runners:
            await runner.cleanup()
