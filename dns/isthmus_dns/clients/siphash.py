"""SipHash-2-4, the hash of server cookies (RFC 9018, section 4.4): by the system's OpenSSL, or else in Python.

Everybody can make us hash, so it has to be cheap: OpenSSL takes a fifth of the time.
"""

import ctypes
import struct
from collections.abc import Callable
from functools import cache

_M = 0xFFFFFFFFFFFFFFFF
_SIZE = 8

Hash = Callable[[bytes, bytes], bytes]
"""From a key of 16 bytes and a text to eight bytes."""


def siphash_2_4(key: bytes, text: bytes) -> bytes:
    """In little-endian order, as RFC 9018 wants it; Python's own hash of bytes is another member of the family."""
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


class _Param(ctypes.Structure):
    """OSSL_PARAM of OpenSSL 3."""

    _fields_ = (
        ("key", ctypes.c_char_p),
        ("kind", ctypes.c_uint),
        ("value", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("returned", ctypes.c_size_t),
    )


class OpenSslHash:
    """The same by OpenSSL's EVP_MAC; raises OSError where that is not there. For one thread."""

    def __init__(self) -> None:
        library = ctypes.CDLL("libcrypto.so.3")
        try:
            fetch, new = library.EVP_MAC_fetch, library.EVP_MAC_CTX_new
            self._init, self._update, self._final = library.EVP_MAC_init, library.EVP_MAC_update, library.EVP_MAC_final
        except AttributeError as missing:
            raise OSError(str(missing)) from missing
        pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
        fetch.restype, fetch.argtypes = pointer, (pointer, text, text)
        new.restype, new.argtypes = pointer, (pointer,)
        self._init.argtypes = (pointer, text, size, pointer)
        self._update.argtypes = (pointer, text, size)
        self._final.argtypes = (pointer, text, pointer, size)
        method = fetch(None, b"SIPHASH", None)
        self._context = new(method) if method else None
        if not self._context:
            raise OSError("OpenSSL has no SipHash here")
        # Else it gives sixteen bytes, of another hash. An entry without a key ends the list.
        self._wanted = size(_SIZE)
        unsigned = 2
        where = ctypes.cast(ctypes.byref(self._wanted), pointer)
        self._params = (_Param * 2)(_Param(b"size", unsigned, where, ctypes.sizeof(size), 0))
        self._where = ctypes.addressof(self._params)
        self._found = ctypes.create_string_buffer(_SIZE)
        self._returned = size()
        self._where_returned = ctypes.addressof(self._returned)

    def __call__(self, key: bytes, text: bytes) -> bytes:
        context = self._context
        done = self._init(context, key, 16, self._where) == 1
        done = done and self._update(context, text, len(text)) == 1
        if not done or self._final(context, self._found, self._where_returned, _SIZE) != 1:
            return siphash_2_4(key, text)
        return self._found.raw


@cache
def fastest() -> Hash:
    """The faster one of those that are here and give what the reference gives."""
    try:
        found = OpenSslHash()
    except OSError:
        return siphash_2_4
    key = bytes(range(16))
    right = all(found(key, bytes(range(n))) == siphash_2_4(key, bytes(range(n))) for n in (0, 15, 20, 32))
    return found if right else siphash_2_4
