"""Answer one query from the compiled zone: a look-up by the question's bytes, and a slow way for the unusual."""

from isthmus_dns import unusual, wire
from isthmus_dns.compiled import heads
from isthmus_dns.query import Fault, Query, read_query
from isthmus_dns.unusual import Features
from isthmus_dns.zone import Zone

_OPT_LENGTH = 11
_OPTS_KEPT = 2048

# The ten bytes after the id, for a standard query with one question and at most one additional record. AA, TC, RA, Z,
# AD and CD mean nothing in a query to an authority and are ignored (RFC 8906, section 3.1.3): all values are here.
_KINDS = {
    bytes((high, low << 4)) + wire.header(0, 0, 0, additional)[2:]: (high & 1) + 2 * additional
    for high in range(8)
    for low in range(16)
    for additional in (0, 1)
}
# Types with rules of their own: ANY, transfers, TSIG and TKEY, OPT, and the obsolete meta types beside them.
_ODD_TYPES = frozenset(t.to_bytes(2, "big") for t in (0, wire.OPT, *range(249, 256)))
_IN = wire.IN.to_bytes(2, "big")
_WHY = b"\4_why"
_NODATA = heads(wire.AA, 0, 1)
_NXDOMAIN = heads(wire.AA | wire.NXDOMAIN, 0, 1)


class Responder:
    """Answers queries from one zone; no I/O and no clock: the shell sets `now` (Unix seconds) when a second passes."""

    __slots__ = ("_opts", "_stale", "features", "now", "nxdomain", "outcomes", "zone")

    def __init__(self, zone: Zone, features: Features = Features()) -> None:  # noqa: B008 - frozen
        self.zone = zone
        self.features = features
        self.now = 0
        self.nxdomain = 0
        """How many fast answers were NXDOMAIN; those of the slow way are in `outcomes` by their code."""
        self.outcomes: dict[int, int] = {}
        self._stale = False
        self._opts: dict[bytes, bytes] = {}

    def respond(self, query: bytes, tcp: bool = False, client: str = "") -> bytes | None:
        """The answer to the packet `query`; None where silence is right."""
        zone = self.zone
        kind = _KINDS.get(query[2:12])
        if kind is not None and zone.freshness.synced:
            if kind < 2:
                question = query[12:]
                opt: bytes | None = b""
            else:
                question = query[12:-_OPT_LENGTH]
                opt = self._opts.get(query[-_OPT_LENGTH:])
            if opt is not None:
                key = question.lower()
                ready = zone.ready.get(key)
                if ready is not None:
                    return b"".join((query[:2], ready[kind], question, ready[4], opt))
                negative = self._negative(key, kind)
                if negative is not None:
                    return b"".join((query[:2], negative[0], question, negative[1], opt))
        return self._respond_slowly(query, tcp, client)

    def freshen(self) -> None:
        """Notice that the zone's freshness changed: answers are marked, or no longer marked, as stale."""
        self._stale = self.zone.freshness.stale
        self._opts.clear()

    def _negative(self, key: bytes, kind: int) -> tuple[bytes, bytes] | None:
        """The heads and authority of a plain NODATA or NXDOMAIN; None when the slow way has to look."""
        name = key[:-4]
        zone = self.zone
        if key[-2:] != _IN or key[-4:-2] in _ODD_TYPES or name[:5] == _WHY or key in zone.long:
            return None
        if name in zone.names:
            apex = zone.apex_of(name)
            return None if apex is None else (_NODATA[kind], apex.negative(len(name)))
        # The name comes from outside: walk its labels before it is believed.
        at, end = 0, len(name) - 1
        if not 0 <= end < 255:
            return None
        while at < end:
            length = name[at]
            if not 0 < length < 64:
                return None
            at += 1 + length
        if at != end or name[end]:
            return None
        apex = zone.apex_of(name)
        if apex is None:
            return None
        self.nxdomain += 1
        return _NXDOMAIN[kind], apex.negative(len(name))

    def _respond_slowly(self, packet: bytes, tcp: bool, client: str) -> bytes | None:
        query = read_query(packet)
        if query is None:
            return None
        if isinstance(query, Query) and query.edns is not None and not query.edns.options:
            self._learn(packet[-_OPT_LENGTH:], query)
        asked = unusual.Asked(query, packet, tcp, client, self.now)
        rcode, response = unusual.respond(asked, self.zone, self.features)
        self.outcomes[rcode] = self.outcomes.get(rcode, 0) + 1
        return response

    def _learn(self, opt: bytes, query: Query) -> None:
        """Remember this form of OPT record, so that the next query with it takes the fast way."""
        edns = query.edns
        plain = edns is not None and edns.version == 0 and opt[:3] == b"\0\0\x29" and opt[9:] == b"\0\0"
        if edns is not None and plain and len(self._opts) < _OPTS_KEPT:
            self._opts[opt] = unusual.plain_opt(edns.dnssec_ok, self.zone.freshness.stale)


__all__ = ["Fault", "Features", "Responder"]
