"""Say what is wrong with the way to our names, from what resolvers and servers answered (`isthmus dns check`)."""

from enum import Enum

import msgspec

LONG = 60
"""Seconds that answers may be kept; longer ones outlive a failover by too much."""


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: what is so, and what to do about it."""

    level: Level
    about: str
    sentence: str
    mend: str = ""


class Reply(msgspec.Struct, frozen=True):
    """What one server answered to one question; `error` when it did not answer."""

    server: str
    rcode: str = ""
    answers: tuple[str, ...] = ()
    ttl: int = 0
    soa: str = ""
    """Owner of the SOA record in a negative answer: whose word it is."""
    authoritative: bool = False
    extended_error: int | None = None
    error: str = ""

    @property
    def given(self) -> bool:
        """Whether there was an answer at all."""
        return not self.error


class ResolvConf(msgspec.Struct, frozen=True):
    """What a client's resolv.conf says."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1


class Heard(msgspec.Struct, frozen=True):
    """What one resolver answered."""

    answer: Reply
    """To the name: of two, the answer that may be kept longer. A cache shows what it makes of the time to live."""
    missing: Reply
    """To a name of the zone that nobody has asked for before, and that does not exist."""
    unchecked: Reply
    """To the zone's version with checking disabled (CD, RFC 4035, section 3.2.2): without its DNSSEC validation."""
    alive: bool
    """Whether it answers what it need ask nobody for."""
    searched: tuple[tuple[str, Reply], ...] = ()
    """To the names that a client's search path makes of the name, by domain."""


class Probes(msgspec.Struct, frozen=True):
    """Everything that was asked: our server directly, over UDP and TCP, and the resolvers that clients use."""

    zone: str
    name: str
    direct_udp: Reply
    direct_tcp: Reply
    version: Reply
    missing: Reply
    by_resolver: tuple[Heard, ...] = ()
    resolv_conf: ResolvConf = ResolvConf()


def diagnose(probes: Probes) -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    findings = [*_server(probes)]
    if all(finding.level is not Level.ERROR for finding in findings):
        for heard in probes.by_resolver:
            findings += _resolver(probes, heard)
        findings += _client(probes)
    return findings


