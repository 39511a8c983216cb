"""What people and programs ask with (dig, delv, drill, glibc, Python, Go) finds our names; the check sees their way."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isthmus_dns.listening.addresses import Address
from support.process import Process
from support.resolvers import ROOT, NotInstalled, named, program, snippet, unbound
from support.resolvers_internet import OURS, PARENT, Internet, internet
from support.resolvers_net import NETWORK, NoNamespace
from support.resolvers_zone import answering, saying_something

pytestmark = [pytest.mark.anyio, pytest.mark.root]

WEB = "web.shop.svc.clusterset.local"
FED = "web.shop.svc.fed.example.com"
SRV = f"0 100 80 {WEB}."
RESOLVER = Address(f"{NETWORK}.10", 53)
# BIND with the lines of the page, that writes down what it is asked.
LOGGING = ("options {\n", "options {\n    querylog yes;\n")
PYTHON = """
import socket, sys
print(*sorted({at[4][0] for at in socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)}))
"""


@pytest.fixture(scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Internet]:
    try:
        async with internet(tmp_path_factory.mktemp("clients")) as made:
            yield made
    except (NotInstalled, NoNamespace) as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
async def resolver(net: Internet) -> Process:
    """A BIND that knows our zone, and the small Internet."""
    lines = snippet("bind-static-stub", OURS[0]).replace(*LOGGING)
    process = net.start("bind", lambda folder: named(lines, RESOLVER, folder, net.root))
    await answering(RESOLVER, process, net.island.inside)
    return process


def resolv_conf(folder: Path, text: str) -> dict[str, Path]:
    """A resolv.conf of its own for a program on the island."""
    path = folder / "resolv.conf"
    path.write_text(text)
    return {"/etc/resolv.conf": path}


def tool(name: str, package: str) -> str:
    try:
        return program(name, package)
    except NotInstalled as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("server", [OURS[0], RESOLVER], ids=["asking us", "asking a resolver"])
async def test_dig_and_drill_find_addresses_and_services(net: Internet, resolver: Process, server: Address) -> None:
    at = f"@{server.host}"
    dig, drill = tool("dig", "bind9-dnsutils"), tool("drill", "ldnsutils")
    for transport in ("+notcp", "+tcp", "+cookie", "+noedns", "+bufsize=512", "+dnssec"):
        assert net.island.run(dig, "+short", transport, at, WEB, "A") == "10.1.2.3\n"
    assert net.island.run(dig, "+short", at, f"_http._tcp.{WEB}", "SRV") == f"{SRV}\n"
    assert net.island.run(dig, "+short", at, "many.shop.svc.clusterset.local", "SRV").count("\n") == 40
    for transport in ("-u", "-t", "-D"):
        said = net.island.run(drill, transport, at, WEB, "AAAA")
        assert "rcode: NOERROR" in said and re.search(rf"^{WEB}\.\t\d+\tIN\tAAAA\tfd00::3$", said, re.MULTILINE)


async def test_dig_and_drill_walk_down_from_the_root_to_us(net: Internet, resolver: Process, tmp_path: Path) -> None:
    dig, drill = tool("dig", "bind9-dnsutils"), tool("drill", "ldnsutils")
    # The addresses of name servers it asks its resolver for.
    files = resolv_conf(tmp_path, f"nameserver {RESOLVER.host}\n")
    trace = net.island.run(dig, "+trace", "+nodnssec", f"@{PARENT}", FED, "A", files=files)
    assert re.search(rf"^{FED}\.\s+\d+\s+IN\s+A\s+10\.1\.2\.3$", trace, re.MULTILINE), trace
    assert any(f"from {at.host}#53" in trace for at in OURS)

    hints = tmp_path / "root.hints"
    hints.write_text(f". 3600 IN NS a.root.\na.root. 3600 IN A {PARENT}\n")
    trace = net.island.run(drill, "-T", "-r", hints, FED, "A", files=files)
    assert re.search(rf"^{FED}\.\s+\d+\s+IN\s+A\s+10\.1\.2\.3$", trace, re.MULTILINE), trace


async def test_delv_finds_our_answers_rightly_unsigned(net: Internet, resolver: Process, tmp_path: Path) -> None:
    delv = tool("delv", "bind9-dnsutils")
    number, _, digest = net.root.key.rpartition(" ")
    anchors = tmp_path / "anchors"
    anchors.write_text(f'trust-anchors {{ "." static-ds {number} "{digest}"; }};\n')
    ask = (delv, "-a", anchors, f"@{RESOLVER.host}")

    said = net.island.run(*ask, FED, "A")
    assert "; unsigned answer" in said and "10.1.2.3" in said
    assert f"{WEB}." in net.island.run(delv, "-i", f"@{RESOLVER.host}", WEB, "A")
    assert "ncache nxdomain" in net.island.run(*ask, f"nope.{FED}", "A").replace("negative response, ", "")


@pytest.mark.parametrize("options", ["", "options edns0 trust-ad\n", "options use-vc\n", "options single-request\n"])
@pytest.mark.parametrize("server", [OURS[0], RESOLVER], ids=["asking us", "asking a resolver"])
async def test_glibc_and_python_find_the_addresses(
    net: Internet, resolver: Process, server: Address, options: str, tmp_path: Path
) -> None:
    files = resolv_conf(tmp_path, f"nameserver {server.host}\n{options}")

    def getent(database: str, name: str) -> set[str]:
        return {line.split()[0] for line in net.island.run("getent", database, name, files=files).splitlines()}

    for name in (WEB, FED, WEB.upper(), f"{WEB}."):
        assert getent("ahostsv4", name) == {"10.1.2.3"}
        assert getent("ahostsv6", name) == {"fd00::3"}
    assert getent("ahostsv4", "db.shop.svc.clusterset.local") == {"10.9.0.1", "10.9.0.2", "10.9.0.4"}
    assert getent("ahostsv4", f"nope.{WEB}") == getent("ahostsv4", "shop.svc.clusterset.local") == set()
    assert net.island.run(sys.executable, "-c", PYTHON, WEB, files=files) == "10.1.2.3 fd00::3\n"


@pytest.fixture(scope="module")
def go_lookup() -> Path:
    """A program with Go's own resolver; to build it takes long once, so it is kept."""
    source = ROOT / "tests" / "support" / "resolvers_lookup.go"
    built = ROOT / ".tools" / "bin" / f"lookup-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not built.exists():
        go = shutil.which("go")
        if go is None:
            pytest.skip("go is not installed here, so Go's resolver cannot be tried")
        fresh = built.with_suffix(f".{os.getpid()}")
        env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
        subprocess.run([go, "build", "-o", fresh, source], env=env, check=True, capture_output=True, timeout=240)
        fresh.replace(built)
    return built


