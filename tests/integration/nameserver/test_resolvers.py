"""Real resolvers in their strictest settings find every name through us."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.exception
import pytest

from isthmus_dns import run
from isthmus_dns.addresses import Address, claim_addresses
from isthmus_kit.tasks import own_tasks
from support.waiting import eventually
from unit.nameserver.builders import Feed, headless, host, question, service, shown

pytestmark = pytest.mark.anyio

HOST = "127.53.2.1"
ZONE = "clusterset.local"
ANSWERS = [
    ("web.shop.svc", "A", "NOERROR | A 10.1.2.3"),
    ("web.shop.svc", "AAAA", "NOERROR | AAAA fd00::3"),
    ("_http._tcp.web.shop.svc", "SRV", f"NOERROR | SRV 0 100 80 web.shop.svc.{ZONE}."),
    ("web.shop.svc", "SRV", f"NOERROR | SRV 0 100 80 web.shop.svc.{ZONE}."),
    ("db-39.east.db.shop.svc", "A", "NOERROR | A 10.9.0.39"),
    ("dns-version", "TXT", 'NOERROR | TXT "1.0.0"'),
    ("web.shop.svc", "HTTPS", "NOERROR"),
    ("_tcp.web.shop.svc", "A", "NOERROR"),
    ("shop.svc", "A", "NOERROR"),
    ("nope.shop.svc", "A", "NXDOMAIN"),
    ("a.b.c.nope.shop.svc", "A", "NXDOMAIN"),
]

UNBOUND = """
server:
    interface: {host}@{port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "iterator"
    local-zone: "local." nodefault
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
    aggressive-nsec: no
stub-zone:
    name: "clusterset.local"
    stub-addr: {server_host}@{server_port}
remote-control:
    control-enable: no
"""


@asynccontextmanager
async def unbound(server: Address, folder: Path) -> AsyncIterator[Address]:
    program = shutil.which("unbound") or shutil.which("unbound", path="/usr/sbin")
    if program is None:
        pytest.skip("unbound is not installed here")
    (address,) = claim_addresses([Address("127.53.2.2", 0)])
    text = UNBOUND.format(
        host=address.host, port=address.port, folder=folder, server_host=server.host, server_port=server.port
    )
    config = folder / "unbound.conf"
    config.write_text(text)
    with (folder / "unbound.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program, "-d", "-c", str(config), stderr=log)
    try:
        yield address
    finally:
        process.terminate()
        await process.wait()


async def test_unbound_in_its_strictest_settings_resolves_every_name(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "zone.sock")
    hosts = [host(f"10.9.0.{n}", f"db-{n}") for n in range(1, 40)]
    feed.publish([service("shop/web", ["10.1.2.3", "fd00::3"]), headless("shop/db", hosts)])
    up: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
    async with feed.serving(), own_tasks() as tasks:
        server = run(feed=feed.path, listen=(f"{HOST}:0",), workers=0, started=lambda to, _: up.set_result(to[0]))
        tasks.start("server", server)
        async with unbound(await up, tmp_path) as resolver:

            async def asked(name: str, rtype: str) -> str:
                query = question(f"{name}.{ZONE}", rtype, 1232)
                try:
                    response, _ = await dns.asyncquery.udp_with_fallback(
                        query, resolver.host, timeout=2.0, port=resolver.port
                    )
                except (OSError, dns.exception.Timeout) as error:
                    return str(error)
                return shown(response)

            async def awake() -> bool:
                return await asked("dns-version", "TXT") == 'NOERROR | TXT "1.0.0"'

            await eventually(awake, within=10.0)
            assert {(name, rtype): await asked(name, rtype) for name, rtype, _ in ANSWERS} == {
                (name, rtype): answer for name, rtype, answer in ANSWERS
            }
            everything = await asked("_http._tcp.db.shop.svc", "SRV")
            assert everything.count("SRV") == 39
