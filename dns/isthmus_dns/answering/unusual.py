"""The slow way: every query that is not a plain question for a compiled answer, and every packet that is wrong."""

import msgspec

from isthmus_dns.answering.provenance import explain
from isthmus_dns.clients.cookies import Cookies, Standing
from isthmus_dns.clients.subnet import IpNetwork, SubnetMap, is_named, subnet_answer
from isthmus_dns.message import wire
from isthmus_dns.message.query import Edns, Fault, Query
from isthmus_dns.zone.compiled import Long, Ready
from isthmus_dns.zone.zone import Zone

_ANY_TTL = 3600
# RFC 8482, section 4.2: a synthesised HINFO record says why there is not more.
_ANY_RDATA = b"\x07RFC8482\x00"


class Features(msgspec.Struct, frozen=True):
    """What a server does beyond answering; all of it is off until somebody asks for it."""

    server_id: str = ""
    """Given to clients that ask with NSID (RFC 5001), and in `_why.<zone>`."""
    cookies: Cookies | None = None
    subnet_resolvers: tuple[IpNetwork, ...] = ()
    """Resolvers whose EDNS client subnet is honoured."""
    subnets: SubnetMap = SubnetMap()
    """Where those clients are; its places are the zone's."""


class Asked(msgspec.Struct, frozen=True):
    """One query and what surrounds it."""

    query: Query | Fault
    packet: bytes
    tcp: bool
    client: str
    now: int

    @property
    def edns(self) -> Edns | None:
        return self.query.edns


class Client(msgspec.Struct, frozen=True):
    """Whom a named resolver asks for: the option as it came, the place in the zone's order, and how exact that is."""

    option: bytes
    place: int | None
    scope: int


class Sections(msgspec.Struct, frozen=True):
    """What an answer says, before it is fitted to the client."""

    rcode: int
    authoritative: bool = True
    answers: int = 0
    answer: bytes = b""
    authority: bytes = b""
    helpers: int = 0
    helper: bytes = b""
    tailored: bool = False
    """Whether clients elsewhere get another answer."""


def plain_opt(dnssec_ok: bool, stale: bool, options: bytes = b"") -> bytes:
    """The OPT record of an answer from the zone, with these options of ours."""
    return wire.opt_record(0, dnssec_ok, (wire.extended_error(wire.EDE_STALE) if stale else b"") + options)


def respond(asked: Asked, zone: Zone, features: Features) -> tuple[int, bytes]:
    """The response code and the whole response."""
    query = asked.query
    if isinstance(query, Fault):
        return _cookie_alone(asked, query, features) or (query.rcode, _fault(asked, query))
    edns = query.edns
    if edns is not None and edns.version > 0:
        # RFC 6891, section 6.1.3: nothing else of the query is looked at, options of an unknown version least of all.
        return wire.BADVERS, _fit(asked, query, Sections(wire.BADVERS, authoritative=False), b"")
    options = b""
    requested = b"" if edns is None else _requested(asked, edns, features)
    client = None if edns is None else _client(asked, edns, features)
    if requested is None or client is _MALFORMED:
        return wire.FORMERR, _fault(asked, Fault(wire.FORMERR, query.question, edns))
    if not zone.freshness.synced:
        sections = Sections(wire.SERVFAIL, authoritative=False)
        options = wire.extended_error(wire.EDE_NOT_READY, "no full state of the zone yet")
    else:
        sections = answer_question(query, zone, asked.now, features, client)
        if zone.freshness.stale and sections.authoritative:
            options = wire.extended_error(wire.EDE_STALE)
    if client is not None:
        # RFC 7871, section 7.2.1: what everybody gets, and what does not exist, holds for all networks.
        scope = client.scope if sections.tailored else 0
        requested += wire.option(wire.OPTION_ECS, subnet_answer(client.option, scope))
    return sections.rcode, _fit(asked, query, sections, options + requested)


def answer_question(query: Query, zone: Zone, now: int, features: Features, client: Client | None = None) -> Sections:
    """What the zone says to a query that is well formed."""
    apex = zone.apex_of(query.name) if query.qclass == wire.IN else None
    if apex is None or query.qtype in (wire.AXFR, wire.IXFR):
        # Other classes, version.bind (class CH) among them, other people's names, and zone transfers.
        return Sections(wire.REFUSED, authoritative=False)
    name = query.name
    place = None if client is None else client.place
    if query.qtype == wire.TXT:
        where = None if place is None else zone.places[place]
        if (why := explain(name, zone, now, features.server_id, where)) is not None:
            return Sections(wire.NOERROR, answers=why[0], answer=why[1], tailored=bool(zone.places))
    key = query.name + query.qtype.to_bytes(2, "big") + b"\0\1"
    tailored = zone.tailored.get(key) if client is not None else None
    compiled = tailored[place] if tailored is not None and place is not None else None
    if compiled is None:
        compiled = zone.ready.get(key) or zone.long.get(key)
    if compiled is not None:
        return _compiled(compiled, tailored is not None)
    if query.qtype == wire.ANY and _owns_records(zone, name):
        return Sections(
            wire.NOERROR, answers=1, answer=wire.record(wire.NAME_POINTER, wire.HINFO, _ANY_TTL, _ANY_RDATA)
        )
    rcode = wire.NOERROR if name in zone.names else wire.NXDOMAIN
    return Sections(rcode, authority=apex.negative(len(name)))


