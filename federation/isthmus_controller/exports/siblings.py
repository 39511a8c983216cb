"""Decide what the silence of one gateway means beside the other gateways of its cluster, which may have more to offer.

A new stream is told what the registry holds of the *cluster*, and a gateway takes back what it does not have of it. So
it must when it is the only one. Beside others it is a gateway with other files, and one of them offers what it lacks.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice

import msgspec

from isthmus_controller.registry import Registry
from isthmus_core.names import ClusterId
from isthmus_sync import CAPACITY, EXPORT, Update
from isthmus_sync.cache import version_of

PATIENCE = 5.0
"""Seconds until a gateway that lacks something is taken for the only one: after an outage all come back within two, and
one whose Envoy still starts is connected and not known to anybody."""

UNSAID = "?"
"""What a gateway lacks, as long as it has not said what it has."""


class Sibling(msgspec.Struct, frozen=True):
    """A gateway of the cluster, as the registry tells."""

    id: str
    held: bool
    introduced: bool
    """Whether other clusters are told to come to it."""
    lacks: str
    """A digest of what it lacked when it connected; empty: nothing."""


def siblings_of(registry: Registry, cluster: ClusterId) -> tuple[Sibling, ...]:
    """All gateways of a cluster that are connected, or that others may come to."""
    introduced, sessions = registry.gateways(cluster), registry.sessions(cluster)
    found: list[Sibling] = []
    for gateway in sorted(introduced.keys() | sessions.keys()):
        session = sessions.get(gateway)
        held = session is not None and session.held
        lacks = session.lacks if session is not None else ""
        if held or gateway in introduced:
            found.append(Sibling(gateway, held, gateway in introduced, lacks))
    return tuple(found)


class Place:
    """The place of one stream's gateway among its siblings. `now` is in seconds that only grow.

    `alone`: what it does not have, nobody has (True: withdraw it), somebody else may have (False: keep it), or that
    cannot be said yet (None: keep it for now). It is decided once: who loses its siblings later withdraws nothing.
    """

    def __init__(self, standing: Mapping[str, Collection[str]], now: float) -> None:
        """`standing` are the names that the gateway is told to stand in the registry, by type."""
        self.alone: bool | None = None
        self._standing = {type_url: frozenset(standing[type_url]) for type_url in (EXPORT, CAPACITY)}
        self._absent: dict[str, set[str]] = {EXPORT: set(), CAPACITY: set()}
        self._unheard = {EXPORT, CAPACITY}
        self.words = 0
        """How often something new was heard."""
        self._missed_since = now  # when nobody was connected who has everything

    def hear(self, update: Update) -> frozenset[str]:
        """Take in what the gateway says; the names of `removed` that it did not have when it connected.

        A publisher compares at once with what it is told, and names what it does not have in its first response of
        CAPACITY. Of EXPORT it may do so later: removals of what is referred to wait for the referrers' (`FEDERATION`).
        """
        absent = self._absent.get(update.type_url)
        if absent is None:
            return frozenset()
        before = len(absent)
        first = update.type_url in self._unheard
        self._unheard.discard(update.type_url)
        absent.difference_update(update.changed)
        if self.alone:
            return frozenset()
        lacked = self._standing[update.type_url] if first else self._absent[CAPACITY]
        kept = frozenset(update.removed) & lacked
        self.words += first or bool(kept) or len(absent) != before
        absent |= kept
        return kept

    @property
    def heard(self) -> bool:
        """Whether the gateway has said all that it has."""
        return not self._unheard

    def lacking(self, stands: Callable[[str], bool]) -> list[str]:
        """What the gateway lacks, of what the cluster exports now. What nobody exports any more is not missed later."""
        lacking = sorted(name for name in self._absent[EXPORT] | self._absent[CAPACITY] if stands(name))
        if self.alone is False:
            for absent in self._absent.values():
                absent.intersection_update(lacking)
        return lacking

    def look(self, own: Collection[str], siblings: Iterable[Sibling], lacks: str, now: float) -> None:
        """Find out whether it is alone. `own` are the gateways that this stream has introduced itself as."""
        others = [sibling for sibling in siblings if sibling.id not in own]
        held = [sibling for sibling in others if sibling.held]
        if any(not sibling.lacks and sibling.introduced for sibling in held):
            self._missed_since = now
        if self.alone is not None:
            return
        late = now - self._missed_since >= PATIENCE
        if not held:
            # One that is about to introduce itself, as soon as its Envoy runs, is known to nobody yet.
            self.alone = True if late or (not lacks and self.heard) else None
        elif own and self.heard:  # one of them may be the gateway itself, in a former life, until it says who it is
            said = [sibling.lacks for sibling in held if sibling.lacks != UNSAID]
            # They all lack the same: what none of them has was deleted while none of them was connected.
            if not lacks or any(other != lacks for other in said):
                self.alone = False
            elif late:
                self.alone = len(said) == len(held)

    def release(self, most: int) -> list[tuple[str, str]]:
        """Type and name of what was kept, to be withdrawn after all: the gateway is alone. At most so many at once."""
        for type_url in (CAPACITY, EXPORT):
            if names := list(islice(self._absent[type_url], most)):
                self._absent[type_url].difference_update(names)
                return [(type_url, name) for name in sorted(names)]
        return []

    def may_be_introduced(
        self, own: Collection[str], siblings: Iterable[Sibling], lacks: str, now: float
    ) -> bool | None:
        """Whether other clusters may come to this gateway; None: it stays as it is.

        Not while it lacks what a sibling has: every second tunnel would be refused. When no sibling that has everything
        has been connected for a while, a part is better than nothing.
        """
        others = [sibling for sibling in siblings if sibling.id not in own]
        if not others or self.alone or (self.heard and not lacks):
            return True
        if any(sibling.held and sibling.introduced and not sibling.lacks for sibling in others):
            return False if self.heard else None
        return True if now - self._missed_since >= PATIENCE else None


def digest_of(names: Collection[str]) -> str:
    """The same for the same names, empty for none."""
    return version_of("\n".join(sorted(names)).encode()) if names else ""
