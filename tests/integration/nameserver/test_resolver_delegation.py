"""The strictest real resolvers find every name: down from the root to our own domain, and in clusterset.local."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from isthmus_dns.listening.addresses import Address
from support.resolvers import (
    BIND_STRICT,
    KNOT_STRICT,
    UNBOUND_STRICT,
    NotInstalled,
    Root,
    Systemd,
    knot_resolver,
    named,
    snippet,
    systemd_resolved,
    unbound,
)
from support.resolvers_internet import OURS, TTL_S, ZONES, Internet, internet
from support.resolvers_net import NETWORK, NoNamespace
from support.resolvers_zone import all_asked, all_expected, answering, asked
from support.waiting import eventually
from unit.nameserver.builders import service

pytestmark = [pytest.mark.anyio, pytest.mark.root]


def strict_unbound(at: Address, folder: Path, root: Root) -> Sequence[str | Path]:
    return unbound(UNBOUND_STRICT + snippet("unbound-stub", OURS[0]), at, folder, root)


def strict_bind(at: Address, folder: Path, root: Root) -> Sequence[str | Path]:
    lines = snippet("bind-static-stub", OURS[0])
    return named(lines.replace("options {\n", BIND_STRICT, 1), at, folder, root)


def strict_knot(at: Address, folder: Path, root: Root) -> Sequence[str | Path]:
    return knot_resolver(KNOT_STRICT + snippet("knot-resolver", OURS[0]), at, folder, root)


STRICT: dict[str, tuple[Callable[[Address, Path, Root], Sequence[str | Path]], Address]] = {
    "unbound": (strict_unbound, Address(f"{NETWORK}.10", 53)),
    "bind": (strict_bind, Address(f"{NETWORK}.11", 53)),
    "knot-resolver": (strict_knot, Address(f"{NETWORK}.12", 53)),
}


@pytest.fixture(scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Internet]:
    try:
        async with internet(tmp_path_factory.mktemp("internet")) as made:
            yield made
    except (NotInstalled, NoNamespace) as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("kind", STRICT)
async def test_a_strict_resolver_finds_every_name(net: Internet, kind: str) -> None:
    configure, at = STRICT[kind]
    try:
        process = net.start(kind, lambda folder: configure(at, folder, net.root))
    except NotInstalled as reason:
        pytest.skip(str(reason))
    await answering(at, process, net.island.inside)

    for zone in ZONES:
        assert await all_asked(at, zone, net.island.inside) == all_expected(zone)


BUS = """<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
  </policy>
</busconfig>
"""
STUB = Address("127.0.0.53", 53)


@pytest.fixture(scope="module")
async def resolved(net: Internet) -> Systemd:
    """systemd-resolved with the lines of the page; the link's own server is an Unbound that knows nothing of ours."""
    try:
        systemd = systemd_resolved()
        at = Address(f"{NETWORK}.20", 53)
        office = net.start("office", lambda folder: unbound("", at, folder, net.root))
    except NotInstalled as reason:
        pytest.skip(str(reason))
    (net.folder / "bus.conf").write_text(BUS)
    lines = net.folder / "clusterset.conf"
    lines.write_text(snippet("systemd-resolved", OURS[0]))
    places = "mkdir -p /run/dbus /run/systemd/resolved.conf.d"
    net.island.run("sh", "-c", f"{places} && cp {lines} /run/systemd/resolved.conf.d/")
    net.start("bus", lambda _: [systemd.bus, f"--config-file={net.folder / 'bus.conf'}", "--nofork", "--nopidfile"])
    await eventually(lambda: "run" in net.island.run("ls", "/run/dbus/system_bus_socket"), within=5.0)
    process = net.start("resolved", lambda _: [systemd.resolved], dict(systemd.env))
    await answering(STUB, process, net.island.inside)
    await eventually(lambda: office.says("start of service"), within=5.0)
    return systemd


async def test_systemd_resolved_asks_us_for_our_names_and_for_no_others(net: Internet, resolved: Systemd) -> None:
    # What networkd makes of the page's lines for the link, told by hand.
    link = dict(re.findall(r"^(\w+)=(.+)$", snippet("systemd-networkd", OURS[0]), re.MULTILINE))
    for command in (("dns", "eth0", f"{NETWORK}.20"), ("domain", "eth0", link["Domains"])):
        assert net.island.run(resolved.resolvectl, *command, env=resolved.env) == ""
    inside = net.island.inside
    before = net.answered("REFUSED")

    assert await all_asked(STUB, inside=inside) == all_expected()
    assert await asked(STUB, "www.example.com", "A", inside) == "NOERROR | A 198.51.100.7"
    assert await asked(STUB, "nope.example.com", "A", inside) == "NXDOMAIN"
    assert net.answered("REFUSED") == before


async def test_systemd_resolved_sees_a_change_when_the_old_answer_has_expired(net: Internet, resolved: Systemd) -> None:
    name, inside = "changed.shop.svc.clusterset.local", net.island.inside
    for addresses in (["10.5.0.1"], ["10.5.0.2"]):
        net.feed.publish([service("shop/changed", addresses)])

        async def seen(address: str = addresses[0]) -> bool:
            return await asked(STUB, name, "A", inside) == f"NOERROR | A {address}"

        await eventually(seen, within=TTL_S + 2.5, every=0.1)
