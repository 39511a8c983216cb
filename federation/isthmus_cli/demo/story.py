"""The demo's story, step by step: join, export, call, break, recover; every request is counted."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from isthmus_cli.demo.documents import write_documents
from isthmus_cli.demo.load import HttpLoad, Load, TcpLoad
from isthmus_cli.demo.questions import Questions, ask
from isthmus_cli.demo.world import Place, World, wait_for
from isthmus_core.errors import IsthmusError, Unavailable

ECHO = "echo.shop.svc.clusterset.local"
GREETER = "greeter.shop.svc.clusterset.local"


class Report(msgspec.Struct):
    """What the demo counted; printed by `--output json`. Times in milliseconds, `seconds` in seconds.

    `unsent` are requests that this machine was too busy to send when they were due.
    """

    clusters: int = 0
    services: int = 0
    requests: int = 0
    lost: int = 0
    unsent: int = 0
    reconnected: int = 0
    failover_ms: dict[str, float] = {}
    dns_queries: int = 0
    dns_wrong: int = 0
    dns_ms: float = 0.0
    first_call_ms: float = 0.0
    seconds: float = 0.0
    errors: list[str] = []

    @property
    def good(self) -> bool:
        """Whether nothing was lost and no answer was wrong."""
        return self.lost == 0 and self.dns_wrong == 0


class Story:
    """Tells the story in a world of processes and fills in the report."""

    def __init__(self, world: World, say: Callable[[str], None]) -> None:
        """`say` shows one line to a person."""
        self.report = Report()
        self._world = world
        self._say = say
        self._near, self._second, self._third = world.places
        self._vip = ""
        self._greeter_vip = ""

    async def tell(self) -> None:
        """Everything, from the empty folder to the last recovery."""
        await self._found()
        await self._join()
        await self._export()
        await self._first_call()
        try:
            async with self._steady_load() as load:
                await self._break(load)
        except BaseExceptionGroup as group:
            # The load's tasks make a group of whatever ended the story; a person reads one sentence.
            raise next((one for one in group.exceptions if isinstance(one, IsthmusError)), group) from None
        world, report = self._world, self.report
        report.clusters, report.services = len(world.places), 2

    async def _found(self) -> None:
        world = self._world
        self._say("A federation needs one trust root and one controller (with its own etcd here).")
        await world.cli("init", "--domain", "demo.example", "--controller", f"{world.controller}:{world.ports.admin}")
        await world.start_controller()
        await self._controller_answers()

    async def _controller_answers(self) -> None:
        async def answers() -> bool:
            self._world.check_alive()
            with contextlib.suppress(Unavailable, TimeoutError):
                await self._world.cli("cluster", "list", "--output", "json")
                return True
            return False

        await wait_for("the controller", answers, 60)

    async def _join(self) -> None:
        world = self._world
        self._say("Three clusters join with one-time tokens; each makes its own key, which never leaves it.")
        await asyncio.gather(*(self._join_one(place) for place in world.places))
        await asyncio.gather(*(world.start_cluster(place) for place in world.places))
        for place in world.places:
            self._detail(
                f"{place.name:<8} {place.locality:<22} "
                f"gateway {place.address}:{world.ports.gateway}, DNS {place.dns}:{world.ports.dns}"
            )

    async def _join_one(self, place: Place) -> None:
        world = self._world
        token = world.home / f"{place.name}.token"
        await world.cli("cluster", "register", place.name, "--locality", place.locality, "--token-file", str(token))
        await world.cli("cluster", "join", "--token-file", str(token))
        write_documents(world.home / "clusters" / place.name / "services", place, world.ports)

    async def _export(self) -> None:
        world = self._world
        self._say("All three export shop/echo (HTTP); belgium and berlin export shop/greeter (TCP).")
        exports = [(place, "shop/echo") for place in world.places]
        exports += [(place, "shop/greeter") for place in (self._second, self._third)]
        await asyncio.gather(*(world.cli("export", service, "--cluster", place.name) for place, service in exports))
        addresses = await asyncio.gather(*(self._resolve(place, ECHO) for place in world.places))
        self._vip = addresses[0]
        self._greeter_vip = await self._resolve(self._near, GREETER)
        start = time.monotonic()
        await ask((self._near.dns, self._world.ports.dns), ECHO)
        self.report.dns_ms = round((time.monotonic() - start) * 1000, 2)
        self._say("Every cluster's DNS knows the name and answers with the address of its own gateway:")
        for place, address in zip(world.places, addresses, strict=True):
            self._detail(f"dig @{place.dns} -p {self._world.ports.dns} {ECHO} +short   -> {address}")

    async def _resolve(self, place: Place, name: str) -> str:
        found: list[str] = []

        async def known() -> bool:
            self._world.check_alive()
            if address := await ask((place.dns, self._world.ports.dns), name):
                found.append(address)
            return bool(found)

        await wait_for(f"{name} in the DNS of {place.name}", known, 30)
        return found[0]

    async def _first_call(self) -> None:
        load = TcpLoad("first", self._greeter_vip, self._world.ports.tcp, 1)
        word = ""

        async def answers() -> bool:
            nonlocal word
            start = time.monotonic()
            word = await load.probe()
            self.report.first_call_ms = round((time.monotonic() - start) * 1000, 1)
            return bool(word)

        await wait_for("the first answer across clusters", answers, 20)
        self._say(
            f"First call across clusters: {self._near.name} asked shop/greeter and {word} answered "
            f"in {self.report.first_call_ms} ms, through two Envoys over mutual TLS."
        )
        echo = HttpLoad("echo", self._vip, self._world.ports.http, 1)

        async def near_answers() -> bool:
            return await echo.probe() == self._near.name

        await wait_for("the nearest echo", near_answers, 20)
        self._detail(f"shop/echo is answered by {self._near.name} itself: the nearest healthy place comes first")

    @contextlib.asynccontextmanager
    async def _steady_load(self) -> AsyncIterator[HttpLoad]:
        http = HttpLoad("shop/echo", self._vip, self._world.ports.http, 200)
        tcp = TcpLoad("shop/greeter", self._greeter_vip, self._world.ports.tcp, 25)
        dns = Questions((self._near.dns, self._world.ports.dns), ECHO, self._vip, 50)
        self._say(
            "From now on clients in ireland send 200 HTTP requests, 25 TCP connections and 50 DNS queries a second."
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run(), name="load") for part in (http, tcp, dns)]
            try:
                await asyncio.sleep(0.5)
                yield http
                await asyncio.sleep(0.5)
            finally:
                for task in tasks:
                    task.cancel()
        self._count(http, tcp, dns)

    def _count(self, http: Load, tcp: TcpLoad, dns: Questions) -> None:
        report = self.report
        report.requests = len(http.seen) + len(tcp.seen)
        report.lost = len(http.lost) + len(tcp.lost)
        report.unsent = http.unsent + tcp.unsent
        report.reconnected = tcp.reconnected
        report.dns_queries, report.dns_wrong = dns.asked, len(dns.wrong)
        start = http.seen[0].due if http.seen else 0.0
        report.errors = [
            f"{load.name} at {one.due - start:.2f} s: {one.error}" for load in (http, tcp) for one in load.lost[:5]
        ] + dns.wrong[:5]

    async def _break(self, load: HttpLoad) -> None:
        world = self._world
        near, second, third = self._near, self._second, self._third
        sample = f"{near.name}-sample"

        async with self._fault(load, "backend killed", f"kill -9 of the echo in {near.name}"):
            world.signal(sample, signal.SIGKILL)
            await world.gone(sample)
        async with self._fault(
            load, "cluster killed", f"kill -9 of everything in {second.name}: gateway, Envoy, DNS, services"
        ):
            names = world.names_of(second)
            world.signal_cluster(second, signal.SIGKILL)
            await world.gone(*names)
        await self._recover(load, f"{second.name} comes back", second, world.start_cluster(second))
        async with self._fault(
            load, "cluster frozen", f"everything in {third.name} stops in the middle of its work (SIGSTOP)"
        ):
            world.signal_cluster(third, signal.SIGSTOP)
        world.signal_cluster(third, signal.SIGCONT)
        await self._recover(load, f"{third.name} goes on", third, world.cluster_ready(third))
        await self._recover(load, f"the echo of {near.name} is back", near, world.start_sample(near))
        async with self._fault(load, "backend frozen", f"the echo in {near.name} hangs (SIGSTOP)"):
            world.signal(sample, signal.SIGSTOP)
        world.signal(sample, signal.SIGCONT)
        await self._recover(load, f"the echo of {near.name} goes on", near, asyncio.sleep(0))
        async with self._fault(load, "controller killed", "kill -9 of the controller, its etcd goes with it"):
            world.signal("controller", signal.SIGKILL)
            await world.gone("controller")
        await world.start_controller()
        await self._controller_answers()
        self._detail("the controller is back, with everything that it knew")

    @contextlib.asynccontextmanager
    async def _fault(self, load: HttpLoad, name: str, what: str) -> AsyncIterator[None]:
        """Make a fault, watch for two seconds, and say how long the unluckiest request waited."""
        fault = time.monotonic()
        lost = len(load.lost)
        yield
        await asyncio.sleep(2.0)
        now = time.monotonic()
        waited = load.slowest(fault, now)
        self.report.failover_ms[name] = round(waited, 1)
        shares = load.answers_in(now - 0.5)
        who = ", ".join(f"{place} {count}" for place, count in sorted(shares.items())) or "nobody"
        self._say(f"{name}: {what}")
        self._detail(
            f"requests lost {len(load.lost) - lost}; the slowest waited {waited:.0f} ms; now answered by: {who}"
        )

    async def _recover(self, load: HttpLoad, what: str, place: Place, work: Awaitable[object]) -> None:
        start = time.monotonic()
        await work

        def serves() -> bool:
            self._world.check_alive()
            return load.answers_in(time.monotonic() - 0.3)[place.name] > 0

        await wait_for(f"traffic back at {place.name}", serves, 30)
        self._detail(f"{what}: it serves again after {time.monotonic() - start:.1f} s")

    def _detail(self, text: str) -> None:
        self._say(f"    {text}")
