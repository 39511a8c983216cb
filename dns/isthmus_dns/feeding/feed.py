"""Take the zone feed into one worker's zone, and say how fresh the zone is."""

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from isthmus_core.errors import InvalidInput
from isthmus_dns.answering.answer import Responder
from isthmus_dns.feeding.frames import FramedWire, Standing
from isthmus_dns.zone import intake
from isthmus_dns.zone.backlog import Backlog
from isthmus_dns.zone.steps import Steps, T
from isthmus_sync import (
    WILDCARD,
    ZONE_HEADER,
    ZONE_SERVICE,
    SubscriberStream,
    Subscribing,
    Update,
)
from isthmus_sync.subscribing import subscribe_on

log = logging.getLogger(__name__)

_LONGEST_SOCKET_PATH = 107


class ZoneFollower:
    """Applies the feed to the zone of `responder`; `tick` is called once a second and looks at the clock."""

    def __init__(self, responder: Responder, stale_after: float, clock: Callable[[], float]) -> None:
        self.connected = False
        self.known = asyncio.Event()
        """Set once the zone is fully known."""
        self.refused = 0
        self._responder = responder
        self._zone = responder.zone
        self._stale_after = stale_after
        self._clock = clock
        self._lost_at = clock()
        self._whole: set[str] = set()
        self._backlog: Backlog | None = None
        # In this order: whoever has the header knows the zone as soon as it has heard of all services (`_take_rest`).
        stream = SubscriberStream({ZONE_HEADER: {WILDCARD}, ZONE_SERVICE: {WILDCARD}})
        self.subscribing = Subscribing(stream, self._apply, self._on_connected, self._on_disconnected)
        """What a shell needs that brings the feed. Whoever brings it next, only brings what differs."""

    async def follow_relay(self, sock: socket.socket) -> None:
        """Follow the supervisor at the other end of `sock`, which follows the agent; returns when it has ended."""
        wire = await FramedWire.over(sock, self._on_standing)
        try:
            await subscribe_on(wire, self.subscribing)
        except ConnectionError:
            pass  # it ended while it was written to
        finally:
            wire.close()
        self._on_standing(Standing(connected=False))

    def tick(self) -> None:
        """Mark the zone as stale once the feed has been gone for too long."""
        lost = not self.connected and self._clock() - self._lost_at > self._stale_after
        if intake.mark(self._zone, self._synced, lost):
            if not self.known.is_set():
                # What is here now stays: the collector would walk all of it while clients wait.
                gc.freeze()
            self.known.set()
            self._responder.freshen()
            freshness = self._zone.freshness
            log.info("freshness of the zone changed", extra={"synced": freshness.synced, "stale": freshness.stale})

    @property
    def _synced(self) -> bool:
        return self._whole >= {ZONE_HEADER, ZONE_SERVICE}

    async def _apply(self, update: Update) -> Mapping[str, str]:
        changed = {name: change.body for name, change in update.changed.items()}
        if update.type_url == ZONE_HEADER:
            refused = intake.apply_header(self._zone, changed)
        elif update.last and self._whole == {ZONE_HEADER}:
            refused = await self._take_rest(changed, update.removed)
        else:
            refused = await self._apply_services(changed, update.removed)
        if update.last:
            self._whole.add(update.type_url)
        for name, reason in refused.items():
            log.warning("service refused", extra={"service": name, "reason": reason})
        self.refused += len(refused)
        self.tick()
        return refused

    async def _apply_services(self, changed: Mapping[str, bytes], removed: Collection[str]) -> dict[str, str]:
        """Take in a large change bit by bit: whoever asks meanwhile is answered, from the old or the new state."""
        if self._backlog:
            await self._work_off(self._backlog)  # whoever brought it left before it was done
        bits = intake.bits(changed)
        if len(bits) < 2:
            return await _taken(intake.applying_services(self._zone, changed, removed))
        refused: dict[str, str] = {}
        with _uncollected():
            for bit in bits:
                refused |= await _taken(intake.applying_services(self._zone, bit, ()))
                await asyncio.sleep(0)
            intake.apply_services(self._zone, {}, removed)
        return refused

    async def _take_rest(self, changed: Mapping[str, bytes], removed: Collection[str]) -> dict[str, str]:
        """Take in the rest of the first full state: clients are answered at once, from what is compiled meanwhile."""
        intake.apply_services(self._zone, {}, removed)
        with _uncollected():
            self._backlog = backlog = Backlog(self._zone, changed)
            self._whole.add(ZONE_SERVICE)
            self.tick()
            await self._work_off(backlog)
        return backlog.refused

    async def _work_off(self, backlog: Backlog) -> None:
        for part in backlog.parts():
            await asyncio.sleep(0)
            await _taken(backlog.taking(part))

    def _on_connected(self) -> None:
        self.connected = True
        self._zone.feed_lost_at = 0
        self.tick()

    def _on_disconnected(self, reason: str) -> None:
        if self.connected:
            self._on_standing(Standing(connected=False))
            log.warning("zone feed lost", extra={"reason": reason})

    def _on_standing(self, standing: Standing) -> None:
        if standing.connected:
            self._on_connected()
            return
        self.connected = False
        self._lost_at = self._clock() - standing.away
        self._zone.feed_lost_at = self._responder.now - int(standing.away)
        self.tick()


@contextmanager
def _uncollected() -> Iterator[None]:
    """The zone has no cycles: the collector would only walk all of it now and then, while clients wait."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def _taken(steps: Steps[T]) -> T:
    """The result of all steps; clients are answered between them."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        await asyncio.sleep(0)


def check_feed_path(path: Path) -> None:
    """Refuse a path that can never be the feed; one whose socket is not there yet may still appear."""
    if len(str(path).encode()) > _LONGEST_SOCKET_PATH:
        raise InvalidInput(
            f"the path of the zone feed {path} is longer than {_LONGEST_SOCKET_PATH} bytes",
            "Use a shorter data directory.",
        )
    if path.exists() and not path.is_socket():
        raise InvalidInput(f"{path} is not a socket", "Give the zone.sock in the data directory of the gateway.")
    if not path.parent.is_dir():
        raise InvalidInput(
            f"the folder {path.parent} of the zone feed does not exist",
            "Give the data directory of a gateway that has joined.",
        )
