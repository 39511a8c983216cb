"""The lines of docs/dns.md for other resolvers work: read from the page, given to the real programs, and asked."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from isthmus_dns import NameServer, ZoneSpec, run
from isthmus_dns.listening.addresses import Address
from isthmus_kit.tasks import own_tasks
from support.addresses import LoopbackNet
from support.process import Process
from support.resolvers import (
    SNIPPETS,
    UNBOUND_STRICT,
    NotInstalled,
    build_coredns,
    labels,
    places,
    program,
    snippet,
    start,
    unbound,
)
from support.resolvers_zone import all_asked, all_expected, answering, asked, services
from support.waiting import eventually
from unit.nameserver.builders import Feed, service

pytestmark = pytest.mark.anyio
TTL = 2
# What is tried elsewhere: on an island, because it needs port 53 or more than one network.
ELSEWHERE = {"systemd-resolved", "systemd-networkd", "delegation"}


def strict_unbound(lines: str, at: Address, folder: Path) -> Sequence[str | Path]:
    return unbound(UNBOUND_STRICT + lines, at, folder)


KINDS = {
    **{label: (label, configure) for label, configure in SNIPPETS.items()},
    "unbound-stub in its strictest settings": ("unbound-stub", strict_unbound),
}


class Surroundings(msgspec.Struct):
    """One server of ours, and every resolver that is installed here, pointed at it by the page's lines."""

    feed: Feed
    resolvers: dict[str, tuple[Address, Process]]
    absent: dict[str, str]

    def resolver(self, label: str) -> Address:
        if label in self.absent:
            pytest.skip(self.absent[label])
        return self.resolvers[label][0]


@pytest.fixture(scope="module")
async def around(tmp_path_factory: pytest.TempPathFactory, loopback_net: LoopbackNet) -> AsyncIterator[Surroundings]:
    build_coredns()  # before anything of ours waits for it
    folder = tmp_path_factory.mktemp("resolvers")
    feed = Feed(folder / "zone.sock")
    feed.publish(services())
    here = places({kind: configure for kind, (_, configure) in KINDS.items()}, loopback_net)
    listen = tuple(str(ours) for ours, _ in here.values())
    zone = ZoneSpec("clusterset.local", (NameServer("ns.dns.clusterset.local", (next(iter(here.values()))[0].host,)),))
    around = Surroundings(feed, {}, {})
    async with feed.serving(), own_tasks() as tasks:
        tasks.start("server", run(feed=feed.path, listen=listen, workers=0, zones=(zone,), ttl=TTL))
        for server, _ in here.values():
            await answering(server)
        try:
            for kind, (server, at) in here.items():
                label, configure = KINDS[kind]
                try:
                    process = start(configure, snippet(label, server), at, folder / kind, shared=True)
                    around.resolvers[kind] = at, process
                except NotInstalled as reason:
                    around.absent[kind] = str(reason)
            yield around
        finally:
            for _, process in around.resolvers.values():
                process.ask_to_stop()
            for _, process in around.resolvers.values():
                process.stop()


async def awake(around: Surroundings, label: str) -> Address:
    """The resolver, when it answers."""
    await answering(around.resolver(label), around.resolvers[label][1])
    return around.resolver(label)


def test_all_lines_of_the_page_are_tried() -> None:
    assert set(labels()) == SNIPPETS.keys() | ELSEWHERE


def test_a_missing_program_is_told_with_its_package() -> None:
    with pytest.raises(
        NotInstalled, match=r"^no-such-server is not installed here \(Debian package servers\); CI runs it$"
    ):
        program("no-such-server", "servers")


@pytest.mark.parametrize("label", KINDS)
async def test_every_name_is_resolved_with_the_lines_of_the_page(around: Surroundings, label: str) -> None:
    resolver = await awake(around, label)

    assert await all_asked(resolver) == all_expected()
    # The second time many answers come out of its cache.
    assert await all_asked(resolver) == all_expected()


async def test_a_change_is_seen_when_the_old_answer_has_expired(around: Surroundings) -> None:
    changed, missing = "changed.shop.svc.clusterset.local", "later.shop.svc.clusterset.local"
    around.feed.publish([service("shop/changed", ["10.5.0.1"])])
    here = {label: await awake(around, label) for label in KINDS if label not in around.absent}
    if not here:
        pytest.skip("; ".join(sorted(set(around.absent.values()))))

    async def seen(name: str) -> dict[str, str]:
        answers = await asyncio.gather(*(asked(resolver, name, "A") for resolver in here.values()))
        return dict(zip(here, answers, strict=True))

    async def is_seen(name: str, answer: str, within: float) -> None:
        async def all_see() -> bool:
            assert await seen(name) == dict.fromkeys(here, answer)
            return True

        await eventually(all_see, within, every=0.1)

    await is_seen(changed, "NOERROR | A 10.5.0.1", within=TTL + 2.5)
    assert await seen(missing) == dict.fromkeys(here, "NXDOMAIN")
    around.feed.publish([service("shop/changed", ["10.5.0.2"]), service("shop/later", ["10.5.0.3"])])
    await is_seen(changed, "NOERROR | A 10.5.0.2", within=TTL + 2.5)
    await is_seen(missing, "NOERROR | A 10.5.0.3", within=TTL + 2.5)  # it was asked for later
    around.feed.publish(removed=["shop/changed", "shop/later"])
    await is_seen(changed, "NXDOMAIN", within=TTL + 2.5)