@pytest.mark.parametrize("server", [OURS[0], RESOLVER], ids=["asking us", "asking a resolver"])
async def test_go_finds_addresses_and_services(
    net: Internet, resolver: Process, server: Address, go_lookup: Path, tmp_path: Path
) -> None:
    files = resolv_conf(tmp_path, f"nameserver {server.host}\n")

    assert net.island.run(go_lookup, WEB, files=files).split() == ["10.1.2.3", "fd00::3", f"{WEB}.", "80"]
    assert "no such host" in net.island.run(go_lookup, f"nope.{WEB}", files=files)
    assert "no such host" in net.island.run(go_lookup, "shop.svc.clusterset.local", files=files)


def checked(net: Internet, name: str, resolv_conf: Path, *more: str) -> list[dict[str, Any]]:
    """What `isthmus dns check` finds wrong on the island."""
    command = Path(sys.executable).with_name("isthmus")
    words = ("--server", str(OURS[0]), "--resolv-conf", str(resolv_conf), "--output", "json", *more)
    found = json.loads(net.island.run(command, "dns", "check", name, *words))
    return [one for one in found if one["level"] != "ok"]


def asked_since(resolver: Process, length: int, ending: str) -> list[str]:
    """The names with this ending that BIND was asked for, in order."""
    names = re.findall(r"query: (\S+) IN A ", resolver.output()[length:])
    return [name for name in names if ending in name]


