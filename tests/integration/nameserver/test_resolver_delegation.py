"""The strictest real resolvers find every name: down from the root to our own domain, and in clusterset.local."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from isthmus_dns.addresses import Address
from support.resolvers import NotInstalled, Root, knot_resolver, named, snippet, unbound
from support.resolvers_internet import OURS, ZONES, Internet, internet
from support.resolvers_net import NETWORK, NoNamespace
from support.resolvers_zone import all_asked, all_expected, answering

pytestmark = [pytest.mark.anyio, pytest.mark.root]

# Everything that its manual lists as hardening, the letters of names at random (0x20), and not one label more than
# needed to each server, with no way back for servers that take empty non-terminals for missing names (RFC 9156).
UNBOUND = """
server:
    private-domain: "fed.example.com"
    harden-glue: yes
    harden-dnssec-stripped: yes
    harden-below-nxdomain: yes
    harden-referral-path: yes
    harden-algo-downgrade: yes
    harden-large-queries: yes
    harden-short-bufsize: yes
    use-caps-for-id: yes
    qname-minimisation: yes
    qname-minimisation-strict: yes
    aggressive-nsec: yes
    val-clean-additional: yes
    deny-any: yes
"""
BIND = """options {
    qname-minimization strict;
    synth-from-dnssec yes;
    require-server-cookie yes;
"""
KNOT = """
mode('strict')
"""


def strict_unbound(at: Address, folder: Path, root: Root) -> Sequence[str | Path]:
    return unbound(UNBOUND + snippet("unbound-stub", OURS[0]), at, folder, root)


def strict_bind(at: Address, folder: Path, root: Root) -> Sequence[str | Path]:
    lines = snippet("bind-static-stub", OURS[0])
    return named(lines.replace("options {\n", BIND, 1), at, folder, root)


def strict_knot(at: Address, folder: Path, root: Root) -> Sequence[str | Path]:
    return knot_resolver(KNOT + snippet("knot-resolver", OURS[0]), at, folder, root)


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
