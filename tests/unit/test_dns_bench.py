"""The arithmetic of the DNS bench: shares of the mix, the zone that the peers load, and what is read from a run."""

from collections import Counter
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.zone
import pytest

from support.dns_peers import content
from support.dns_peers.changes import UNSEEN, delays
from support.dns_peers.dnsperf import rate_in, write_names
from support.dns_peers.load import Broken
from support.dns_peers.throughput import rows
from support.script import script
from unit.nameserver.builders import ask, responder

ROOT = Path(__file__).parents[2]


def test_the_mix_has_its_shares() -> None:
    server = responder(*content.services())
    kinds: Counter[str] = Counter()
    for number, wire in enumerate(content.mix(4000)):
        query = dns.message.from_wire(wire)
        answer = server.respond(wire)
        assert answer is not None
        assert query.id == number
        kinds["edns"] += query.edns == 0
        kinds["NXDOMAIN" if answer[3] & 15 else dns.rdatatype.to_text(query.question[0].rdtype)] += 1
    shares = {kind: count / 40 for kind, count in kinds.items()}
    wanted = {"A": 60, "AAAA": 20, "SRV": 5, "NXDOMAIN": 10, "MX": 5, "edns": 50}
    assert shares == {kind: pytest.approx(share, abs=2) for kind, share in wanted.items()}


def test_the_zone_file_of_the_peers_has_the_answers_of_ours(tmp_path: Path) -> None:
    services = [*content.services(3, 0), *content.services(0, 2)]
    server = responder(*services)
    zone = dns.zone.from_file(str(content.write_zone(tmp_path / "zone", services)), relativize=False)
    checked = 0
    for name, rdataset in zone.iterate_rdatasets():
        if rdataset.rdtype in (dns.rdatatype.SOA, dns.rdatatype.NS) or name.to_text().startswith("ns.dns"):
            continue
        answer = ask(server, name.to_text(), dns.rdatatype.to_text(rdataset.rdtype), tcp=True)
        assert set(answer.answer[0]) == set(rdataset)
        checked += 1
    assert checked == 3 * 4 + 2 * (3 + 10)


def test_a_change_counts_until_the_first_answer_with_it() -> None:
    seen = [("10.0.0.0", 0.5), ("10.99.0.0", 1.002), ("10.99.0.2", 3.004), ("10.99.0.0", 9.0)]
    found = delays({"10.99.0.0": 1.0, "10.99.0.1": 2.0, "10.99.0.2": 3.0}, seen)
    assert found == [pytest.approx(2), UNSEEN, pytest.approx(4)]


def test_stalls_of_the_machine_do_not_move_the_median_of_the_tenths() -> None:
    load = script("tests/bench/dns_load.py")
    calm, stalled = [0.0001] * 100, [0.0001] * 90 + [0.005] * 10
    assert load.median_of_tenths([*calm, *stalled, *calm], 100) == 0.0001
    assert load.rank([*calm, *stalled, *calm], 99) == 0.005
    assert load.median_of_tenths(calm[:10], 100) == 0.0001
    assert load.rank([], 99) == 0.0


def test_dnsperf_is_believed_only_when_it_lost_nearly_nothing() -> None:
    report = "  Queries lost:         {}\n  Queries per second:   60123.5\n"
    assert rate_in(report.format("3 (0.00%)")) == 60123.5
    with pytest.raises(Broken):
        rate_in(report.format("900 (9.00%)"))
    with pytest.raises(Broken):
        rate_in("")


def test_dnsperf_reads_names_and_types(tmp_path: Path) -> None:
    first = write_names(tmp_path / "names", content.mix(2)).read_text().splitlines()[0].split()
    assert first[0].endswith(".svc.clusterset.local.")
    assert first[1] in ("A", "AAAA", "SRV", "MX")


def test_a_peer_that_is_not_there_has_no_row() -> None:
    found = {"isthmus": (150_000.0, 6.0), "bare loop": (200_000.0, 5.0), "CoreDNS": (60_000.0, 15.0)}
    listed = rows(found, "isthmus", "bare loop")
    assert [(row.reference, row.ok) for row in listed] == [
        ("bare loop", True),
        ("CoreDNS", False),
        ("CoreDNS", True),
        ("bare loop", True),
    ]
    assert listed[1].ratio == 2.5


def test_one_section_of_the_document_is_exchanged_and_the_others_stay() -> None:
    replaced = script("tools/bench.py").replaced
    document = "# Benchmarks\n\nAbout.\n\n## cli\n\n| a |\n\n## dns\n\n| old |\n\nOld words.\n\n## zone\n\n| c |\n"
    assert replaced(document, "dns", "## dns\n\n| new |\n") == document.replace("| old |\n\nOld words.", "| new |")
    assert replaced(document, "more", "## more\n\n| m |\n") == document.replace(
        "## zone", "## more\n\n| m |\n\n## zone"
    )
