"""Read one etcd watch: fragments joined, changes grouped by revision, silence and compaction noticed."""

import asyncio
from contextlib import suppress
from typing import Self

import grpc
from aetcd import rpc

from isthmus_controller.store.connection import Connection, Line, Watch, asked_to_stop
from isthmus_controller.store.errors import Compacted, translate
from isthmus_controller.store.values import Progress, Revision
from isthmus_controller.store.wire import by_revision, end_of, key_bytes
from isthmus_core.errors import IsthmusError, Refused, Unavailable
from isthmus_kit.calls import end_call


class WatchStream:
    """A watch on one connection; it ends with the connection, and whoever reads it opens the next one."""

    def __init__(self, connection: Connection, line: Line, call: Watch, revision: int) -> None:
        self._connection = connection
        self._line = line
        self._call = call
        line.watches.add(call)
        self.revision = revision
        """etcd's revision when the watch was made."""

    @classmethod
    async def open(cls, connection: Connection, prefix: str, start_revision: int, timeout: float = 5.0) -> Self:
        """Watch a prefix from `start_revision` on; raises Compacted, Unavailable, Refused, WrongCluster."""
        create = rpc.WatchCreateRequest(
            key=key_bytes(prefix) or b"\0",
            range_end=end_of(prefix),
            start_revision=start_revision,
            fragment=True,
            progress_notify=True,
        )
        for again in (True, False):
            line = await connection.line()
            stream = cls(connection, line, line.watch.Watch(metadata=connection.metadata()), 0)
            try:
                await stream._write(rpc.WatchRequest(create_request=create))
                created = await stream._next(timeout)
                if created.canceled and again and _token_problem(created.cancel_reason):
                    # etcd cancels the watch instead of failing the call when the token has expired (etcd #12385).
                    connection.forget_token()
                    stream.close()
                    continue
                stream._refuse(created)
            except BaseException:
                stream.close()
                raise
            stream.revision = created.header.revision
            return stream
        raise AssertionError("the second round returns or raises")

    async def read(self, silence: float) -> list[Revision] | Progress:
        """The next revisions, or word of progress; raises Unavailable after `silence` seconds without either."""
        response = await self._next(silence)
        self._refuse(response)
        if not response.events and not response.fragment:
            return Progress(response.header.revision)
        events = list(response.events)
        while response.fragment:
            response = await self._next(silence)
            self._refuse(response)
            events.extend(response.events)
        return by_revision(events)

    async def request_progress(self) -> None:
        """Ask etcd to say how far this watch is; the answer comes through `read`. A broken stream is left to `read`."""
        with suppress(IsthmusError):
            await self._write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def close(self) -> None:
        """End the watch."""
        self._line.watches.discard(self._call)
        end_call(self._call)

    def leave(self) -> None:
        """End the watch and begin the next one at another address."""
        self.close()
        self._connection.leave(self._line)

    async def _write(self, request: rpc.WatchRequest) -> None:
        try:
            async with asyncio.timeout(5.0):
                await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            self._connection.failed(self._line, error)
            raise translate(error, self._line.address, write=False) from error
        except (asyncio.InvalidStateError, TimeoutError) as error:
            raise Unavailable(f"the watch at etcd {self._line.address} broke") from error
        except asyncio.CancelledError as error:
            if asked_to_stop():
                raise
            raise Unavailable(f"the watch at etcd {self._line.address} was closed") from error

    async def _next(self, silence: float) -> rpc.WatchResponse:
        try:
            async with asyncio.timeout(silence):
                response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            self._connection.failed(self._line, error)
            raise translate(error, self._line.address, write=False) from error
        except TimeoutError as error:
            self._connection.leave(self._line)
            raise Unavailable(f"etcd at {self._line.address} has been silent for {silence:g} s") from error
        except asyncio.CancelledError as error:
            if asked_to_stop():
                raise
            raise Unavailable(f"the watch at etcd {self._line.address} was given up") from error
        if not isinstance(response, rpc.WatchResponse):
            raise Unavailable(f"etcd at {self._line.address} ended the watch")
        self._connection.check(self._line, response.header)
        return response

    def _refuse(self, response: rpc.WatchResponse) -> None:
        if response.compact_revision:
            raise Compacted(response.compact_revision)
        if response.canceled:
            reason = response.cancel_reason.removeprefix("etcdserver: ") or "no reason given"
            if "permission denied" in reason:
                raise Refused(f"etcd at {self._line.address} refuses the watch: {reason}")
            raise Unavailable(f"etcd at {self._line.address} ended the watch: {reason}")


def _token_problem(reason: str) -> bool:
    return any(words in reason for words in ("invalid auth token", "permission denied", "revision of auth store"))
