"""Read on while an update is being applied, so that somebody may hear early what has to wait for its turn."""

import asyncio

from isthmus_kit.tasks import own_tasks
from isthmus_sync.streams import first_cause
from isthmus_sync.subscriber import Update
from isthmus_sync.subscribing import Subscribing, Wire, subscribe_on, take
from isthmus_sync.wire import read_response

_WAITING = 2
"""Updates that wait while one is applied: a publisher that keeps the rules has one of each type on its way. Of another
one nothing more is read until there is room."""

_BREATH = 0.02
"""Seconds until more is read after something was foretold: unlike an update, it makes its sender wait for nothing."""

_LARGE, _PER_SECOND = 1024 * 1024, 64 * 1024 * 1024
"""Messages above that many bytes are read no faster than that: taking in a large one keeps other streams waiting."""


async def subscribe_in_turn(wire: Wire, subscribing: Subscribing) -> None:
    """As `subscribe_on`; with `subscribing.foretell` it hears of what waits, and of what is told ahead of its turn."""
    if subscribing.foretell is None:
        await subscribe_on(wire, subscribing)
        return
    for request in subscribing.stream.connect():
        await wire.write(request.SerializeToString())
    turns = _Turns()
    try:
        async with own_tasks() as owner:
            applying = owner.once("updates in their turn", turns.apply(wire, subscribing))
            while (payload := await wire.read()) is not None:
                if len(payload) > _LARGE:
                    await asyncio.sleep(len(payload) / _PER_SECOND)
                update = subscribing.stream.receive(read_response(payload))
                if turns.busy:
                    subscribing.foretell(update)
                if not update.ahead:
                    await turns.add(update)
                elif turns.busy:
                    await asyncio.sleep(_BREATH)
            await turns.add(None)
            await applying
    except BaseExceptionGroup as group:
        raise first_cause(group) from group


class _Turns:
    def __init__(self) -> None:
        self._updates: asyncio.Queue[Update | None] = asyncio.Queue(_WAITING)
        self._applying = False

    @property
    def busy(self) -> bool:
        return self._applying or not self._updates.empty()

    async def add(self, update: Update | None) -> None:
        """Behind those that came before; None is the end."""
        await self._updates.put(update)

    async def apply(self, wire: Wire, subscribing: Subscribing) -> None:
        while (update := await self._updates.get()) is not None:
            self._applying = True
            await take(wire, subscribing, update)
            self._applying = False
