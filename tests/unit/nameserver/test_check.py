"""`isthmus dns check`: what answers from outside say about the way to our names."""

import msgspec
import pytest

from isthmus_dns.checking.check import Heard, Level, Probes, Reply, ResolvConf, diagnose, parse_resolv_conf

NAME = "web.shop.svc.clusterset.local"
GOOD = Reply("127.53.0.1:53", "NOERROR", ("10.1.2.3",), ttl=5, authoritative=True)
VIA = Reply("192.0.2.53:53", "NOERROR", ("10.1.2.3",), ttl=4)
ABSENT = Reply("127.53.0.1:53", "NXDOMAIN", ttl=5, soa="clusterset.local", authoritative=True)
VERSION = msgspec.structs.replace(GOOD, answers=('"1.0.0"',))
HEARD = Heard(VIA, ABSENT, VERSION, alive=True)
PROBES = Probes(
    zone="clusterset.local",
    name=NAME,
    direct_udp=GOOD,
    direct_tcp=GOOD,
    version=VERSION,
    missing=ABSENT,
    by_resolver=(HEARD,),
    resolv_conf=ResolvConf(("192.0.2.53",), (), 1),
)


def changed(**parts: object) -> Probes:
    return msgspec.structs.replace(PROBES, **parts)


def heard(**parts: object) -> Probes:
    return changed(by_resolver=(msgspec.structs.replace(HEARD, **parts),))


def via(**parts: object) -> Probes:
    failed = Reply(VIA.server, "SERVFAIL")
    return heard(answer=msgspec.structs.replace(VIA, **parts), unchecked=failed)


def test_all_is_well() -> None:
    assert {finding.level for finding in diagnose(PROBES)} == {Level.OK}


GONE = Reply(GOOD.server, error="no answer within 2 s")
CASES = [
    (changed(direct_udp=GONE, direct_tcp=GONE), Level.ERROR, "does not answer: no answer within 2 s", "Start"),
    (
        msgspec.structs.replace(
            via(rcode="NXDOMAIN", answers=()), direct_udp=msgspec.structs.replace(GOOD, rcode="NXDOMAIN", answers=())
        ),
        Level.WARNING,
        "says that web.shop.svc.clusterset.local does not exist",
        "isthmus services",
    ),
    (changed(direct_udp=GONE), Level.ERROR, "over TCP but not over UDP", "UDP"),
    (changed(direct_tcp=GONE), Level.WARNING, "does not answer over TCP", "RFC 9210"),
    (
        changed(direct_udp=Reply(GOOD.server, "SERVFAIL", extended_error=14)),
        Level.ERROR,
        "has no full state of the zone yet",
        "gateway",
    ),
    (changed(direct_udp=Reply(GOOD.server, "REFUSED")), Level.ERROR, "is not an authority", "port"),
    (changed(direct_udp=msgspec.structs.replace(GOOD, extended_error=3)), Level.WARNING, "as stale", "gateway"),
    (changed(version=Reply(GOOD.server, "NXDOMAIN")), Level.WARNING, "MCS DNS 1.0.0: NXDOMAIN", ""),
    (via(error="no answer within 2 s"), Level.ERROR, "is there but fails to resolve web", "loop"),
    (
        heard(
            answer=Reply(VIA.server, error="no answer within 2 s"), unchecked=Reply(VIA.server, error="-"), alive=False
        ),
        Level.ERROR,
        "does not answer at all",
        "Start it",
    ),
    (via(rcode="SERVFAIL", answers=()), Level.ERROR, "fails to resolve", "forwarding loop"),
    (heard(answer=Reply(VIA.server, "SERVFAIL")), Level.ERROR, "takes clusterset.local for forged", "RFC 7646"),
    (via(rcode="REFUSED", answers=()), Level.ERROR, "refuses to answer", "Allow"),
    (via(answers=()), Level.ERROR, "answers NOERROR, the server 10.1.2.3", "rebinding"),
    (changed(direct_udp=msgspec.structs.replace(GOOD, ttl=300)), Level.WARNING, "kept for 300 s: clients", "--ttl"),
    (changed(missing=msgspec.structs.replace(ABSENT, ttl=3600)), Level.WARNING, "kept for 3600 s: a new", "RFC 2308"),
    (
        heard(missing=msgspec.structs.replace(ABSENT, ttl=300)),
        Level.WARNING,
        "keeps missing names for 300 s though the server says 5 s",
        "negative",
    ),
    (
        heard(searched=(("corp.example.com", Reply(VIA.server, "NOERROR", ("10.66.6.6",))),)),
        Level.ERROR,
        "answers web.shop.svc.clusterset.local.corp.example.com with 10.66.6.6",
        "wildcard",
    ),
    (
        via(rcode="NXDOMAIN", answers=(), soa=""),
        Level.ERROR,
        "does not know clusterset.local",
        "Forward clusterset.local",
    ),
    (via(rcode="NXDOMAIN", answers=(), soa="clusterset.local", ttl=30), Level.WARNING, "still says", "for up to 30 s"),
    (via(ttl=300), Level.WARNING, "keeps answers for 300 s though the server says 5 s", "minimum"),
    (via(answers=("10.9.9.9",)), Level.WARNING, "answers 10.9.9.9, the server 10.1.2.3", "Wait 4 s"),
    (
        changed(resolv_conf=ResolvConf(("192.0.2.53",), ("a.svc.cluster.local", "svc.cluster.local"), 5)),
        Level.WARNING,
        "asks 2 other names first: web.shop.svc.clusterset.local has 4 dots, ndots is 5",
        "ndots:4",
    ),
]


@pytest.mark.parametrize(("probes", "level", "sentence", "mend"), CASES, ids=[case[2] for case in CASES])
def test_what_is_wrong_is_named_with_its_mend(probes: Probes, level: Level, sentence: str, mend: str) -> None:
    wrong = [finding for finding in diagnose(probes) if finding.level is not Level.OK]

    assert len(wrong) == 1
    assert wrong[0].level is level
    assert sentence in wrong[0].sentence
    assert mend in wrong[0].mend


def test_resolv_conf_is_read_as_the_resolver_reads_it() -> None:
    text = """
    # made by hand
    domain first.example
    nameserver 10.96.0.10
    nameserver ::1 ; the second
    search a.svc.cluster.local. svc.cluster.local
    options timeout:1 ndots:99
    """
    expected = ResolvConf(("10.96.0.10", "::1"), ("a.svc.cluster.local", "svc.cluster.local"), 15)
    assert parse_resolv_conf(text) == expected
    assert parse_resolv_conf("") == ResolvConf()
