"""A small Internet on an island: a signed root, `example.com`, and in it a delegation of `fed.example.com` to us."""

import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from isthmus_dns.listening.addresses import Address
from support.process import Process
from support.resolvers import Root, program, server_command, snippet
from support.resolvers_net import NETWORK, Island
from support.resolvers_zone import answering, services
from unit.nameserver.builders import Feed

PARENT = f"{NETWORK}.9"
OURS = (Address(f"{NETWORK}.1", 53), Address(f"{NETWORK}.2", 53), Address("2001:db8::2", 53))
"""The addresses of docs/dns.md."""
ZONES = ("clusterset.local", "fed.example.com")
TTL_S = 2
WEB = f"{OURS[0].host}:9153"

ROOT_ZONE = f"""
$TTL 3600
.               SOA a.root. hostmaster.root. 1 3600 600 86400 60
.               NS  a.root.
a.root.         A   {PARENT}
example.com.    NS  ns.example.com.
ns.example.com. A   {PARENT}
"""
EXAMPLE_ZONE = f"""
$TTL 3600
@       SOA ns hostmaster 1 3600 600 86400 60
@       NS  ns
ns      A   {PARENT}
www     A   198.51.100.7
{{delegation}}
; What a company has for its intranet, and what answers every name that a client makes longer by its search path.
*.corp  A   10.66.6.6
"""
PARENT_CONF = """
options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    lock-file none;
    listen-on port 53 {{ {host}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    notify no;
    dnssec-validation no;
    empty-zones-enable no;
}};
controls {{ }};
zone "." {{ type primary; file "root.signed"; }};
zone "example.com" {{ type primary; file "example.zone"; }};
"""


class Internet:
    """What runs on the island: the parent's server, ours, and every resolver that a test starts."""

    def __init__(self, island: Island, feed: Feed, root: Root, folder: Path) -> None:
        self.island = island
        self.feed = feed
        self.root = root
        self.folder = folder
        self._processes: list[Process] = []

    def start(
        self, name: str, configure: Callable[[Path], Sequence[str | Path]], env: dict[str, str] | None = None
    ) -> Process:
        """Start a program on the island, with a folder of its own; it ends with the island."""
        folder = self.folder / name
        folder.mkdir()
        command = self.island.command(*configure(folder))
        process = Process(command, folder / "log", env, shared=True).start()
        self._processes.append(process)
        return process

    def answered(self, rcode: str) -> int:
        """How many questions our server has answered so."""
        with self.island.inside():
            sock = socket.create_connection((OURS[0].host, 9153), timeout=5)
        with sock:
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        counts = re.findall(rf'^isthmus_dns_responses_total{{.*rcode="{rcode}".*}} (\S+)$', text, re.MULTILINE)
        return sum(int(float(count)) for count in counts)

    def end(self) -> None:
        for process in self._processes:
            process.ask_to_stop()
        for process in self._processes:
            process.stop()


def sign_root(folder: Path) -> str:
    """Write the signed root zone; its key as a DS record."""
    (folder / "root.zone").write_text(ROOT_ZONE)

    def ran(tool: str, *words: str) -> str:
        command = [program(tool, "bind9-utils"), *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=True).stdout

    key = ran("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", ".").strip()
    ran("dnssec-signzone", "-q", "-S", "-z", "-o", ".", "-f", "root.signed", "root.zone")
    return ran("dnssec-dsfromkey", "-2", f"{key}.key").split(" DS ")[1].strip()


def our_command(folder: Path) -> Sequence[str | Path]:
    """Our server as docs/dns.md starts it, on all its addresses, with the feed in this folder."""
    name, *words = server_command()
    words[words.index("--listen") + 1] = ",".join(map(str, OURS))
    more = ("--data-dir", folder, "--ttl", str(TTL_S), "--web-listen", WEB)
    return [Path(sys.executable).with_name(name), *words, *more]


@asynccontextmanager
async def internet(folder: Path) -> AsyncIterator[Internet]:
    """The island with the parent and us; NotInstalled or NoNamespace say why it cannot be."""
    parent = folder / "parent"
    parent.mkdir()
    (parent / "example.zone").write_text(EXAMPLE_ZONE.format(delegation=snippet("delegation", OURS[0])))
    root = Root(PARENT, sign_root(parent))
    config = parent / "named.conf"
    config.write_text(PARENT_CONF.format(folder=parent, host=PARENT))
    named = program("named", "bind9")
    feed = Feed(folder / "zone.sock")
    feed.publish(services())
    # systemd-resolved becomes this user.
    users = f"{Path('/etc/passwd').read_text().rstrip()}\nsystemd-resolve:x:990:990::/:/usr/sbin/nologin\n"
    with Island(folder, {"/etc/passwd": users}) as island:
        net = Internet(island, feed, root, folder)
        async with feed.serving():
            try:
                net.start("authority", lambda _: [named, "-g", "-n", "1", "-c", config])
                ours = net.start("ours", lambda _: our_command(folder))
                await answering(OURS[0], ours, island.inside)
                yield net
            finally:
                net.end()
