"""docs/dns.md says the truth: every line of its table is asked."""

import re
from pathlib import Path

import dns.edns
import dns.message
import dns.rcode
import dns.rdataclass
import pytest

from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.zone.intake import apply_header, mark
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import HTTP, METRICS, header, headless, host, near, question, responder, service

PAGE = Path(__file__).parents[3] / "docs" / "dns.md"
NOW = 1_700_000_000
CODES = ("NOERROR", "NXDOMAIN", "REFUSED", "SERVFAIL")


def rows() -> list[tuple[str, str, str, tuple[str, ...]]]:
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 4 and cells[2] in CODES:
            name, types, code, answer = cells
            answers = tuple(re.findall(r"`([^`]+)`", answer))
            found += [(name, rtype.strip(), code, answers) for rtype in types.split(",")]
    return found


def near_service() -> pb.ZoneService:
    found = near(
        "shop/near",
        [
            near_host("10.9.1.1", "west", 0, 8080),
            near_host("10.9.1.2", "west", 0, 8081),
            near_host("10.9.2.1", "east", 1, 8080),
            near_host("fd00::91", "east", 1),
        ],
    )
    for tier, (cluster, rule) in enumerate((("west", "same zone"), ("east", "same region"))):
        found.provenance.add(cluster=cluster, rule=rule, tier=tier, observed_at_ms=(NOW - 3) * 1000)
    return found


def near_host(address: str, cluster: str, tier: int, port: int = 0) -> pb.ZoneHost:
    ports = [pb.ServicePort(name="http", port=port)] if port else []
    return pb.ZoneHost(address=address, cluster=cluster, tier=tier, ports=ports)


def lost_service() -> pb.ZoneService:
    found = near("shop/lost", [], ["10.1.2.4"])
    found.provenance.add(rule="no cluster can serve it now")
    return found


def server() -> Responder:
    east = pb.Provenance(cluster="east", rule="same region", observed_at_ms=(NOW - 3) * 1000)
    found = responder(
        service("shop/web", ["10.1.2.3", "fd00::3"], [HTTP, METRICS], [east]),
        headless(
            "shop/db",
            [
                host("10.9.0.1", "db-0", "east"),
                host("10.9.0.2", "db-1", "east"),
                host("fd00::9", "db-0", "west"),
                host("10.9.0.4", "", "west"),
            ],
        ),
        headless("shop/queue", []),
        near_service(),
        lost_service(),
        features=Features(server_id="dns-7"),
    )
    apply_header(found.zone, {"zone": header(confirmed=True)})
    found.tick(NOW)
    return found


def asked(name: str) -> tuple[str, str]:
    """The name that a line means, and its class."""
    rclass = "CH" if "class CH" in name else "IN"
    if name.startswith("("):
        return "clusterset.local.", rclass
    short = name.split("`")[1]
    return (short if short.endswith(".") else f"{short}.clusterset.local."), rclass


def test_the_table_is_there() -> None:
    assert len(rows()) > 40


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("edns", [None, 1232], ids=["plain", "edns"])
@pytest.mark.parametrize(("name", "rtype", "code", "answers"), rows(), ids=lambda value: str(value)[:40])
def test_a_line_of_the_table_is_true(
    name: str, rtype: str, code: str, answers: tuple[str, ...], edns: int | None, tcp: bool
) -> None:
    full, rclass = asked(name)
    query = question(full, rtype, edns, rdclass=dns.rdataclass.from_text(rclass))

    wire = server().respond(query.to_wire(), tcp, "192.0.2.1")

    response = dns.message.from_wire(wire or b"")
    assert dns.rcode.to_text(response.rcode()) == code
    assert {rdata.to_text() for rrset in response.answer for rdata in rrset} == set(answers)
    assert len(response.authority) == (0 if answers or code == "REFUSED" else 1)


@pytest.mark.parametrize(
    ("synced", "stale", "state"), [(False, False, "no full"), (True, False, "known"), (True, True, "feed")]
)
def test_a_state_of_the_table_is_true(synced: bool, stale: bool, state: str) -> None:
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {state}")]
    code, error = [cell.strip() for cell in line.strip("|").split("|")][1:]
    under_test = responder(service("shop/web"), synced=synced)
    mark(under_test.zone, synced, stale)
    under_test.freshen()

    response = dns.message.from_wire(
        under_test.respond(question("web.shop.svc.clusterset.local", "A", 1232).to_wire()) or b""
    )

    assert dns.rcode.to_text(response.rcode()) == (code if code in CODES else "NOERROR")
    errors = [int(option.code) for option in response.options if isinstance(option, dns.edns.EDEOption)]
    assert errors == ([] if error == "none" else [int(error.split()[0])])
