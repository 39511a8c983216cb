"""Keep what the agent said, for workers that are started again: they get it at once, also while the agent is away.

agent -- zone feed (gRPC) --> Relay: newest state, serialised once --+-- socket --> worker
                                                                     +-- socket --> worker
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from isthmus_core.errors import InvalidInput
from isthmus_dns.feeding.frames import FramedWire, Standing
from isthmus_dns.zone import intake
from isthmus_dns.zone.zone import Zone
from isthmus_sync import (
    WILDCARD,
    ZONE,
    ZONE_HEADER,
    ZONE_SERVICE,
    Publication,
    Publishing,
    Resource,
    ResourceCache,
    SubscriberStream,
    Subscribing,
    Update,
)
from isthmus_sync.streams import publish_on

log = logging.getLogger(__name__)

_PART = 1000
"""Services that are passed on together."""


class Relay:
    """The newest state of the feed, and the workers that follow it. `trial` is an empty zone like theirs.

    After each update the next one is left to the agent for `pause` seconds; it gathers changes until then.
    """

    def __init__(self, path: Path, trial: Zone, clock: Callable[[], float], pause: float = 0.0) -> None:
        self._path = path
        self._trial = trial
        self._clock = clock
        self._pause = pause
        self._services, self._header = ResourceCache(ZONE_SERVICE), ResourceCache(ZONE_HEADER)
        self._services.mark_synced()  # what stands there is true, and the header says when it is all
        self._publication = Publication([self._services, self._header], order=ZONE)
        self._whole: set[str] = set()
        self._workers: set[FramedWire] = set()
        self._lost_at: float | None = clock()
        """None while the agent is there."""

    @property
    def known(self) -> bool:
        """Whether there is a full state to tell."""
        return self._header.synced

    async def follow(self) -> None:
        """Subscribe at the agent, and stay subscribed until cancelled."""
        stream = SubscriberStream({ZONE_HEADER: {WILDCARD}, ZONE_SERVICE: {WILDCARD}})
        hooks = Subscribing(stream, self._apply, self._on_connected, self._on_disconnected)
        # Only now, when the workers have begun: gRPC takes its time to import.
        from isthmus_dns.feeding.agent import follow_agent

        await follow_agent(self._path, hooks)

    async def serve(self, sock: socket.socket) -> None:
        """Pass the state on to the worker at the other end of `sock`, until it ends."""
        wire = await FramedWire.over(sock)
        self._workers.add(wire)
        try:
            wire.tell(self._standing())
            await publish_on(wire, Publishing(self._publication))
        except ConnectionError:
            return  # it ended while it was written to
        except InvalidInput as wrong:
            log.error("worker does not follow the protocol", extra={"reason": str(wrong)})
        finally:
            self._workers.discard(wire)
            wire.close()

    async def _apply(self, update: Update) -> Mapping[str, str]:
        """Pass an update on, and find out what of it is refused: that is taken back, for workers to come."""
        if update.type_url == ZONE_HEADER:
            refused = self._put_header(update)
        else:
            before = {name: self._services.get(name) for name in update.changed}
            await self._put_services(update)
            refused = await self._try(update)
            self._take_back({name: before[name] for name in refused})
        if update.last:
            self._whole.add(update.type_url)
        if self._whole == {ZONE_HEADER, ZONE_SERVICE}:
            # A worker knows the zone when it has the header, which is sent after all services that stand here.
            with self._publication.change():
                self._header.mark_synced()
            # It is acknowledged after this, and until then the agent sends no other: changes hurry to workers only.
            await asyncio.sleep(self._pause)
        return refused

    def _put_header(self, update: Update) -> Mapping[str, str]:
        changed = {name: one.body for name, one in update.changed.items()}
        refused = intake.apply_header(self._trial, changed)
        with self._publication.change():
            for name, body in changed.items():
                if name not in refused:
                    # Also for a worker that starts later the serial only grows.
                    self._header.put(name, intake.with_serial(body, self._trial.serial), update.changed[name].version)
        return refused

    async def _put_services(self, update: Update) -> None:
        """Pass services on, a part at a time: workers take in the first ones while we still read."""
        services = list(update.changed.items())
        for at in range(0, max(1, len(services)), _PART):
            with self._publication.change():
                for name, changed in services[at : at + _PART]:
                    self._services.put(name, changed.body, changed.version)
                if at + _PART >= len(services):
                    for name in update.removed:
                        self._services.remove(name)
            await asyncio.sleep(0)

    async def _try(self, update: Update) -> dict[str, str]:
        """Which services the workers refuse, and why; they say the same, but a worker may not be there to say it."""
        refused: dict[str, str] = {}
        for bit in intake.bits({name: changed.body for name, changed in update.changed.items()}):
            await asyncio.sleep(0)  # the workers have it first
            for name, body in bit.items():
                if (reason := intake.refusal(name, body, self._trial)) is not None:
                    refused[name] = reason
        return refused

    def _take_back(self, before: Mapping[str, Resource | None]) -> None:
        with self._publication.change():
            for name, earlier in before.items():
                if earlier is None:
                    self._services.remove(name)
                else:
                    self._services.put(name, earlier.body, earlier.version)

    def _on_connected(self) -> None:
        self._lost_at = None
        self._tell()

    def _on_disconnected(self, reason: str) -> None:
        if self._lost_at is None:
            self._lost_at = self._clock()
            log.warning("zone feed lost", extra={"reason": reason, "feed": str(self._path)})
            self._tell()

    def _tell(self) -> None:
        for worker in self._workers:
            worker.tell(self._standing())

    def _standing(self) -> Standing:
        return Standing(True) if self._lost_at is None else Standing(False, self._clock() - self._lost_at)
