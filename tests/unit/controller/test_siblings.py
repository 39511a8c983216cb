"""What one gateway's silence means beside its siblings, case by case."""

import pytest

from isthmus_controller.exports.siblings import PATIENCE, UNSAID, Place, Sibling, digest_of
from isthmus_sync import CAPACITY, EXPORT, Update
from isthmus_sync.subscriber import Changed

STANDING = {EXPORT: ("shop/a", "shop/b"), CAPACITY: ("shop/a", "shop/b")}
ALL = digest_of(("shop/a", "shop/b"))
EARLY, LATE = PATIENCE / 2, PATIENCE * 2


def sibling(name: str = "g2", *, held: bool = True, introduced: bool = True, lacks: str = "") -> Sibling:
    return Sibling(name, held, introduced, lacks)


AWAY = sibling(held=False)
EQUAL = sibling(lacks=ALL)


def says(place: Place, type_url: str, *removed: str) -> frozenset[str]:
    return place.hear(Update(type_url, {}, frozenset(removed), {}, "1", True))


def empty_handed() -> Place:
    """A gateway that has nothing has said so."""
    place = Place(STANDING, 0.0)
    assert says(place, EXPORT) == frozenset()
    assert says(place, CAPACITY, "shop/a", "shop/b") == {"shop/a", "shop/b"}
    assert says(place, EXPORT, "shop/a", "shop/b") == {"shop/a", "shop/b"}, "it waited for the capacities' removal"
    return place


@pytest.mark.parametrize(
    ("siblings", "own", "now", "alone"),
    [
        ((), ("g1",), EARLY, None),  # another one may be connected whose Envoy does not run yet
        ((), ("g1",), LATE, True),
        ((sibling("g1"),), ("g1",), LATE, True),
        ((sibling("g1"),), (), LATE, None),  # itself in a former life, or somebody else
        ((sibling(),), ("g1",), LATE, False),
        ((sibling(lacks=UNSAID),), ("g1",), EARLY, None),  # both are back at once, and wait for the other's word
        ((EQUAL, sibling("g3", lacks=UNSAID)), ("g1",), EARLY, None),
        ((sibling(lacks=UNSAID),), ("g1",), LATE, False),
        ((sibling(introduced=False, lacks="other"),), ("g1",), LATE, False),
        ((AWAY,), ("g1",), EARLY, None),  # everybody was away: the other one comes back, too
        ((AWAY,), ("g1",), LATE, True),
        ((EQUAL,), ("g1",), EARLY, None),
        ((EQUAL,), ("g1",), LATE, True),  # what both lack was deleted at both
        ((EQUAL, sibling("g3")), ("g1",), LATE, False),
        ((EQUAL, sibling("g3", held=False)), ("g1",), EARLY, None),
        ((EQUAL, sibling("g3", held=False)), ("g1",), LATE, True),
    ],
)
def test_a_gateway_is_alone_when_nobody_has_what_it_lacks(
    siblings: tuple[Sibling, ...], own: tuple[str, ...], now: float, alone: bool | None
) -> None:
    place = empty_handed()
    place.look(own, siblings, ALL, now)
    assert place.alone is alone


@pytest.mark.parametrize(
    ("siblings", "lacks", "now", "shown"),
    [
        ((), ALL, 0.0, True),
        ((sibling(),), "", 0.0, True),
        ((sibling(),), ALL, LATE, False),
        ((AWAY,), ALL, EARLY, None),
        ((AWAY,), ALL, LATE, True),  # part is better than nothing
        ((sibling(introduced=False),), ALL, LATE, True),
        ((sibling(lacks="other"),), ALL, LATE, True),
    ],
)
def test_others_come_to_a_gateway_that_has_everything_or_to_the_best_that_is_left(
    siblings: tuple[Sibling, ...], lacks: str, now: float, shown: bool | None
) -> None:
    assert empty_handed().may_be_introduced(("g1",), siblings, lacks, now) is shown


def test_before_it_has_said_what_it_has_it_stays_as_it_is() -> None:
    assert Place(STANDING, 0.0).may_be_introduced(("g1",), (sibling(),), "", LATE) is None


def test_who_loses_its_siblings_later_withdraws_nothing_and_is_shown_after_a_while() -> None:
    place = empty_handed()
    place.look(("g1",), (sibling(),), ALL, LATE)
    place.look(("g1",), (AWAY,), ALL, LATE + PATIENCE - 0.1)
    assert place.may_be_introduced(("g1",), (AWAY,), ALL, LATE + PATIENCE - 0.1) is None
    place.look(("g1",), (), ALL, LATE + PATIENCE)
    assert place.alone is False
    assert place.may_be_introduced(("g1",), (), ALL, LATE + PATIENCE) is True


def test_what_was_kept_is_withdrawn_once_when_the_gateway_turns_out_to_be_alone() -> None:
    place = empty_handed()
    place.look(("g1",), (), ALL, LATE)
    assert place.release(1) in ([(CAPACITY, "shop/a")], [(CAPACITY, "shop/b")])
    assert len(place.release(9)) == 1
    assert place.release(9) == [(EXPORT, "shop/a"), (EXPORT, "shop/b")]
    assert place.release(9) == []
    assert says(place, EXPORT, "shop/a") == frozenset()


def test_what_is_offered_while_the_rest_is_withdrawn_stays() -> None:
    place = empty_handed()
    place.look(("g1",), (), ALL, LATE)
    place.release(9)
    place.hear(Update(EXPORT, {"shop/b": Changed("1", b"")}, frozenset(), {}, "2", True))
    assert place.release(9) == [(EXPORT, "shop/a")]


def test_who_lacks_nothing_need_not_wait() -> None:
    place = Place(STANDING, 0.0)
    says(place, CAPACITY)
    says(place, EXPORT)
    place.look(("g1",), (), "", 0.0)
    assert place.alone is True
