"""Answer one query: by the whole packet's bytes, else by the question's bytes, and a slow way for the unusual."""

from collections import Counter

from isthmus_dns.answering import unusual
from isthmus_dns.answering.remembered import COOKIED_LENGTH, Remembered, question_of
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.cookies import Standing
from isthmus_dns.message import wire
from isthmus_dns.message.query import Edns, Query, read_query
from isthmus_dns.zone.compiled import heads
from isthmus_dns.zone.zone import Zone

_OPT_LENGTH = 11
_OPTS_KEPT = 2048
_COOKIED_HEAD = b"\x00\x1c\x00\x0a\x00\x18"
_COOKIED_KEPT = 8192
_COOKIED_SECONDS = 60

# The ten bytes after the id, for a standard query with one question and at most one additional record. AA, TC, RA, Z,
# AD and CD mean nothing in a query to an authority and are ignored (RFC 8906, section 3.1.3): all values are here.
_KINDS = {
    bytes((high, low << 4)) + wire.header(0, 0, 0, additional)[2:]: (high & 1) + 2 * additional
    for high in range(8)
    for low in range(16)
    for additional in (0, 1)
}
# Types without rules of their own, with the class, in lower case like every key. What is not here takes the slow way.
_PLAIN = frozenset(
    (rtype.to_bytes(2, "big") + wire.IN.to_bytes(2, "big")).lower()
    for rtype in (
        wire.A,
        wire.NS,
        5,
        wire.SOA,
        12,
        15,
        wire.TXT,
        wire.AAAA,
        wire.SRV,
        35,
        43,
        48,
        wire.SVCB,
        wire.HTTPS,
        257,
    )
)
_WHY = b"\4_why"
_UDP_MOST = wire.UDP_MOST.to_bytes(2, "big")
_NODATA = heads(wire.AA, 0, 1)
_NXDOMAIN = heads(wire.AA | wire.NXDOMAIN, 0, 1)

SAMPLE = 128
"""So many questions are looked at between two calls of `take_asked`: the pause must not be felt by clients."""


