"""Real resolvers, configured with the lines that docs/dns.md tells people to write, on loopback and high ports.

Each program gets a folder, an address, and the lines; what else its configuration needs here (where it listens, that it
stays in the foreground, that it never asks the Internet) is added around them.
"""

import functools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from isthmus_dns.listening.addresses import Address
from support.addresses import LoopbackNet, free_port
from support.process import Process

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "dns.md"


class Root(msgspec.Struct, frozen=True):
    """The root of the name space as resolvers know it: one server, and the key (DS) that it is signed with."""

    server: str
    key: str


NOWHERE = Root("127.0.0.254", "20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D")
"""The real key, and nobody: a test never asks the real servers, and who validates must be told about our zones."""

Configure = Callable[[str, Address, Path], Sequence[str | Path]]
"""Write a configuration with these lines for this address into this folder; the command that runs it."""


class NotInstalled(Exception):
    """The program is not on this machine; the sentence says which package has it."""


def snippet(label: str, server: Address) -> str:
    """The lines under this label in docs/dns.md, with the address of the server under test in them."""
    found = re.findall(rf"^```[\w-]+ {re.escape(label)}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"docs/dns.md has {len(found)} blocks labelled {label!r}"
    return str(found[0]).replace("10.0.0.53", server.host).replace("5353", str(server.port))


def labels() -> list[str]:
    """The labels of all blocks in docs/dns.md."""
    return re.findall(r"^```[\w-]+ (\S+)$", PAGE.read_text(), re.MULTILINE)


def server_command() -> list[str]:
    """How docs/dns.md starts our server for a zone of one's own."""
    (found,) = re.findall(r"^\$ (isthmus dns (?:.*\\\n)*.*--zone (?:.*\\\n)*.*)\n", PAGE.read_text(), re.MULTILINE)
    return shlex.split(found.replace("\\\n", " "))


def program(name: str, package: str) -> str:
    """Where the program lies: servers are often outside of an ordinary user's PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise NotInstalled(f"{name} is not installed here (Debian package {package}); CI runs it")
    return found


def root_hints(root: Root, folder: Path) -> Path:
    hints = folder / "root.hints"
    hints.write_text(f". 3600 IN NS a.root.\na.root. 3600 IN A {root.server}\n")
    return hints


def unbound(lines: str, at: Address, folder: Path, root: Root = NOWHERE) -> Sequence[str | Path]:
    binary = program("unbound", "unbound")
    hints = root_hints(root, folder)
    config = folder / "unbound.conf"
    config.write_text(f"""
server:
    interface: {at.host}@{at.port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    num-threads: 1
    access-control: 0.0.0.0/0 allow
    do-not-query-localhost: no
    do-ip6: no
    root-hints: "{hints}"
    trust-anchor: ". DS {root.key}"
    # What careful people have, and what would take our answers away.
    private-address: 10.0.0.0/8
    private-address: fd00::/8
remote-control:
    control-enable: no
{lines}
""")
    return [binary, "-d", "-c", config]


def named(lines: str, at: Address, folder: Path, root: Root = NOWHERE, port: str = "") -> Sequence[str | Path]:
    """BIND: its configuration has one `options` block, so what we need is put into that of the lines.

    It listens only on addresses that an interface has: of 127/8 that is 127.0.0.1 alone.
    """
    binary = program("named", "bind9")
    hints = root_hints(root, folder)
    number, _, digest = root.key.rpartition(" ")
    options = f"""options {{
    directory "{folder}";
    pid-file none;
    session-keyfile none;
    lock-file none;
    listen-on port {at.port} {{ {at.host}; }};
    listen-on-v6 {{ none; }};
    query-source address {at.host};
    recursion yes;
    allow-query {{ any; }};
    allow-recursion {{ any; }};
    notify no;
    dnssec-validation yes;
    {port}
"""
    before, found, after = lines.partition("options {\n")
    assert found and not before, "the lines for BIND begin with its options"
    config = folder / "named.conf"
    config.write_text(f"""
{options}{after}
controls {{ }};
trust-anchors {{ "." static-ds {number} "{digest}"; }};
zone "." {{ type hint; file "{hints}"; }};
""")
    return [binary, "-g", "-n", "1", "-c", config]


def named_on_one_port(lines: str, at: Address, folder: Path) -> Sequence[str | Path]:
    """BIND whose idea of the DNS port is its own: stub and static-stub zones know no other than the usual one."""
    return named(lines, at, folder, port=f"port {at.port};")


def dnsmasq(lines: str, at: Address, folder: Path) -> Sequence[str | Path]:
    binary = program("dnsmasq", "dnsmasq-base")
    config = folder / "dnsmasq.conf"
    config.write_text(f"""
port={at.port}
listen-address={at.host}
bind-interfaces
no-resolv
no-hosts
no-poll
user=
group=
pid-file=
stop-dns-rebind
domain-needed
bogus-priv
{lines}
""")
    return [binary, "--keep-in-foreground", "--log-facility=-", f"--conf-file={config}"]


@functools.cache
def build_coredns() -> str:
    """Have CoreDNS built from its Go module, the first time (minutes where nothing is cached); why it cannot be had."""
    build = "import sys; from tools import bootstrap, peers\ntry: peers.build_coredns()\n"
    build += "except bootstrap.Missing as reason: sys.exit(f'CoreDNS is not here: {reason}')"
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()
    return (said[-1] if said else "CoreDNS cannot be built") if done.returncode else ""


def coredns_binary() -> Path:
    """CoreDNS, kept in .tools/ like etcd."""
    if reason := build_coredns():
        raise NotInstalled(reason)
    return ROOT / ".tools" / "bin" / "coredns"


def coredns(lines: str, at: Address, folder: Path) -> Sequence[str | Path]:
    binary = coredns_binary()
    # Where it binds stands in each block.
    lines = re.sub(r"^    bind .*\n", "", lines, flags=re.MULTILINE)
    lines = lines.replace(":53 {", f":{at.port} {{\n    bind {at.host}").replace(
        "prometheus :", f"prometheus {at.host}:"
    )
    config = folder / "Corefile"
    config.write_text(lines)
    return [binary, "-conf", config]


def node_local(lines: str, at: Address, folder: Path) -> Sequence[str | Path]:
    """CoreDNS with the Corefile of NodeLocal DNSCache; nobody answers for its other zones."""
    others = f"""
cluster.local:53 {{
    errors
    cache {{
        success 9984 30
        denial 9984 5
    }}
    reload
    loop
    bind 169.254.20.10 10.96.0.10
    forward . {NOWHERE.server} {{
        force_tcp
    }}
    prometheus :9253
    health {at.host}:8080
}}
.:53 {{
    errors
    cache 30
    reload
    loop
    bind 169.254.20.10 10.96.0.10
    forward . {NOWHERE.server}
    prometheus :9253
}}
"""
    return coredns(lines + others, at, folder)


def knot_resolver(lines: str, at: Address, folder: Path, root: Root = NOWHERE) -> Sequence[str | Path]:
    binary = program("kresd", "knot-resolver")
    config = folder / "kresd.conf"
    config.write_text(f"""
net.listen('{at.host}', {at.port}, {{ kind = 'dns' }})
cache.size = 10 * MB
-- Its own least time to live is five seconds, what ours gives by default; the tests give less.
cache.min_ttl(1)
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('priming')
modules.unload('detect_time_skew')
modules = {{ 'hints > iterate' }}
hints.root({{ ['a.root.'] = '{root.server}' }})
trust_anchors.remove('.')
trust_anchors.add('. 3600 IN DS {root.key}')
{lines}
""")
    return [binary, "-n", "-c", config, folder]


class Systemd(msgspec.Struct, frozen=True):
    """systemd-resolved and its tool, as installed or as .ci/run unpacks them: the package would change resolv.conf."""

    resolved: str
    resolvectl: str
    bus: str
    env: Mapping[str, str]


def systemd_resolved() -> Systemd:
    bus = program("dbus-daemon", "dbus-daemon")
    unpacked = ROOT / ".tools" / "systemd-resolved"
    for folder in ("lib/systemd", "usr/lib/systemd"):
        for root in (unpacked, Path("/")):
            resolved, tool = root / folder / "systemd-resolved", root / "usr/bin/resolvectl"
            if resolved.exists() and tool.exists():
                libraries = ":".join(str(at.parent) for at in root.glob("usr/lib/*/systemd/libsystemd-shared-*.so"))
                return Systemd(str(resolved), str(tool), bus, {"LD_LIBRARY_PATH": libraries})
    raise NotInstalled("systemd-resolved is not here (.ci/run unpacks Debian's package); CI runs it")


# Everything that its manual lists as hardening, the letters of names at random (0x20), and not one label more than
# needed to each server, with no way back for servers that take empty non-terminals for missing names (RFC 9156).
UNBOUND_STRICT = """
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
BIND_STRICT = """options {
    qname-minimization strict;
    synth-from-dnssec yes;
    require-server-cookie yes;
"""
KNOT_STRICT = "mode('strict')\n"

SNIPPETS: Mapping[str, Configure] = {
    "coredns": coredns,
    "nodelocaldns": node_local,
    "unbound-stub": unbound,
    "unbound-forward": unbound,
    "bind-forward": named,
    "bind-static-stub": named_on_one_port,
    "bind-stub": named_on_one_port,
    "dnsmasq": dnsmasq,
    "knot-resolver": knot_resolver,
}
"""The labels in docs/dns.md whose program runs on loopback, and how."""


def place(configure: Configure, net: LoopbackNet) -> Address:
    """Where such a resolver may listen: BIND has no address of its own, so a port that no client's connection takes."""
    host = "127.0.0.1" if configure in (named, named_on_one_port) else net.next()
    return Address(host, free_port(host))


def places(kinds: Mapping[str, Configure], net: LoopbackNet) -> dict[str, tuple[Address, Address]]:
    """For each of these resolvers where ours answers to it, and where itself answers: two addresses with one port.

    So it can be told that this port is what 53 is elsewhere.
    """
    ours = net.next()
    found: dict[str, tuple[Address, Address]] = {}
    for label, configure in kinds.items():
        at = place(configure, net)
        found[label] = Address(ours, at.port), at
    return found


def start(configure: Configure, lines: str, at: Address, folder: Path, *, shared: bool = False) -> Process:
    """Start the program; NotInstalled where it is not here. `shared`: it belongs to a fixture that outlives a test."""
    folder.mkdir(parents=True, exist_ok=True)
    return Process(configure(lines, at, folder), folder / "log", cwd=folder, shared=shared).start()
