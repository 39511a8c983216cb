"""Say what is wrong with the way to our names, from what resolvers and servers answered (`isthmus dns check`)."""

from enum import Enum

import msgspec


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


class Probes(msgspec.Struct, frozen=True):
    """Everything that was asked: our server directly, over UDP and TCP, and the resolvers that clients use."""

    zone: str
    name: str
    direct_udp: Reply
    direct_tcp: Reply
    version: Reply
    by_resolver: tuple[Reply, ...] = ()
    resolv_conf: ResolvConf = ResolvConf()


def diagnose(probes: Probes) -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    findings = [*_server(probes)]
    if all(finding.level is not Level.ERROR for finding in findings):
        for reply in probes.by_resolver:
            findings += _resolver(probes, reply)
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


def _server(probes: Probes) -> list[Finding]:
    about = f"server {probes.direct_udp.server}"
    udp, tcp = probes.direct_udp, probes.direct_tcp
    if not udp.given and not tcp.given:
        return [
            Finding(Level.ERROR, about, f"does not answer: {udp.error}", "Start `isthmus dns`, or mend its address.")
        ]
    if not udp.given:
        return [Finding(Level.ERROR, about, "answers over TCP but not over UDP", "Let UDP through to its port.")]
    if udp.extended_error == 14:
        mend = "Start the gateway of this cluster; its readiness names what it misses."
        return [Finding(Level.ERROR, about, "has no full state of the zone yet", mend)]
    if not udp.authoritative:
        mend = f"Ask the port that `isthmus dns` listens on, or serve the zone {probes.zone} there."
        return [Finding(Level.ERROR, about, f"is not an authority for {probes.zone} ({udp.rcode})", mend)]
    findings = [Finding(Level.OK, about, f"answers {probes.name} with {_said(udp)}")]
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
    return findings


def _resolver(probes: Probes, reply: Reply) -> list[Finding]:
    about = f"resolver {reply.server}"
    direct, zone = probes.direct_udp, probes.zone
    forward = f"Forward {zone} to {direct.server} there; docs/dns.md has the lines for common resolvers."
    if not reply.given:
        # A resolver that forwards to itself, or in a circle, runs into its own time-out.
        mend = f"If it answers other names, look for a loop: who forwards {zone} to whom? Else mend its address."
        return [Finding(Level.ERROR, about, f"does not answer {probes.name}: {reply.error}", mend)]
    if reply.rcode == "SERVFAIL" and direct.rcode != "SERVFAIL":
        mend = (
            f"Look for a forwarding loop, and whether it reaches {direct.server} over UDP and TCP; "
            f"if it validates DNSSEC, it needs a negative trust anchor for {zone}."
        )
        return [Finding(Level.ERROR, about, f"fails to resolve {probes.name} though the server answers", mend)]
    if reply.rcode == "REFUSED":
        return [Finding(Level.ERROR, about, "refuses us", "Allow this client there.")]
    if reply.rcode == "NXDOMAIN" and direct.rcode == "NOERROR":
        return [_missing(probes, reply, forward)]
    if set(reply.answers) != set(direct.answers):
        sentence = f"answers {_said(reply)}, the server {_said(direct)}"
        mend = f"Wait {reply.ttl} s if it changed just now; else another server answers for {zone}."
        return [Finding(Level.WARNING, about, sentence, mend)]
    if reply.ttl > direct.ttl:
        sentence = f"keeps answers for {reply.ttl} s though the server says {direct.ttl} s"
        mend = "Lower its minimum time to live for this zone, or clients keep addresses of dead places."
        return [Finding(Level.WARNING, about, sentence, mend)]
    return [Finding(Level.OK, about, f"answers {probes.name} with {_said(reply)}")]


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
    dots = probes.name.rstrip(".").count(".")
    if not conf.servers:
        return []
    if dots < conf.ndots and conf.search and not probes.name.endswith("."):
        sentence = f"asks {len(conf.search)} other names first: {probes.name} has {dots} dots, ndots is {conf.ndots}"
        mend = "Write the name with a final dot, or set ndots:4 for these clients (dnsConfig of a pod)."
        return [Finding(Level.WARNING, "resolv.conf", sentence, mend)]
    return [Finding(Level.OK, "resolv.conf", f"asks for {probes.name} as it is")]


def _said(reply: Reply) -> str:
    return reply.error or " ".join(reply.answers) or reply.rcode
