"""DNS cookies: prove that a client's address is its own, without state (RFC 7873, RFC 9018)."""

import ipaddress
import struct
from enum import Enum
from functools import lru_cache

_M = 0xFFFFFFFFFFFFFFFF
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

    def judge(self, cookie: bytes, client: str, now: int) -> tuple[Standing, bytes]:
        """How the client stands, and the whole cookie to send back (client's part, then ours)."""
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
        return siphash_2_4(self._secret, text + _packed(client))


@lru_cache(8192)
def _packed(client: str) -> bytes:
    return ipaddress.ip_address(client.partition("%")[0]).packed


def siphash_2_4(key: bytes, text: bytes) -> bytes:
    """SipHash-2-4, little-endian, as RFC 9018 wants it; Python's own hash of bytes is another member of the family."""
    k0, k1 = struct.unpack("<QQ", key)
    a, b, c, d = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    padded = text + b"\0" * (7 - len(text) % 8) + bytes((len(text) & 255,))
    words = struct.unpack(f"<{len(padded) // 8}Q", padded)
    # Two rounds for each word and four at the end. They are written out here, because everybody can make us do this.
    for word in (*words, None):
        if word is None:
            c ^= 0xFF
            rounds = 4
        else:
            d ^= word
            rounds = 2
        for _ in range(rounds):
            a = (a + b) & _M
            b = (b << 13 & _M | b >> 51) ^ a
            a = a << 32 & _M | a >> 32
            c = (c + d) & _M
            d = (d << 16 & _M | d >> 48) ^ c
            a = (a + d) & _M
            d = (d << 21 & _M | d >> 43) ^ a
            c = (c + b) & _M
            b = (b << 17 & _M | b >> 47) ^ c
            c = c << 32 & _M | c >> 32
        if word is not None:
            a ^= word
    return struct.pack("<Q", a ^ b ^ c ^ d)


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
