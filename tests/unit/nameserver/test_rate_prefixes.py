"""Who shares a rate: everybody in one /24 or /56, and nobody else; and what is sent instead of an answer."""

import dns.flags
import dns.message
import pytest

from isthmus_dns.clients.ratelimit import RateLimiter
from unit.nameserver.builders import headless, host, question, responder, service

SERVER = responder(service("shop/web"), headless("shop/db", [host(f"10.0.{n}.1", f"db-{n}") for n in range(60)]))


def used_up(limiter: RateLimiter, client: str) -> bool:
    """Whether the client's prefix has no more answers in this second; takes one."""
    bucket = limiter.buckets.get(client) or limiter.bucket(client)
    bucket[0] -= 1
    return bucket[0] < 0


@pytest.mark.parametrize(
    ("client", "shares"),
    [
        ("203.0.113.2", True),
        ("203.0.113.255", True),
        ("203.0.112.1", False),
        ("203.0.114.1", False),
        ("2001:db8:0:1::1", False),
    ],
)
def test_a_flood_uses_up_what_its_24_has(client: str, shares: bool) -> None:
    limiter = RateLimiter(rate=5)
    for _ in range(5):
        assert not used_up(limiter, "203.0.113.1")

    assert used_up(limiter, client) is shares


@pytest.mark.parametrize(
    ("client", "shares"),
    [
        ("2001:db8:0:ff::1", True),
        ("2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:100::1", False),
        ("2001:db8:1::1", False),
        ("203.0.113.1", False),
    ],
)
def test_a_flood_uses_up_what_its_56_has(client: str, shares: bool) -> None:
    limiter = RateLimiter(rate=5)
    for _ in range(5):
        assert not used_up(limiter, "2001:db8::1")

    assert used_up(limiter, client) is shares


@pytest.mark.parametrize(
    "client", ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1"]
)
def test_addresses_that_cannot_be_forged_from_outside_have_no_limit(client: str) -> None:
    limiter = RateLimiter(rate=1)
    assert not any(used_up(limiter, client) for _ in range(1000))


@pytest.mark.parametrize(
    ("name", "rtype", "edns"),
    [
        ("web.shop.svc", "A", None),
        ("web.shop.svc", "A", 1232),
        ("db.shop.svc", "A", 4096),
        ("nope", "A", 1232),
        ("nope", "ANY", 512),
    ],
)
def test_what_slips_through_is_shorter_than_the_query_and_says_come_over_tcp(
    name: str, rtype: str, edns: int | None
) -> None:
    limiter = RateLimiter(rate=1, slip=1)
    query = question(f"{name}.clusterset.local", rtype, edns, id=7)
    packet = query.to_wire()
    answer = SERVER.respond(packet, False, "203.0.113.1")
    assert answer is not None
    bucket = limiter.bucket("203.0.113.1")
    bucket[0] = -1

    cut = limiter.over(bucket, "203.0.113.1", packet, answer)

    assert cut is not None
    assert len(cut) <= len(packet)
    message = dns.message.from_wire(cut)
    assert message.flags & dns.flags.TC
    assert (message.id, message.question) == (7, query.question)
    assert not any(message.sections[1:])


@pytest.mark.parametrize(("slip", "sent"), [(0, 0), (1, 60), (2, 30), (3, 20), (10, 6)])
def test_every_nth_answer_over_the_rate_slips_through(slip: int, sent: int) -> None:
    limiter = RateLimiter(rate=0, slip=slip)
    packet = question("web.shop.svc.clusterset.local").to_wire()
    answer = SERVER.respond(packet, False, "203.0.113.1")
    assert answer is not None
    bucket = limiter.bucket("203.0.113.1")
    cuts = []
    for _ in range(60):
        bucket[0] -= 1
        cuts.append(limiter.over(bucket, "203.0.113.1", packet, answer))

    assert len([cut for cut in cuts if cut]) == limiter.slipped == sent
    assert limiter.withheld == 60 - sent