async def test_the_check_counts_the_names_that_glibc_asks_for_first(
    net: Internet, resolver: Process, tmp_path: Path
) -> None:
    domains = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    text = f"nameserver {RESOLVER.host}\nsearch {' '.join(domains)}\noptions ndots:5\n"
    files = resolv_conf(tmp_path, text)
    before = len(resolver.output())

    assert net.island.run("getent", "ahostsv4", WEB, files=files).split()[0] == "10.1.2.3"

    assert asked_since(resolver, before, WEB) == [*(f"{WEB}.{domain}" for domain in domains), WEB]
    (found,) = checked(net, WEB, files["/etc/resolv.conf"])
    assert found["sentence"] == f"asks 3 other names first: {WEB} has 4 dots, ndots is 5"

    before = len(resolver.output())
    assert net.island.run("getent", "ahostsv4", f"{WEB}.", files=files).split()[0] == "10.1.2.3"
    assert asked_since(resolver, before, WEB) == [WEB]
    files = resolv_conf(tmp_path, text.replace("ndots:5", "ndots:4"))
    before = len(resolver.output())
    assert net.island.run("getent", "ahostsv4", WEB, files=files).split()[0] == "10.1.2.3"
    assert asked_since(resolver, before, WEB) == [WEB]
    assert checked(net, WEB, files["/etc/resolv.conf"]) == []


async def test_the_check_sees_that_the_search_path_leads_elsewhere(
    net: Internet, resolver: Process, tmp_path: Path
) -> None:
    files = resolv_conf(tmp_path, f"nameserver {RESOLVER.host}\nsearch corp.example.com\noptions ndots:5\n")

    assert net.island.run("getent", "ahostsv4", WEB, files=files).split()[0] == "10.66.6.6"

    found = checked(net, WEB, files["/etc/resolv.conf"])
    assert [one["level"] for one in found] == ["error", "warning"]
    assert found[0]["sentence"].startswith(f"answers {WEB}.corp.example.com with 10.66.6.6: the search path")


UNTOLD = {
    "unbound": (unbound, "unbound-stub", 'domain-insecure: "clusterset.local"'),
    "bind": (named, "bind-static-stub", 'validate-except { "clusterset.local"; };'),
}


@pytest.mark.parametrize("kind", UNTOLD)
async def test_the_check_sees_that_a_resolver_expects_signatures(net: Internet, kind: str, tmp_path: Path) -> None:
    configure, label, line = UNTOLD[kind]
    lines = snippet(label, OURS[0])
    assert line in lines
    at = Address(f"{NETWORK}.{list(UNTOLD).index(kind) + 20}", 53)
    try:
        process = net.start(f"untold {kind}", lambda folder: configure(lines.replace(line, ""), at, folder, net.root))
    except NotInstalled as reason:
        pytest.skip(str(reason))
    await saying_something(at, process, net.island.inside)

    (found,) = checked(net, WEB, tmp_path / "no resolv.conf", "--resolver", at.host)

    assert found["level"] == "error"
    assert found["sentence"].startswith("takes clusterset.local for forged")


async def test_the_check_sees_that_a_resolver_asks_the_root_for_our_names(net: Internet, tmp_path: Path) -> None:
    at = Address(f"{NETWORK}.25", 53)
    try:
        process = net.start("stranger", lambda folder: unbound("", at, folder, net.root))
    except NotInstalled as reason:
        pytest.skip(str(reason))
    await saying_something(at, process, net.island.inside)

    (found,) = checked(net, WEB, tmp_path / "no resolv.conf", "--resolver", at.host)

    assert found["level"] == "error"
    assert found["sentence"] == "does not know clusterset.local: the answer is that of ."
    assert "docs/dns.md" in found["mend"]
