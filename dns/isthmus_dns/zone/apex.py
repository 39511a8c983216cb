"""What stands at the top of a zone: SOA, NS with their addresses, the MCS version; and its negative answers."""

import re
import struct

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_dns.message import wire
from isthmus_dns.zone.records import WHY, RRset
from isthmus_dns.zone.service import read_address

MCS_VERSION = "1.0.0"
"""The schema of MCS DNS that the zone follows (section 2.2)."""


# Letters, digits and hyphens (RFC 1123), and the underscores that zones in use have.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?\Z")
_NUMBERS = re.compile(r"[\d.]+\Z")


class NameServer(msgspec.Struct, frozen=True):
    """A name server of a zone; its addresses become glue when its name lies inside the zone."""

    name: str
    addresses: tuple[str, ...] = ()


class ZoneSpec(msgspec.Struct, frozen=True):
    """A zone that we are authoritative for. Without name servers it names one of its own, `ns.dns.<origin>`."""

    origin: str = "clusterset.local"
    name_servers: tuple[NameServer, ...] = ()
    contact: str = ""
    """The mailbox of the SOA, as a mail address or as a DNS name; `hostmaster@<origin>` when empty."""


def parse_zone(text: str) -> ZoneSpec:
    """`ZONE[=NAME[@IP...],...]`: a zone, its name servers, and the addresses of those that lie inside it."""
    origin, equals, listed = text.strip().partition("=")
    servers = []
    for server in listed.split(",") if equals else ():
        name, *addresses = server.strip().split("@")
        if not name or _NUMBERS.match(name) or ":" in name:
            raise InvalidInput(
                f"{text!r} has a name server without a name",
                f"Write it like {origin}=ns1.{origin}@192.0.2.1.",
            )
        inside = f".{name.rstrip('.').lower()}".endswith(f".{origin.rstrip('.').lower()}")
        if inside and not addresses:
            raise InvalidInput(
                f"nobody can find {name}, which lies inside the zone that it serves, without its address",
                f"Write {name}@IP.",
            )
        servers.append(NameServer(name, tuple(addresses)))
    spec = ZoneSpec(origin, tuple(servers))
    Apex(spec, 0, 0)  # says what is wrong with names and addresses
    return spec


DELEGATION_TTL = 3600
"""Seconds for which name servers that somebody named, and their addresses, may be kept: a new start changes them."""


class Apex:
    """A zone's own records; `serial` only grows (RFC 1982), whatever it is told."""

    def __init__(self, spec: ZoneSpec, ttl: int, negative_ttl: int) -> None:
        self.origin = _name(spec.origin)
        self.text = spec.origin.rstrip(".").lower()
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self.serial = 0
        # Resolvers go by our NS records rather than by the parent's: who forgets them soon asks it again and again.
        self.delegation_ttl = max(ttl, DELEGATION_TTL) if spec.name_servers else ttl
        servers = spec.name_servers or (NameServer(f"ns.dns.{self.text}"),)
        self._servers = tuple((_name(server.name), _addresses(server)) for server in servers)
        self._contact = mailbox_name(spec.contact or f"hostmaster.{self.text}")
        self._tails: dict[int, bytes] = {}

    def advance(self, serial: int) -> bool:
        """Take a newer serial; an older one (RFC 1982, section 3.2) is passed over. True when it changed."""
        if self.serial and not 0 < (serial - self.serial) & 0xFFFFFFFF < 0x80000000:
            return False
        self.serial = serial & 0xFFFFFFFF
        self._tails.clear()
        return True

    def soa(self) -> bytes:
        """The rdata of the SOA record; nobody transfers this zone, so refresh and retry are only customary."""
        times = struct.pack("!5I", self.serial, 7200, 1800, 86400, self.negative_ttl)
        return self._servers[0][0] + self._contact + times

    def soa_record(self) -> RRset:
        """The SOA record, the only one that a new serial changes."""
        return RRset(self.origin, wire.SOA, (self.soa(),))

    def negative(self, name_length: int) -> bytes:
        """The authority section of a negative answer for a name of this many bytes in the zone (RFC 2308)."""
        tail = self._tails.get(name_length)
        if tail is None:
            owner = struct.pack("!H", 0xC000 | (12 + name_length - len(self.origin)))
            tail = wire.record(owner, wire.SOA, min(self.ttl, self.negative_ttl), self.soa())
            self._tails[name_length] = tail
        return tail

    def records(self) -> list[RRset]:
        """SOA, NS, the addresses of name servers inside the zone, and the version of the MCS schema."""
        glue = []
        for name, addresses in self._servers:
            if name.endswith(self.origin):
                for rtype, size in ((wire.A, 4), (wire.AAAA, 16)):
                    rdatas = tuple(address for address in addresses if len(address) == size)
                    if rdatas:
                        glue.append(RRset(name, rtype, rdatas))
        return [
            self.soa_record(),
            RRset(self.origin, wire.NS, tuple(name for name, _ in self._servers), tuple(glue)),
            *glue,
            RRset(b"\x0bdns-version" + self.origin, wire.TXT, (wire.text_rdata(MCS_VERSION),)),
        ]

    def inner_names(self) -> list[bytes]:
        """Names of the zone that exist without a compiled record: `_why`, and servers whose address nobody told us."""
        return [WHY + self.origin, *(name for name, _ in self._servers if name.endswith(self.origin))]


def mailbox_name(text: str) -> bytes:
    """A mail address as the wire name that stands for it (RFC 1035, section 8), or such a name as it is."""
    local, at, domain = text.strip().rpartition("@")
    if not at:
        return _name(domain)
    label = local.encode("ascii", "replace")
    if not 0 < len(label) < 64 or "@" in local or not local.isascii() or not local.isprintable():
        raise InvalidInput(f"{text!r} is not a mail address", "Write it like hostmaster@example.com.")
    return bytes((len(label),)) + label + _name(domain)


def _name(text: str) -> bytes:
    try:
        name = wire.encode_name(text)
        if not all(_LABEL.match(label) for label in text.rstrip(".").split(".")) and text != ".":
            raise ValueError("a label has other characters")
    except (ValueError, UnicodeEncodeError):
        raise InvalidInput(
            f"{text!r} is not a DNS name", "Use labels of 1 to 63 letters, digits and hyphens."
        ) from None
    if name == b"\0":
        raise InvalidInput("the root cannot be a zone of a federation", "Name a zone such as clusterset.local.")
    return name


def _addresses(server: NameServer) -> tuple[bytes, ...]:
    return tuple(read_address(address) for address in server.addresses)
