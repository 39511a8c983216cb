"""What gateways are told wakes those whom it concerns."""

from isthmus_controller.feeds import Feeds
from isthmus_controller.registry import Published
from isthmus_core.names import ClusterId
from isthmus_sync import CAPACITY, IMPORT

WEST, EAST = ClusterId("west"), ClusterId("east")


def capacity(body: bytes | None) -> Published:
    return Published(CAPACITY, "shop/echo/west", body)


def woken(feeds: Feeds) -> tuple[int, int]:
    return feeds.of(WEST).changes, feeds.of(EAST).changes


def told() -> Feeds:
    feeds = Feeds()
    assert woken(feeds) == (0, 0)
    feeds.tell([capacity(b"1")])
    return feeds


def test_a_first_capacity_and_a_withdrawal_are_news_for_everybody() -> None:
    feeds = told()
    assert woken(feeds) == (1, 1)
    feeds.tell([capacity(None)])
    assert woken(feeds) == (2, 2)


def test_a_cluster_hears_the_echo_of_its_own_capacity_later_and_once() -> None:
    feeds = told()
    feeds.tell([capacity(b"2")])
    assert woken(feeds) == (1, 2)
    feeds.catch_up()
    assert woken(feeds) == (2, 2)
    feeds.catch_up()
    assert woken(feeds) == (2, 2)


def test_an_echo_goes_along_with_other_news() -> None:
    feeds = told()
    feeds.tell([capacity(b"2"), Published(IMPORT, "shop/cart", b"x")])
    assert woken(feeds) == (2, 2)
    feeds.catch_up()
    assert woken(feeds) == (2, 2)
