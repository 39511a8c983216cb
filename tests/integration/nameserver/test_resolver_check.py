"""`isthmus dns check` says what is wrong with real resolvers that are configured wrongly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from isthmus_dns import run
from isthmus_dns.checking.check import Finding, Level
from isthmus_dns.checking.prober import check
from isthmus_dns.listening.addresses import Address, claim_addresses
from isthmus_kit.tasks import own_tasks
from support.addresses import LoopbackNet
from support.process import Process
from support.resolvers import (
    Configure,
    NotInstalled,
    build_coredns,
    coredns,
    dnsmasq,
    knot_resolver,
    named,
    place,
    snippet,
    start,
    unbound,
)
from support.resolvers_zone import answering, asked, saying_something, services
from support.waiting import eventually
from unit.nameserver.builders import Feed, service

pytestmark = pytest.mark.anyio

NAME = "web.shop.svc.clusterset.local"
NO_RESOLV_CONF = Path("/nowhere/resolv.conf")
STRIPPED = (Level.ERROR, "answers NOERROR, the server 10.1.2.3")
KEPT = (Level.WARNING, "keeps answers for")
KEPT_MISSING = (Level.WARNING, "keeps missing names for")

Lines = Callable[[Address, Address], str]
"""The configuration, of where our server and where the resolver itself answers."""


class Case(msgspec.Struct, frozen=True):
    """One way to be wrong, and what the check has to say about it."""

    configure: Configure
    lines: Lines
    findings: tuple[tuple[Level, str], ...]


def page(label: str, *changes: tuple[str, str]) -> Lines:
    """The lines of the page with something changed in them."""

    def lines(server: Address, _: Address) -> str:
        text = snippet(label, server)
        for old, new in changes:
            assert old in text, f"the lines {label} have no {old!r}"
            text = text.replace(old, new)
        return text

    return lines


LOOPS: dict[str, Configure] = {
    "unbound-forward": unbound,
    "bind-forward": named,
    "dnsmasq": dnsmasq,
    "coredns": coredns,
    "knot-resolver": knot_resolver,
}
CASES = {
    "dnsmasq that knows nothing of us": Case(dnsmasq, lambda *_: "", ((Level.ERROR, "refuses to answer web.shop"),)),
    "Unbound that strips private addresses": Case(
        unbound, page("unbound-stub", ('private-domain: "clusterset.local"', "")), (STRIPPED,)
    ),
    "dnsmasq that strips private addresses": Case(
        dnsmasq, page("dnsmasq", ("rebind-domain-ok=/clusterset.local/", "")), (STRIPPED,)
    ),
    "Unbound that keeps everything for long": Case(
        unbound, page("unbound-stub", ("server:", "server:\n    cache-min-ttl: 300")), (KEPT, KEPT_MISSING)
    ),
    "BIND that keeps everything for long": Case(
        named,
        page("bind-forward", ("options {", "options {\n    min-cache-ttl 60;\n    min-ncache-ttl 60;")),
        (KEPT, KEPT_MISSING),
    ),
    "dnsmasq that keeps everything for long": Case(
        dnsmasq, page("dnsmasq", ("server=", "min-cache-ttl=300\nserver=")), (KEPT, KEPT_MISSING)
    ),
    "CoreDNS that keeps missing names for long": Case(
        coredns, page("coredns", ("denial 9984 5 0", "denial 9984 3600 300")), (KEPT_MISSING,)
    ),
    "CoreDNS with the shortest times of its own": Case(
        coredns, page("coredns", ("success 9984 5 0", "success 9984 3600 30")), (KEPT,)
    ),
    "Knot Resolver that keeps everything for long": Case(
        knot_resolver, page("knot-resolver", ("policy.add", "cache.min_ttl(300)\npolicy.add")), (KEPT, KEPT_MISSING)
    ),
}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    return Feed(tmp_path_factory.mktemp("feed") / "zone.sock")


@pytest.fixture(scope="module")
async def server(feed: Feed, loopback_net: LoopbackNet) -> AsyncIterator[Address]:
    build_coredns()  # before anything of ours waits for it
    feed.publish(services())
    (server,) = claim_addresses([Address(loopback_net.next(), 0)])
    async with feed.serving(), own_tasks() as tasks:
        tasks.start("server", run(feed=feed.path, listen=(str(server),), workers=0))
        await answering(server)
        yield server


@contextlib.contextmanager
def running(configure: Configure, lines: str, at: Address, folder: Path) -> Iterator[Process]:
    try:
        process = start(configure, lines, at, folder)
    except NotInstalled as reason:
        pytest.skip(str(reason))
    try:
        yield process
    finally:
        process.kill()


async def findings(server: Address, resolver: Address, name: str = NAME) -> list[Finding]:
    """What the check finds wrong."""
    found = await check(str(server), name, resolv_conf=NO_RESOLV_CONF, resolvers=(str(resolver),))
    return [one for one in found if one.level is not Level.OK]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_what_is_wrong_with_a_resolver_is_said(
    server: Address, case: Case, tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    at = place(case.configure, loopback_net)
    with running(case.configure, case.lines(server, at), at, tmp_path / "resolver") as process:
        await saying_something(at, process)
        wrong = await findings(server, at)

    assert [(one.level, one.about) for one in wrong] == [(level, f"resolver {at}") for level, _ in case.findings]
    for one, (_, sentence) in zip(wrong, case.findings, strict=True):
        assert sentence in one.sentence
        assert one.mend


async def test_resolvers_that_forward_to_themselves_are_named(
    server: Address, tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    found: dict[str, list[Finding]] = {}

    async def look(label: str, at: Address, process: Process) -> None:
        await saying_something(at, process)
        found[label] = await findings(server, at)

    with contextlib.ExitStack() as stack:
        started: list[tuple[str, Address, Process]] = []
        for label, configure in LOOPS.items():
            at = place(configure, loopback_net)
            with contextlib.suppress(NotInstalled):
                process = start(configure, snippet(label, at), at, tmp_path / label)
                stack.callback(process.kill)  # one that asks itself takes its time to end
                started.append((label, at, process))
        await asyncio.gather(*(look(*one) for one in started))

    if not started:
        pytest.skip("none of the resolvers is installed here; CI runs them")
    for label, at, _ in started:
        (one,) = found[label]
        assert (label, one.level, one.about) == (label, Level.ERROR, f"resolver {at}")
        assert "is there but fails to resolve" in one.sentence
        assert "forwarding loop" in one.mend


async def test_a_circle_of_two_resolvers_is_seen_from_each(
    server: Address, tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    one, other = claim_addresses([Address(loopback_net.next(), 0), Address(loopback_net.next(), 0)])
    with (
        running(unbound, snippet("unbound-forward", other), one, tmp_path / "one") as first,
        running(dnsmasq, snippet("dnsmasq", one), other, tmp_path / "other") as second,
    ):
        await saying_something(one, first)
        await saying_something(other, second)
        found = await check(str(server), NAME, resolv_conf=NO_RESOLV_CONF, resolvers=(str(one), str(other)))

    wrong = [finding for finding in found if finding.level is not Level.OK]
    assert [finding.about for finding in wrong] == [f"resolver {one}", f"resolver {other}"]
    assert all(
        "is there but fails to resolve" in finding.sentence and "forwarding loop" in finding.mend for finding in wrong
    )


async def test_a_service_that_is_missing_for_a_resolver_only_is_named(
    server: Address, feed: Feed, tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    name = "late.shop.svc.clusterset.local"
    (at,) = claim_addresses([Address(loopback_net.next(), 0)])
    lines = page("unbound-stub", ("server:", "server:\n    cache-min-ttl: 300"))(server, at)
    with running(unbound, lines, at, tmp_path / "resolver") as process:
        await answering(at, process)
        assert await asked(at, name, "A") == "NXDOMAIN"
        feed.publish([service("shop/late", ["10.5.5.5"])])

        async def there() -> bool:
            return await asked(server, name, "A") == "NOERROR | A 10.5.5.5"

        await eventually(there)
        (wrong,) = await findings(server, at, name)

    assert wrong.sentence == f"still says that {name} does not exist"
    assert "in its negative cache for up to" in wrong.mend


async def test_a_server_that_lets_everything_be_kept_for_long_is_named(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    at = place(named, loopback_net)
    (tmp_path / "zone").write_text(f"""
$TTL 3600
@            SOA ns.dns hostmaster 1 7200 1800 86400 7200
@            NS  ns.dns
ns.dns       A   {at.host}
dns-version  TXT 1.0.0
web.shop.svc A   10.1.2.3
""")
    zone = f'options {{\n}};\nzone "clusterset.local" {{ type primary; file "{tmp_path}/zone"; }};\n'
    with running(named, zone, at, tmp_path / "named") as process:
        await answering(at, process)
        wrong = await findings(at, at)

    assert [one.sentence for one in wrong] == [
        "lets answers be kept for 3600 s: clients go on to what is gone for as long",
        "lets missing names be kept for 3600 s: a new service is not seen for as long",
    ]
