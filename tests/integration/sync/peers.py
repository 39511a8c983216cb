"""Both ends of a stream over gRPC, in the process of the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NoReturn

import grpc
import grpc.aio

from isthmus_sync import (
    FEDERATION,
    WILDCARD,
    Caller,
    Publication,
    Publishing,
    ResourceCache,
    SubscriberStream,
    Subscribing,
    Update,
    new_server,
)


class Held:
    """A subscriber's state, kept by its `apply`."""

    def __init__(self, *types: str) -> None:
        self.stream = SubscriberStream({type_url: {WILDCARD} for type_url in types})
        self.bodies: dict[str, bytes] = {}
        self.updates: list[Update] = []
        self.reasons: list[str] = []
        self.connected = 0
        self.fails: Exception | None = None

    async def apply(self, update: Update) -> Mapping[str, str]:
        if self.fails is not None:
            raise self.fails
        self.updates.append(update)
        errors = {name: "its body is bad" for name, changed in update.changed.items() if changed.body == b"bad"}
        self.bodies |= {name: changed.body for name, changed in update.changed.items() if name not in errors}
        for name in update.removed:
            self.bodies.pop(name, None)
        return errors

    def on_connected(self) -> None:
        self.connected += 1

    @property
    def subscribing(self) -> Subscribing:
        return Subscribing(self.stream, self.apply, self.on_connected, self.reasons.append)

    @asynccontextmanager
    async def intake(self, _: Caller) -> AsyncIterator[Subscribing]:
        """Where a publisher calls, and this is told."""
        yield self.subscribing


def publication(*types: str) -> Publication:
    made = Publication([ResourceCache(type_url) for type_url in types], FEDERATION)
    with made.change() as caches:
        for cache in caches.values():
            cache.mark_synced()
    return made


def anybody(caller: Caller) -> Caller:
    return caller


def feed_of(publishing: Publishing) -> Callable[[Caller], AbstractAsyncContextManager[Publishing]]:
    @asynccontextmanager
    async def feed(_: Caller) -> AsyncIterator[Publishing]:
        yield publishing

    return feed


@asynccontextmanager
async def serving(socket: Path, *handlers: grpc.GenericRpcHandler) -> AsyncIterator[str]:
    server = new_server(handlers)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield f"unix:{socket}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def running(*parts: Coroutine[object, object, NoReturn]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part, name=f"part {number}") for number, part in enumerate(parts)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
