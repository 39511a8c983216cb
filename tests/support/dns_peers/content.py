"""What every server of the bench serves, and what it is asked: one set of services, one zone file, one mix."""

import itertools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import headless, host, question, service

ORIGIN = "clusterset.local"
TTL = 5
SERVICES = 1000
HEADLESS = 50
MIX = 20_000
"""Each query's id is its number, so there can be up to 65,536."""


def services(plain: int = SERVICES, many: int = HEADLESS) -> list[pb.ZoneService]:
    """Services with A, AAAA and SRV, and headless ones of ten endpoints."""
    found = [
        service(f"ns{n % 20}/svc{n}", [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", f"fd00::{n:x}"]) for n in range(plain)
    ]
    for n in range(many):
        hosts = [host(f"10.200.{n}.{e}", f"set-{e}") for e in range(10)]
        found.append(headless(f"ns{n % 20}/set{n}", hosts))
    return found


def name_of(number: int) -> str:
    """The name of one of `services()`; those after the plain ones are headless."""
    short = f"svc{number}" if number < SERVICES else f"set{number - SERVICES}"
    return f"{short}.ns{(number if number < SERVICES else number - SERVICES) % 20}.svc.{ORIGIN}"


def mix(count: int = MIX) -> list[bytes]:
    """60 % A, 20 % AAAA, 5 % SRV, 10 % NXDOMAIN, 5 % NODATA, half of them with EDNS; with ids counted from 0."""
    dice = random.Random(1)
    queries = []
    for number in range(count):
        fate, edns = dice.random(), dice.choice([None, 1232])
        name, plain = name_of(dice.randrange(SERVICES + HEADLESS)), name_of(dice.randrange(SERVICES))
        if fate < 0.6:
            query = question(name, "A", edns)
        elif fate < 0.8:
            query = question(plain, "AAAA", edns)
        elif fate < 0.85:
            query = question(f"_http._tcp.{name}", "SRV", edns)
        elif fate < 0.95:
            query = question(f"no{name}", "A", edns)
        else:
            query = question(plain, "MX", edns)
        query.id = number
        queries.append(query.to_wire())
    return queries


def write_queries(path: Path, queries: Iterable[bytes]) -> Path:
    """A file for tests/bench/dns_load.py."""
    path.write_text("".join(f"{query.hex()}\n" for query in queries))
    return path


def write_zone(path: Path, content: Iterable[pb.ZoneService]) -> Path:
    """The same records in the form of RFC 1035 that every server reads; written apart from our own rendering."""
    server = f"ns.dns.{ORIGIN}."
    head = [
        f"$ORIGIN {ORIGIN}.",
        f"$TTL {TTL}",
        f"@ IN SOA {server} hostmaster.{ORIGIN}. 1 7200 1800 86400 {TTL}",
        f"@ IN NS {server}",
        "ns.dns IN A 127.0.0.1",
    ]
    with path.open("w") as file:
        for line in itertools.chain(head, *map(_lines, content)):
            file.write(line + "\n")
    return path


def _lines(body: pb.ZoneService) -> Iterator[str]:
    name = f"{body.name}.{body.namespace}.svc"
    for address in body.ips:
        yield f"{name} IN {_kind(address)} {address}"
    targets = {} if body.hosts else {name: body.ports}
    for one in body.hosts:
        target = f"{one.hostname}.{one.cluster}.{name}"
        targets[target] = one.ports
        yield f"{name} IN {_kind(one.address)} {one.address}"
        yield f"{target} IN {_kind(one.address)} {one.address}"
    for target, ports in targets.items():
        for port in ports:
            srv = f"IN SRV 0 100 {port.port} {target}"
            yield f"_{port.name}._tcp.{name} {srv}"
            yield f"{name} {srv}"


def _kind(address: str) -> str:
    return "AAAA" if ":" in address else "A"