def parse_resolv_conf(text: str) -> ResolvConf:
    """resolv.conf(5): the last `search` or `domain` wins, `options ndots:n` counts up to 15."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    ndots = 1
    for line in text.splitlines():
        word, *rest = line.split("#")[0].split(";")[0].split() or [""]
        if word == "nameserver" and rest:
            servers.append(rest[0])
        elif word in ("search", "domain"):
            search = tuple(domain.rstrip(".") for domain in rest)
        elif word == "options":
            for option in rest:
                if option.startswith("ndots:") and option[6:].isdecimal():
                    ndots = min(int(option[6:]), 15)
    return ResolvConf(tuple(servers), search, ndots)


def searched_first(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """The search domains that a client tries before the name as it is (resolv.conf(5), `ndots`)."""
    if name.endswith(".") or name.count(".") >= conf.ndots:
        return ()
    return tuple(domain for domain in conf.search if domain)


def _server(probes: Probes) -> list[Finding]:
    about = f"server {probes.direct_udp.server}"
    udp, tcp = probes.direct_udp, probes.direct_tcp
    if not udp.given and not tcp.given:
        return [
            Finding(Level.ERROR, about, f"does not answer: {udp.error}", "Start 'isthmus dns', or mend its address.")
        ]
    if not udp.given:
        return [Finding(Level.ERROR, about, "answers over TCP but not over UDP", "Let UDP through to its port.")]
    if udp.extended_error == 14:
        mend = "Start the gateway of this cluster; its readiness names what it misses."
        return [Finding(Level.ERROR, about, "has no full state of the zone yet", mend)]
    if not udp.authoritative:
        mend = f"Ask the port that 'isthmus dns' listens on, or serve the zone {probes.zone} there."
        return [Finding(Level.ERROR, about, f"is not an authority for {probes.zone} ({udp.rcode})", mend)]
    findings = [Finding(Level.OK, about, f"answers {probes.name} with {_said(udp)}")]
    if udp.rcode == "NXDOMAIN":
        mend = "Write SERVICE.NAMESPACE or the whole name; 'isthmus services' lists what is exported."
        findings = [Finding(Level.WARNING, about, f"says that {probes.name} does not exist", mend)]
    if not tcp.given:
        mend = "Let TCP through to its port: long answers need it (RFC 9210)."
        findings.append(Finding(Level.WARNING, about, "does not answer over TCP", mend))
    if probes.version.answers != ('"1.0.0"',):
        findings.append(
            Finding(Level.WARNING, about, f"does not say that it follows MCS DNS 1.0.0: {_said(probes.version)}")
        )
    if udp.extended_error == 3:
        mend = "The gateway of this cluster is away; answers are the last that it gave."
        findings.append(Finding(Level.WARNING, about, "marks its answers as stale", mend))
    return [*findings, *_lifetimes(about, udp, probes.missing)]


def _lifetimes(about: str, answer: Reply, missing: Reply) -> list[Finding]:
    """What the server itself lets everybody keep for too long."""
    findings = []
    if answer.answers and answer.ttl > LONG:
        sentence = f"lets answers be kept for {answer.ttl} s: clients go on to what is gone for as long"
        findings.append(Finding(Level.WARNING, about, sentence, "Give 'isthmus dns' a shorter --ttl, for example 5."))
    if missing.rcode == "NXDOMAIN" and missing.ttl > LONG:
        sentence = f"lets missing names be kept for {missing.ttl} s: a new service is not seen for as long"
        mend = "Lower the last number of the zone's SOA record (RFC 2308); that of 'isthmus dns' is its --ttl."
        findings.append(Finding(Level.WARNING, about, sentence, mend))
    return findings


def _resolver(probes: Probes, heard: Heard) -> list[Finding]:
    reply = heard.answer
    about = f"resolver {reply.server}"
    direct, zone = probes.direct_udp, probes.zone
    forward = f"Forward {zone} to {direct.server} there; docs/dns.md has the lines for common resolvers."
    if not reply.given or (reply.rcode == "SERVFAIL" and direct.rcode != "SERVFAIL"):
        return [_failing(probes, heard)]
    if reply.rcode == "REFUSED":
        mend = f"Allow this client there. If other names are answered: {forward}"
        return [Finding(Level.ERROR, about, f"refuses to answer {probes.name}", mend)]
    if reply.rcode == "NXDOMAIN" and direct.rcode == "NOERROR":
        return [_missing(probes, reply, forward)]
    if set(reply.answers) != set(direct.answers):
        return [_different(about, reply, direct, zone)]
    findings = []
    if reply.ttl > direct.ttl:
        sentence = f"keeps answers for {reply.ttl} s though the server says {direct.ttl} s"
        mend = "Lower its minimum time to live for this zone, or clients keep addresses of dead places."
        findings.append(Finding(Level.WARNING, about, sentence, mend))
    kept, allowed = heard.missing, probes.missing
    if kept.rcode == allowed.rcode == "NXDOMAIN" and kept.ttl > allowed.ttl:
        sentence = f"keeps missing names for {kept.ttl} s though the server says {allowed.ttl} s"
        mend = "Lower its minimum negative time to live for this zone, or a new service is not seen for as long."
        findings.append(Finding(Level.WARNING, about, sentence, mend))
    findings += _taken_by_search(probes, heard)
    return findings or [Finding(Level.OK, about, f"answers {probes.name} with {_said(reply)}")]


def _failing(probes: Probes, heard: Heard) -> Finding:
    """No answer, or SERVFAIL, though our server answers: for want of what?"""
    reply, zone, server = heard.answer, probes.zone, probes.direct_udp.server
    about = f"resolver {reply.server}"
    if not reply.given and not heard.alive:
        return Finding(Level.ERROR, about, f"does not answer at all: {reply.error}", "Start it, or mend its address.")
    if heard.unchecked.answers and heard.unchecked.answers == probes.version.answers:
        sentence = f"takes {zone} for forged: it answers only when it need not validate DNSSEC"
        mend = f"Give it a negative trust anchor for {zone} (RFC 7646); docs/dns.md has the lines."
        return Finding(Level.ERROR, about, sentence, mend)
    # One that forwards to itself or in a circle runs into a time-out, its own or ours, or into a limit of its own.
    mend = (
        f"Look for a forwarding loop: does it send {zone} to itself, or to one that sends it back? "
        f"Else it does not reach {server} over UDP and TCP."
    )
    how = reply.error or "SERVFAIL"
    return Finding(
        Level.ERROR, about, f"is there but fails to resolve {probes.name}, which the server has: {how}", mend
    )


def _different(about: str, reply: Reply, direct: Reply, zone: str) -> Finding:
    sentence = f"answers {_said(reply)}, the server {_said(direct)}"
    if reply.rcode == "NOERROR" and not reply.answers:
        mend = (
            f"If it strips private addresses (against DNS rebinding), exempt {zone} there; docs/dns.md has the lines."
        )
        return Finding(Level.ERROR, about, sentence, mend)
    mend = f"Wait {reply.ttl} s if it changed just now; else another server answers for {zone}."
    return Finding(Level.WARNING, about, sentence, mend)


def _taken_by_search(probes: Probes, heard: Heard) -> list[Finding]:
    """Names of the search path that exist: whoever writes ours without a final dot gets them instead."""
    findings = []
    for domain, reply in heard.searched:
        if reply.rcode == "NOERROR" and reply.answers:
            sentence = f"answers {probes.name}.{domain} with {_said(reply)}: the search path leads there first"
            mend = f"Remove the wildcard in {domain}, or that domain from the search path; or set ndots:4."
            findings.append(Finding(Level.ERROR, f"resolver {reply.server}", sentence, mend))
    return findings


def _missing(probes: Probes, reply: Reply, forward: str) -> Finding:
    about, zone = f"resolver {reply.server}", probes.zone
    if reply.soa == zone:
        mend = f"It is in its negative cache for up to {reply.ttl} s more; lower the negative time to live there."
        return Finding(Level.WARNING, about, f"still says that {probes.name} does not exist", mend)
    whose = reply.soa or "nobody"
    sentence = f"does not know {zone}: the answer is that of {whose}"
    return Finding(Level.ERROR, about, sentence, forward)


def _client(probes: Probes) -> list[Finding]:
    conf = probes.resolv_conf
    if not conf.servers:
        return []
    first = searched_first(probes.name, conf)
    if first:
        dots = probes.name.count(".")
        sentence = f"asks {len(first)} other names first: {probes.name} has {dots} dots, ndots is {conf.ndots}"
        mend = "Write the name with a final dot, or set ndots:4 for these clients (dnsConfig of a pod)."
        return [Finding(Level.WARNING, "resolv.conf", sentence, mend)]
    return [Finding(Level.OK, "resolv.conf", f"asks for {probes.name} as it is")]


def _said(reply: Reply) -> str:
    return reply.error or " ".join(reply.answers) or reply.rcode
