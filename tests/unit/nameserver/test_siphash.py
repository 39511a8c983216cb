"""The hash of server cookies: OpenSSL's and our own are the one of the reference."""

import random

import pytest

from isthmus_dns.clients.siphash import OpenSslHash, fastest, siphash_2_4

KEY = bytes(range(16))


def test_siphash_is_the_reference_one() -> None:
    assert siphash_2_4(KEY, bytes(range(15))).hex() == "e545be4961ca29a1"
    assert fastest()(KEY, bytes(range(15))).hex() == "e545be4961ca29a1"


def test_openssl_and_python_hash_the_same() -> None:
    try:
        openssl = OpenSslHash()
    except OSError as absent:
        pytest.skip(f"there is no OpenSSL 3 with SipHash here: {absent}")
    chance = random.Random(7)
    for length in range(64):
        key, text = chance.randbytes(16), chance.randbytes(length)
        assert openssl(key, text) == siphash_2_4(key, text)