class Responder:
    """Answers queries from one zone; no I/O and no clock: the shell calls `tick` with Unix seconds."""

    __slots__ = (
        "_asked",
        "_cookied",
        "_cookied_since",
        "_opts",
        "_unasked",
        "features",
        "hits",
        "now",
        "nxdomain",
        "outcomes",
        "remembered",
        "unsampled",
        "zone",
    )

    def __init__(self, zone: Zone, features: Features = Features()) -> None:  # noqa: B008 - frozen
        self.zone = zone
        self.features = features
        self.now = 0
        self.nxdomain = 0
        """How many fast answers were NXDOMAIN; those of the slow way are in `outcomes` by their code."""
        self.outcomes: dict[int, int] = {}
        self.remembered = Remembered()
        """Answers to packets that came before; a shell may look there first, and counts in `hits` what it found."""
        self.hits: list[bytes] = []
        self.unsampled = 0
        """How many packets more than those in `hits` were found: `SAMPLE` are enough to know what is asked for."""
        self._asked: list[bytes] = []
        self._unasked = 0
        zone.watchers.append(self.remembered.forget)
        self._opts: dict[bytes, bytes] = {}
        self._cookied: dict[tuple[bytes, str], bytes] = {}
        self._cookied_since = 0

    def respond(self, query: bytes, tcp: bool = False, client: str = "") -> bytes | None:
        """The answer to the packet `query`; None where silence is right."""
        packet = query[2:]
        remembered = self.remembered
        answer = remembered.answers.get(packet)
        if answer is None:
            answer = remembered.denials.get(packet)
            if answer is None:
                answer = remembered.proven.get((packet, client))
            elif answer[1] & 15 == wire.NXDOMAIN:
                self.nxdomain += 1
        if answer is not None:
            if len(self.hits) < SAMPLE:
                self.hits.append(packet)
            else:
                self.unsampled += 1
            return query[:2] + answer
        return self._respond_anew(query, tcp, client)

    def _respond_anew(self, query: bytes, tcp: bool, client: str) -> bytes | None:
        """The answer to a packet whose bytes did not come before."""
        zone = self.zone
        kind = _KINDS.get(query[2:12])
        if kind is None or not zone.freshness.synced:
            return self.respond_slowly(query, tcp, client)
        cookied = False
        if kind < 2:
            question = query[12:]
            opt: bytes | None = b""
        else:
            question = query[12:-_OPT_LENGTH]
            opt = self._opts.get(query[-_OPT_LENGTH:])
            if opt is None and query[-30:-24] == _COOKIED_HEAD:
                opt = self._cookied.get((query[-COOKIED_LENGTH:], client))
                question = query[12:-COOKIED_LENGTH]
                cookied = True
        if opt is None:
            return self.respond_slowly(query, tcp, client)
        key = question.lower()
        if zone.backlog is not None:
            zone.backlog.settle(key[:-4])
        ready = zone.ready.get(key)
        if ready is None and (long := zone.long.get(key)) is not None:
            # The client says that it takes 1232 bytes or more; the size stands behind its OPT record's type.
            if kind < 2 or len(opt) != _OPT_LENGTH or query[-8:-6] < _UDP_MOST or long.ready is None:
                return self.respond_slowly(query, tcp, client)
            ready = long.ready
        if ready is not None:
            answer = b"".join((ready[kind], question, ready[4], opt))
            if cookied:
                self.remembered.note_proven(query[2:], client, key, answer)
            else:
                self.remembered.note(query[2:], key, answer)
        else:
            negative = self._negative(key, kind)
            if negative is None:
                return self.respond_slowly(query, tcp, client)
            answer = b"".join((negative[0], question, negative[1], opt))
            if not cookied:
                self.remembered.note_denial(query[2:], answer)
        self._count(key)
        return query[:2] + answer

    def freshen(self) -> None:
        """Notice that the zone's freshness changed: answers are marked, or no longer marked, as stale."""
        self._opts.clear()
        self._cookied.clear()
        self.remembered.forget_all()

    def tick(self, now: int) -> None:
        """A second or more has passed, or the clock was set."""
        self.now = now
        if not 0 <= now - self._cookied_since < _COOKIED_SECONDS or len(self._cookied) >= _COOKIED_KEPT:
            self._cookied_since = now
            self._cookied.clear()  # cookies grow old, and clients go
            self.remembered.forget_proven()

    def take_asked(self) -> dict[bytes, float]:
        """How often each question was asked since the last call: which names are asked for is a signal (`sketch`)."""
        asked: dict[bytes, float] = {}
        if self._asked:
            weight = 1 + self._unasked / len(self._asked)
            asked = {question: times * weight for question, times in Counter(self._asked).items()}
            self._asked.clear()
            self._unasked = 0
        if self.hits:
            weight = 1 + self.unsampled / len(self.hits)
            for packet, times in Counter(self.hits).items():
                question = question_of(packet)
                asked[question] = asked.get(question, 0) + times * weight
            self.hits.clear()
            self.unsampled = 0
        return asked

    def _count(self, question: bytes) -> None:
        if len(self._asked) < SAMPLE:
            self._asked.append(question)
        else:
            self._unasked += 1

    def proves_address(self, packet: bytes, client: str) -> bool:
        """Whether the packet's cookie proves that `client` is its real address."""
        if (packet[-COOKIED_LENGTH:], client) in self._cookied:
            return True
        if self.features.cookies is None or not isinstance(query := read_query(packet), Query) or query.edns is None:
            return False
        cookie = query.edns.option(wire.OPTION_COOKIE)
        return cookie is not None and self.features.cookies.judge(cookie, client, self.now)[0] is Standing.VERIFIED

    def _negative(self, key: bytes, kind: int) -> tuple[bytes, bytes] | None:
        """The head and authority of a plain NODATA or NXDOMAIN; None when the slow way has to look."""
        name = key[:-4]
        if key[-4:] not in _PLAIN or name[:5] == _WHY:
            return None
        zone = self.zone
        for apex in zone.apexes:
            origin = apex.origin
            if not name.endswith(origin):
                continue
            if name in zone.names:
                return _NODATA[kind], apex.negative(len(name))
            # The name comes from outside: its labels are walked before it is believed.
            at, cut = 0, len(name) - len(origin)
            while at < cut:
                length = name[at]
                if not 0 < length < 64:
                    return None
                at += 1 + length
            if at != cut or len(name) > 255:
                return None
            self.nxdomain += 1
            return _NXDOMAIN[kind], apex.negative(len(name))
        return None

    def respond_slowly(self, packet: bytes, tcp: bool = False, client: str = "") -> bytes | None:
        """The same answer by reading the query strictly; a property test holds both ways together."""
        query = read_query(packet)
        if query is None:
            return None
        if self.zone.backlog is not None and isinstance(query, Query):
            self.zone.backlog.settle(query.name)
        asked = unusual.Asked(query, packet, tcp, client, self.now)
        rcode, response = unusual.respond(asked, self.zone, self.features)
        if isinstance(query, Query) and self.zone.freshness.synced:
            if rcode in (wire.NOERROR, wire.NXDOMAIN):
                self._count(query.name + query.question[-4:])
            if query.edns is not None and query.edns.version == 0:
                self._learn(packet, query.edns, client)
        self.outcomes[rcode] = self.outcomes.get(rcode, 0) + 1
        return response

    def _learn(self, packet: bytes, edns: Edns, client: str) -> None:
        """Remember this form of OPT record and what it is answered with: the next query with it takes the fast way."""
        stale = self.zone.freshness.stale
        if not edns.options:
            opt = packet[-_OPT_LENGTH:]
            if opt[:3] == b"\0\0\x29" and opt[9:] == b"\0\0" and len(self._opts) < _OPTS_KEPT:
                self._opts[opt] = unusual.plain_opt(edns.dnssec_ok, stale)
            return
        cookies, cookie = self.features.cookies, edns.option(wire.OPTION_COOKIE)
        opt = packet[-COOKIED_LENGTH:]
        alone = len(edns.options) == 1 and opt[:3] == b"\0\0\x29" and opt[9:15] == _COOKIED_HEAD
        if cookies is None or cookie is None or not alone or len(self._cookied) >= _COOKIED_KEPT:
            return
        standing, whole = cookies.judge(cookie, client, self.now)
        if standing is Standing.VERIFIED:
            self._cookied[opt, client] = unusual.plain_opt(
                edns.dnssec_ok, stale, wire.option(wire.OPTION_COOKIE, whole)
            )