def _compiled(answer: Ready | Long, tailored: bool) -> Sections:
    if isinstance(answer, Long):
        return Sections(
            wire.NOERROR,
            answers=answer.answers,
            answer=answer.answer,
            helpers=answer.helpers,
            helper=answer.helper,
            tailored=tailored,
        )
    counts = answer[0]
    return Sections(
        wire.NOERROR,
        answers=int.from_bytes(counts[4:6], "big"),
        answer=answer[4],
        helpers=int.from_bytes(counts[8:10], "big"),
        tailored=tailored,
    )


def _owns_records(zone: Zone, name: bytes) -> bool:
    types = (wire.A, wire.AAAA, wire.SRV, wire.TXT, wire.SOA, wire.NS)
    keys = (name + rtype.to_bytes(2, "big") + b"\0\1" for rtype in types)
    return any(key in zone.ready or key in zone.long for key in keys)


def _requested(asked: Asked, edns: Edns, features: Features) -> bytes | None:
    """Options that the client asked for; unknown ones are ignored (RFC 6891, section 6.1.2). None: one is malformed."""
    options = b""
    if features.server_id and edns.option(wire.OPTION_NSID) is not None:
        options += wire.option(wire.OPTION_NSID, features.server_id.encode()[:32])
    cookie = edns.option(wire.OPTION_COOKIE)
    if cookie is not None and features.cookies is not None and asked.client:
        standing, whole = features.cookies.judge(cookie, asked.client, asked.now)
        if standing is Standing.MALFORMED:
            return None
        options += wire.option(wire.OPTION_COOKIE, whole)
    return options


_MALFORMED = Client(b"", None, 0)


def _client(asked: Asked, edns: Edns, features: Features) -> Client | None:
    """Whom a resolver asks for; None when it does not say, or when its word does not count."""
    option = edns.option(wire.OPTION_ECS)
    if option is None or not is_named(asked.client, features.subnet_resolvers):
        return None
    found = features.subnets.of(option)
    return _MALFORMED if found is None else Client(option, *found)


def _cookie_alone(asked: Asked, fault: Fault, features: Features) -> tuple[int, bytes] | None:
    """A query without a question but with a cookie asks for a server cookie only (RFC 7873, section 5.4)."""
    edns = fault.edns
    if asked.packet[4:6] != b"\0\0" or edns is None or edns.version or edns.option(wire.OPTION_COOKIE) is None:
        return None
    if features.cookies is None or (options := _requested(asked, edns, features)) is None:
        return None
    flags = wire.QR | (asked.packet[2] & 1) << 8
    head = wire.header(flags, 0, 0, 1, questions=0)
    return wire.NOERROR, asked.packet[:2] + head + wire.opt_record(0, edns.dnssec_ok, options)


def _fault(asked: Asked, fault: Fault) -> bytes:
    """A packet that is wrong: as little as possible comes back, never more than came."""
    opcode = asked.packet[2] & 0x78
    flags = wire.QR | opcode << 8 | (asked.packet[2] & 1) << 8 | fault.rcode
    opt = wire.opt_record(0, fault.edns.dnssec_ok) if fault.edns is not None else b""
    head = wire.header(flags, 0, 0, 1 if opt else 0, 1 if fault.question else 0)
    return asked.packet[:2] + head + fault.question + opt


def _fit(asked: Asked, query: Query, sections: Sections, options: bytes) -> bytes:
    """The message, cut to what the client can take: first the additional section goes, then all, with TC set."""
    edns = query.edns
    opt = b""
    limit = wire.UDP_PLAIN
    if edns is not None:
        opt = wire.opt_record(sections.rcode, edns.dnssec_ok, options)
        limit = min(max(edns.size, wire.UDP_PLAIN), wire.UDP_MOST)
    if asked.tcp:
        limit = wire.TCP_MOST
    flags = wire.QR | (asked.packet[2] & 1) << 8 | (sections.rcode & 15) | (wire.AA if sections.authoritative else 0)
    fixed = 12 + len(query.question) + len(opt)
    body = sections.answer + sections.authority
    authority = 1 if sections.authority else 0
    extra = 1 if opt else 0
    if fixed + len(body) + len(sections.helper) <= limit:
        head = wire.header(flags, sections.answers, authority, sections.helpers + extra)
        return b"".join((asked.packet[:2], head, query.question, body, sections.helper, opt))
    if fixed + len(body) <= limit:
        head = wire.header(flags, sections.answers, authority, extra)
        return b"".join((asked.packet[:2], head, query.question, body, opt))
    return asked.packet[:2] + wire.header(flags | wire.TC, 0, 0, extra) + query.question + opt
