"""Stay connected to a controller: follow the federation on one stream, publish to it on another."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

import grpc.aio
import msgspec

from isthmus_gateway.fleet import TYPES, FleetTable, Touched
from isthmus_kit.backoff import Backoff
from isthmus_kit.latest import Latest
from isthmus_kit.pki import Identity
from isthmus_kit.tls import grpc_client_credentials, grpc_server_name
from isthmus_sync import (
    CAPACITY,
    CLUSTER,
    EXPORTS_METHOD,
    IMPORT,
    IMPORTS_METHOD,
    WILDCARD,
    Acked,
    Nacked,
    Publication,
    Publishing,
    SubscriberStream,
    Subscribing,
    Update,
    open_channel,
    publish,
    subscribe,
)

IMPORTS = "imports"
EXPORTS = "exports"

log = logging.getLogger(__name__)

_REFUSED = ("PERMISSION_DENIED: ", "UNAUTHENTICATED: ", "INVALID_ARGUMENT: ", "RESOURCE_EXHAUSTED: ")
"""So begins why a stream ended when a controller hears this gateway and will not listen, whoever tries again."""

NEEDED = frozenset({CLUSTER, IMPORT, CAPACITY})
"""Without these there is nothing to route by."""


class Link(msgspec.Struct, frozen=True):
    """One stream to a controller: the address that it is or was connected to, and why it is not."""

    connected: bool = False
    address: str = ""
    why: str = "not connected yet"


class Controllers:
    """Both streams to the controllers of `addresses`, which are tried in turn (the next one is at most 2 s away)."""

    def __init__(
        self,
        addresses: tuple[str, ...],
        server_name: str,
        identity: Latest[Identity],
        fleet: FleetTable,
        offers: Publication,
        on_touched: Callable[[Touched], None],
        on_link: Callable[[], None],
    ) -> None:
        self.links = {IMPORTS: Link(), EXPORTS: Link()}
        self.synced = False
        """Whether a controller has told everything once in this life."""
        self.refused: dict[tuple[str, str], str] = {}
        """What a controller did not accept from us: (type, name) -> reason."""
        self.confirmed_at: float | None = None
        """When the knowledge was last known to be current (monotonic seconds); see `age`."""
        self._addresses: Final = addresses
        self._server_name: Final = server_name
        self._identity: Final = identity
        self._fleet: Final = fleet
        self._offers: Final = offers
        self._on_touched: Final = on_touched
        self._on_link: Final = on_link
        self._told: set[str] = set()
        self._withdrawn: tuple[str, str] | None = None
        self._settled = asyncio.Event()
        self._refusal_logged = ""

    def age(self, now: float) -> float | None:
        """Seconds since a controller last confirmed what is known; None when none ever did."""
        if self.synced and self.links[IMPORTS].connected:
            return 0.0
        return None if self.confirmed_at is None else now - self.confirmed_at

    @property
    def heard(self) -> bool:
        """Whether controllers hear this gateway, and it them, now."""
        return self.synced and all(link.connected for link in self.links.values())

    @property
    def trouble(self) -> str:
        """Which streams are down and why, for people; empty when both stand."""
        down: dict[str, list[str]] = {}
        for stream, link in self.links.items():
            if not link.connected:
                down.setdefault(f"{link.address}: {link.why}" if link.address else link.why, []).append(stream)
        listed = "; ".join(f"{' and '.join(streams)}: {why}" for why, streams in down.items())
        known = self.synced or self.confirmed_at is not None
        meanwhile = "the last known state is served" if known else "and nothing is known from before"
        if self.refusal:
            return f"the controllers refuse this gateway, {meanwhile}: {self.refusal}"
        return f"no controller answers, {meanwhile} ({listed})" if down else ""

    @property
    def refusal(self) -> str:
        """What a controller said as it turned this gateway away, its mend included; empty when none did."""
        return "; ".join(dict.fromkeys(_sentence(link.why) for link in self.links.values() if _sentence(link.why)))

    @property
    def refusals(self) -> str:
        """What a controller did not accept, for people; empty when it accepted everything."""
        listed = "; ".join(f"{name}: {reason}" for (_, name), reason in sorted(self.refused.items()))
        return f"the controller did not accept {listed}" if listed else ""

    async def follow(self) -> None:
        """Subscribe to the federation, for ever."""
        stream = SubscriberStream({kind: {WILDCARD} for kind in TYPES}, self._fleet.versions())

        async def apply(update: Update) -> Mapping[str, str]:
            touched = self._fleet.apply(update)
            self._on_touched(touched)
            if not self.synced and update.last and self._whole(update.type_url):
                self.synced = True
                self._on_link()
            return touched.rejected

        dial = self._dial(IMPORTS)
        shell = Subscribing(stream, apply, lambda: self._connected(IMPORTS), lambda why: self._lost(IMPORTS, why))
        await subscribe(dial, IMPORTS_METHOD, shell, Backoff())

    async def offer(self) -> None:
        """Publish what this cluster offers, for ever."""
        shell = Publishing(
            self._offers,
            on_connected=lambda: self._connected(EXPORTS),
            on_disconnected=lambda why: self._lost(EXPORTS, why),
            on_acked=self._acked,
            on_nacked=self._nacked,
        )
        await publish(self._dial(EXPORTS), EXPORTS_METHOD, shell, Backoff())

    async def withdrawn(self, type_url: str, name: str) -> None:
        """Wait until a controller has acknowledged that a resource is gone; the caller sets the deadline."""
        self._withdrawn = (type_url, name)
        self._settled.clear()
        await self._settled.wait()

    def _dial(self, stream: str) -> Callable[[int], grpc.aio.Channel]:
        def dial(attempt: int) -> grpc.aio.Channel:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A group of tasks that fails in the turn in which it is cancelled tells only of its failure (until
                # Python 3.13): without this the stream would be opened again, for ever, while the gateway stops.
                raise asyncio.CancelledError
            address = self._addresses[attempt % len(self._addresses)]
            self.links[stream] = msgspec.structs.replace(self.links[stream], address=address)
            # Credentials of this moment: a channel keeps the identity that it was made with.
            credentials = grpc_client_credentials(self._identity.value)
            return open_channel(address, credentials, grpc_server_name(self._server_name))

        return dial

    def _connected(self, stream: str) -> None:
        self.links[stream] = Link(True, self.links[stream].address, "")
        self._refusal_logged = ""
        self._on_link()

    def _lost(self, stream: str, why: str) -> None:
        before = self.links[stream]
        if stream == IMPORTS and before.connected and self.synced:
            self.confirmed_at = time.monotonic()
        self.links[stream] = Link(False, before.address, why)
        if (sentence := _sentence(why)) and sentence != self._refusal_logged:
            self._refusal_logged = sentence  # both streams are told, time and again
            log.warning("the controllers refuse this gateway", extra={"reason": sentence})
        if before.connected or before.why != why:
            self._on_link()

    def _whole(self, type_url: str) -> bool:
        self._told.add(type_url)
        return self._told >= NEEDED

    def _acked(self, acked: Acked) -> None:
        before = len(self.refused)
        for name in acked.accepted:
            self.refused.pop((acked.type_url, name), None)
        self._gone(acked.type_url, acked.removed)
        if len(self.refused) != before:
            self._on_link()

    def _nacked(self, nacked: Nacked) -> None:
        for name in nacked.accepted:
            self.refused.pop((nacked.type_url, name), None)
        reasons = {name: rejection.reason or nacked.message for name, rejection in nacked.rejected.items()}
        news = [name for name, reason in reasons.items() if self.refused.get((nacked.type_url, name)) != reason]
        self.refused.update({(nacked.type_url, name): reason for name, reason in reasons.items()})
        if news:  # one line, however many: `isthmus doctor` and the ServiceExports name each
            told = {"resource": news[0], "reason": reasons[news[0]], "others": len(news) - 1}
            log.warning("a controller does not accept what this gateway offers", extra=told)
        self._gone(nacked.type_url, nacked.removed)
        self._on_link()

    def _gone(self, type_url: str, removed: tuple[str, ...]) -> None:
        for name in removed:
            self.refused.pop((type_url, name), None)
            if self._withdrawn == (type_url, name):
                self._settled.set()


def _sentence(why: str) -> str:
    """What a controller said as it refused; empty for every other end of a stream."""
    return next((why.removeprefix(code) for code in _REFUSED if why.startswith(code)), "")
