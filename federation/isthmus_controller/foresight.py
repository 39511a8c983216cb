"""Tell gateways of a change of capacity while etcd is still writing it; etcd has the last word."""

from collections.abc import Iterable, Sequence

import msgspec

from isthmus_controller.feeds import Feeds
from isthmus_controller.registry import Published, Registry, Wish
from isthmus_controller.registry.records import RecordKey
from isthmus_controller.store import EndpointsKey
from isthmus_sync import CAPACITY


class _Ahead(msgspec.Struct, frozen=True):
    body: bytes
    revision: int | None = None
    """Where it stands in etcd; None while it is on its way."""


class Foresight:
    """Capacities that stand in the feeds before they stand in etcd. Belongs to one event loop.

    Only what is told already is told anew ahead of time: nothing comes into being or goes by foresight. The
    acknowledgement to the gateway waits for etcd as ever, and so does every other replica.
    """

    def __init__(self, registry: Registry, feeds: Feeds) -> None:
        self._registry = registry
        self._feeds = feeds
        self._ahead: dict[str, _Ahead] = {}

    def concerns(self, key: RecordKey) -> bool:
        """Whether this is told now, so that a change of it may be told ahead."""
        name = _name(key)
        return bool(name) and self._registry.capacity_body(name) is not None

    def expect(self, wishes: Sequence[Wish]) -> bool:
        """These are on their way to etcd: tell those that may be told; whether these are all."""
        news: list[Published] = []
        for wish in wishes:
            name = _name(wish.key)
            if wish.body is not None and self.concerns(wish.key):
                self._ahead[name] = _Ahead(wish.body)
                news.append(Published(CAPACITY, name, wish.body))
        self._feeds.tell(news)
        return len(news) == len(wishes)

    def written(self, key: RecordKey, body: bytes | None, revision: int) -> None:
        """etcd has this at `revision`; from there on the registry's word counts, unless a newer one is on its way."""
        name = _name(key)
        ahead = self._ahead.get(name)
        if ahead is not None and ahead.body == body:
            self._ahead[name] = _Ahead(ahead.body, revision)

    def give_up(self, wishes: Iterable[Wish]) -> None:
        """What of these is not written by now never will be: tell what the registry says."""
        expected = {_name(wish.key): _Ahead(wish.body) for wish in wishes if wish.body is not None}
        self._settle([name for name, ahead in expected.items() if self._ahead.get(name) == ahead])

    def reached(self, revision: int) -> None:
        """The registry holds everything up to `revision`."""
        self._settle([name for name, a in self._ahead.items() if a.revision is not None and a.revision <= revision])

    def newest(self, published: Iterable[Published], revision: int) -> list[Published]:
        """Without what was told ahead of `revision`: its older state is no news. What is gone is gone."""
        return [p for p in published if p.body is None or not self._is_ahead(p, revision)]

    def _is_ahead(self, published: Published, revision: int) -> bool:
        ahead = self._ahead.get(published.name) if published.type_url == CAPACITY else None
        return ahead is not None and (ahead.revision is None or ahead.revision > revision)

    def _settle(self, names: Sequence[str]) -> None:
        for name in names:
            del self._ahead[name]
        self._feeds.tell([Published(CAPACITY, name, self._registry.capacity_body(name)) for name in names])


def _name(key: RecordKey) -> str:
    """The resource that a key is published as; empty for all that is no capacity."""
    return f"{key.service}/{key.cluster}" if isinstance(key, EndpointsKey) else ""
