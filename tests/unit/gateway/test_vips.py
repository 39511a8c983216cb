"""Virtual addresses: the same for a service in every gateway and at any time."""

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_core.names import ServiceName
from isthmus_gateway.vips import REMEMBERED, allocate, parse_range

POOL = parse_range("127.80.0.0/29")  # six addresses
NAMES = [ServiceName("shop", f"s{n}") for n in range(10)]


def test_a_service_keeps_its_address_whatever_comes_or_goes() -> None:
    first = allocate(NAMES[:1], {}, POOL).assigned[NAMES[0]]
    for count in range(2, 7):
        assert allocate(NAMES[:count], {NAMES[0]: first}, POOL).assigned[NAMES[0]] == first


def test_gateways_that_never_talked_agree() -> None:
    assert allocate(NAMES[:2], {}, parse_range("127.80.0.0/16")) == allocate(
        NAMES[1::-1], {}, parse_range("127.80.0.0/16")
    )


def test_a_service_that_returns_gets_its_address_back() -> None:
    before = allocate(NAMES[:3], {}, POOL).assigned
    without = allocate(NAMES[1:3], before, POOL).assigned
    assert allocate(NAMES[:3], without, POOL).assigned == before


def test_a_full_range_takes_addresses_of_services_that_are_gone_and_then_names_who_has_none() -> None:
    before = allocate(NAMES[:6], {}, POOL).assigned
    after = allocate(NAMES[1:8], before, POOL)
    assert len(set(after.assigned.values())) == 6 and NAMES[6] in after.assigned
    assert after.exhausted == (NAMES[7],)


def test_of_many_services_that_are_gone_those_that_went_first_are_forgotten() -> None:
    pool, stays = parse_range("127.80.0.0/16"), ServiceName("shop", "stays")
    passers = [ServiceName("ci", f"s{number}") for number in range(REMEMBERED + 100)]
    assigned = allocate([stays], {}, pool).assigned
    address = assigned[stays]
    for start in range(0, len(passers), 50):
        assigned = allocate([stays, *passers[start : start + 50]], assigned, pool).assigned
    # The oldest of all goes last, so it is remembered longest.
    for wanted in ([stays], []):
        assigned = allocate(wanted, assigned, pool).assigned
    assert list(assigned) == [*passers[101:], stays]
    assert allocate([stays], assigned, pool).assigned[stays] == address


def test_nobody_is_forgotten_while_more_services_are_to_come() -> None:
    pool = parse_range("127.80.0.0/16")
    names = [ServiceName("shop", f"s{number}") for number in range(REMEMBERED + 100)]
    others = [*allocate(names, {}, pool).assigned.values()][::-1]  # not those that anybody would get anew
    before = dict(zip(names, others, strict=True))
    first = allocate(names[:10], before, pool, complete=False).assigned
    assert allocate(names, first, pool).assigned == before


def test_reserved_addresses_and_the_ends_of_the_range_are_nobodys() -> None:
    given = allocate(NAMES, {}, POOL, frozenset({"127.80.0.3"}))
    assert "127.80.0.3" not in given.assigned.values() and len(given.assigned) == 5
    assert not {"127.80.0.0", "127.80.0.7"} & set(given.assigned.values())


def test_another_range_gives_new_addresses() -> None:
    before = allocate(NAMES[:1], {}, POOL).assigned
    after = allocate(NAMES[:1], before, parse_range("127.81.0.0/24")).assigned
    assert after[NAMES[0]].startswith("127.81.0.")


def test_ranges_of_ipv6_work_too() -> None:
    assert allocate(NAMES, {}, parse_range("fd00:80::/64")).exhausted == ()


@pytest.mark.parametrize("text", ["", "127.80.0.1/16", "127.80.0.0/40", "nowhere"])
def test_a_malformed_range_is_one_clear_sentence(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"127\.80\.0\.0/16"):
        parse_range(text)
