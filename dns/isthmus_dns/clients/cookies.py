"""DNS cookies: prove that a client's address is its own, without state (RFC 7873, RFC 9018)."""

import ipaddress
import struct
from enum import Enum
from functools import lru_cache

from isthmus_dns.clients.siphash import fastest

_VERSION = b"\1\0\0\0"
_OLDEST = 3600
_NEWEST = 300
_RENEW = 1800


class Standing(Enum):
    """What a client's cookie says about it."""

    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    """No server cookie, or one that is not ours or too old."""
    VERIFIED = "verified"


class Cookies:
    """Makes and checks server cookies under one secret; servers that share an address share the secret too."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 16:
            raise ValueError("a cookie secret has 16 bytes")
        self._secret = secret
        self._siphash = fastest()
        self._judged: tuple[bytes, str, int] = (b"", "", 0)
        self._judgement = Standing.MALFORMED, b""

    def judge(self, cookie: bytes, client: str, now: int) -> tuple[Standing, bytes]:
        """How the client stands, and the whole cookie to send back (client's part, then ours)."""
        judged = cookie, client, now
        if judged != self._judged:  # one query is judged more than once
            self._judgement = self._judge(cookie, client, now)
            self._judged = judged
        return self._judgement

    def _judge(self, cookie: bytes, client: str, now: int) -> tuple[Standing, bytes]:
        if len(cookie) != 8 and not 16 <= len(cookie) <= 40:
            return Standing.MALFORMED, b""
        theirs, ours = cookie[:8], cookie[8:]
        if len(ours) == 16 and ours[:4] == _VERSION:
            age = _serial_minus(now, int.from_bytes(ours[4:8], "big"))
            fresh = -_NEWEST <= age <= _OLDEST
            if fresh and _equal(ours[8:], self._hash(theirs + ours[:8], client)):
                # RFC 9018, section 4.3: a cookie older than half an hour is replaced by a new one.
                return Standing.VERIFIED, cookie if 0 <= age < _RENEW else self._make(theirs, client, now)
        return Standing.UNKNOWN, self._make(theirs, client, now)

    def _make(self, theirs: bytes, client: str, now: int) -> bytes:
        head = _VERSION + struct.pack("!I", now & 0xFFFFFFFF)
        return theirs + head + self._hash(theirs + head, client)

    def _hash(self, text: bytes, client: str) -> bytes:
        return self._siphash(self._secret, text + _packed(client))


@lru_cache(8192)
def _packed(client: str) -> bytes:
    return ipaddress.ip_address(client.partition("%")[0]).packed


def _equal(a: bytes, b: bytes) -> bool:
    """Without telling by the time it takes where they differ."""
    difference = 0
    for x, y in zip(a, b, strict=True):
        difference |= x ^ y
    return difference == 0


def _serial_minus(a: int, b: int) -> int:
    """a - b of 32-bit serial numbers (RFC 1982), from -2^31 to 2^31 - 1."""
    difference = (a - b) & 0xFFFFFFFF
    return difference - (1 << 32) if difference >> 31 else difference
