"""Run BIND, CoreDNS and Knot with one worker on one core, from a folder of their own, with the bench's zone."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from isthmus_dns.listening.addresses import Address, claim_addresses
from support.dns_peers.content import ORIGIN
from support.dns_peers.probe import until_answer
from support.dns_peers.running import SERVER_CORE, Running, end, start

ROOT = Path(__file__).resolve().parents[3]
HOST = "127.0.0.1"  # BIND listens only on addresses that an interface has
START = 20.0
SCRIPT = ROOT / "tests" / "bench" / "dns_load.py"

# Minimal answers everywhere: an address to an address question and nothing more, as ours are.
BIND = """
options {{
  directory "{folder}"; pid-file none; session-keyfile none; lock-file none;
  listen-on port {port} {{ {host}; }}; listen-on-v6 {{ none; }};
  recursion no; minimal-responses yes; dnssec-validation no; empty-zones-enable no;
  allow-transfer {{ none; }}; allow-query {{ any; }}; notify no;
}};
controls {{ }};
zone "{origin}" {{ type primary; file "{zone}"; }};
"""
COREDNS = """
{origin}:{port} {{
  bind {host}
  cache
  minimal
  file {zone}
}}
"""
KNOT = """
server:
  rundir: {folder}
  listen: {host}@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: {folder}
log:
  - target: stderr
    any: error
zone:
  - domain: {origin}
    file: {zone}
    zonefile-sync: -1
    journal-content: none
"""


def program(name: str) -> str | None:
    """The program where it is installed or was built; administrators' folders may be missing in PATH."""
    return shutil.which(name, path=os.pathsep.join([str(ROOT / ".tools/bin"), os.environ["PATH"], "/usr/sbin"]))


def _bind(found: str, config: str) -> tuple[str, ...]:
    return (found, "-g", "-n", "1", "-c", config)


def _coredns(found: str, config: str) -> tuple[str, ...]:
    return (found, "-quiet", "-conf", config)


def _knot(found: str, config: str) -> tuple[str, ...]:
    return (found, "-c", config)


PEERS: dict[str, tuple[str, str, Callable[[str, str], tuple[str, ...]]]] = {
    "BIND": ("named", BIND, _bind),
    "CoreDNS": ("coredns", COREDNS, _coredns),
    "Knot": ("knotd", KNOT, _knot),
}


@asynccontextmanager
async def peer(name: str, folder: Path, zone: Path, cores: Sequence[int] = (SERVER_CORE,)) -> AsyncIterator[Running]:
    """The peer, answering; `program` must have found it."""
    wanted, template, command = PEERS[name]
    found = program(wanted)
    assert found
    folder.mkdir()
    (address,) = claim_addresses([Address(HOST, 0)])
    config = folder / "config"
    fields = {"folder": folder, "host": address.host, "port": address.port, "origin": ORIGIN, "zone": zone}
    config.write_text(template.format(**fields))
    async with started(name, address, cores, folder / "log", *command(found, str(config))) as running:
        yield running


@asynccontextmanager
async def floor(pairs: Path) -> AsyncIterator[Running]:
    """A bare loop in Python over answers made before; `pairs` has each query and its answer."""
    (address,) = claim_addresses([Address(HOST, 0)])
    command = (sys.executable, str(SCRIPT), "floor", address.host, str(address.port), str(pairs))
    async with started("bare loop", address, (SERVER_CORE,), pairs.with_suffix(".log"), *command) as running:
        yield running


@asynccontextmanager
async def started(
    name: str, address: Address, cores: Sequence[int], log: Path, *command: str
) -> AsyncIterator[Running]:
    """A server of which nothing is known but its command: pinned, awaited, ended."""
    async with AsyncExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        process = await start(cores, *command, stdout=output, stderr=output)
        stack.push_async_callback(end, process)
        running = Running(name, address.host, address.port, (process.pid,))
        try:
            await until_answer(running, START, lambda: process.returncode is None)
        except TimeoutError:
            raise RuntimeError(f"{name} does not answer: {log.read_text(errors='replace')[-1000:]}") from None
        yield running
