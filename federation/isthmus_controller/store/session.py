"""Hold a lease: keys attached to it say "alive now" and vanish soon after their owner does."""

import asyncio
import logging
import random
from contextlib import suppress
from typing import Self

import grpc
from aetcd import rpc

from isthmus_controller.store.client import EtcdClient
from isthmus_controller.store.connection import Line, asked_to_stop
from isthmus_controller.store.errors import LeaseLost, OutcomeUnknown, translate
from isthmus_core.errors import IsthmusError, Unavailable
from isthmus_kit.backoff import Backoff
from isthmus_kit.calls import end_call

log = logging.getLogger(__name__)


class Session:
    """A lease that is renewed while `keep` runs. `lost` is set as soon as it can no longer be relied upon.

    session = await Session.grant(etcd, ttl=10)
    group.create_task(session.keep(), name="session")      # raises LeaseLost when it is gone
    await etcd.put(key, value, lease=session.lease)
    """

    def __init__(self, client: EtcdClient, lease: int, ttl: int, granted_at: float) -> None:
        self._client = client
        self._expires_at = granted_at + ttl
        self._revoked = False
        self.lease = lease
        self.ttl = ttl
        self.lost = asyncio.Event()

    @classmethod
    async def grant(cls, client: EtcdClient, ttl: int) -> Self:
        """A new lease of `ttl` seconds."""
        # Counted from before the request, so that we never believe in it for longer than etcd does.
        now = asyncio.get_running_loop().time()
        answer = await client.connection.unary(
            lambda line: line.lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=ttl), write=True
        )
        return cls(client, answer.ID, answer.TTL, now)

    @property
    def alive(self) -> bool:
        """Whether the lease can be relied upon at this moment."""
        return not self.lost.is_set() and asyncio.get_running_loop().time() < self._expires_at

    async def keep(self) -> None:
        """Renew the lease until it is revoked (returns) or lost (raises LeaseLost)."""
        backoff = Backoff()
        clock = asyncio.get_running_loop().time
        attempt = 0
        try:
            while not self._revoked:
                # A failure that comes at once never meets the deadline of an await: it would be tried again for ever.
                if clock() >= self._expires_at:
                    raise TimeoutError
                try:
                    # The lease's own end: without word from etcd it has run out there by then.
                    async with asyncio.timeout_at(self._expires_at):
                        await self._renew_on(await self._client.connection.line())
                except LeaseLost:
                    raise
                except IsthmusError as error:
                    if attempt == 0:
                        log.warning("the lease is not renewed, trying again", extra={"why": str(error)})
                    pause = backoff.delay(attempt, random.random)
                    attempt += 1
                else:
                    pause = self.ttl / 3
                    attempt = 0
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(clock() + pause, self._expires_at)):
                        await self.lost.wait()
        except TimeoutError:
            raise LeaseLost(f"the lease ran out: etcd did not renew it within {self.ttl} s") from None
        finally:
            self.lost.set()

    async def revoke(self) -> None:
        """Give the lease back; every key attached to it is deleted at once."""
        self._revoked = True
        self.lost.set()
        request = rpc.LeaseRevokeRequest(ID=self.lease)
        with suppress(LeaseLost):
            try:
                await self._client.connection.unary(lambda line: line.lease.LeaseRevoke, request, write=True)
            except OutcomeUnknown:  # revoking twice does no harm
                await self._client.connection.unary(lambda line: line.lease.LeaseRevoke, request, write=True)

    async def _renew_on(self, line: Line) -> None:
        """Renew once."""
        connection = self._client.connection
        call = line.lease.LeaseKeepAlive(metadata=connection.metadata(), timeout=max(self.ttl / 3, 1.0))
        asked_at = asyncio.get_running_loop().time()
        try:
            await call.write(rpc.LeaseKeepAliveRequest(ID=self.lease))
            answer = await call.read()
            # Not `done_writing`: beside many others it raises gRPC's own ExecuteBatchError when the call has just ended
            # (seen with a hundred leases), which would end whoever holds the lease. The call is ended below.
        except grpc.aio.AioRpcError as error:
            connection.failed(line, error)
            raise translate(error, line.address, write=False) from error
        except asyncio.InvalidStateError as error:
            raise Unavailable("the connection with etcd broke") from error
        except asyncio.CancelledError as error:
            if asked_to_stop():
                raise
            raise Unavailable("the client of etcd was closed") from error
        finally:
            end_call(call)
        if not isinstance(answer, rpc.LeaseKeepAliveResponse):
            raise Unavailable("etcd ended the renewal of a lease")
        connection.check(line, answer.header)
        if answer.TTL <= 0:
            raise LeaseLost("the lease is not known to etcd: it ran out or was revoked")
        self._expires_at = asked_at + answer.TTL
