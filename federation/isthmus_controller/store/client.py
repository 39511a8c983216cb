"""Speak with etcd v3 in our own types: read, write, transact, status. Watches, leases and elections build on it."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from aetcd import rpc

from isthmus_controller.store.connection import Connection, Target
from isthmus_controller.store.values import (
    ETCD_OPERATIONS,
    MAX_OPERATIONS,
    MAX_TRANSACTION_BYTES,
    Alarm,
    Compare,
    KeyValue,
    MemberStatus,
    Operation,
    Put,
    Snapshot,
    TxnResult,
    Write,
    Written,
)
from isthmus_controller.store.watch import WatchStream
from isthmus_controller.store.wire import end_of, is_write, key_bytes, key_value, txn_message, txn_result
from isthmus_core.errors import IsthmusError, Refused

_PAGE = 500
_ALARMS = {rpc.NOSPACE: "NOSPACE", rpc.CORRUPT: "CORRUPT"}


class EtcdClient:
    """One etcd, as `async with EtcdClient(Target(("https://127.0.0.1:2379",), tls)) as etcd`.

    Every call has a deadline and raises Unavailable (retry), OutcomeUnknown (a write that may have happened),
    InvalidInput (wrong password, too large, ...) or Refused (no permission).
    """

    def __init__(self, target: Target, *, timeout: float = 5.0, attempt: float = 2.0) -> None:
        self.connection = Connection(target, timeout=timeout, attempt=attempt)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.connection.close()

    async def get(self, key: str, *, revision: int = 0) -> KeyValue | None:
        """One key, linearizable unless `revision` asks for an older state; None when it does not exist."""
        request = rpc.RangeRequest(key=key_bytes(key), revision=revision)
        answer = await self.connection.unary(lambda line: line.kv.Range, request)
        return key_value(answer.kvs[0]) if answer.kvs else None

    async def range(self, prefix: str, *, revision: int = 0, page: int = _PAGE) -> Snapshot:
        """All keys with a prefix, sorted, read in pages of one and the same revision; raises Compacted."""
        start = key_bytes(prefix) or b"\0"
        request = rpc.RangeRequest(key=start, range_end=end_of(prefix), limit=page, revision=revision)
        items: list[KeyValue] = []
        while True:
            answer = await self.connection.unary(lambda line: line.kv.Range, request)
            if not request.revision:
                request.revision = answer.header.revision
            items.extend(key_value(kv) for kv in answer.kvs)
            if not answer.more:
                return Snapshot(request.revision, tuple(items))
            request.key = answer.kvs[-1].key + b"\0"

    async def put(self, key: str, value: bytes, *, lease: int = 0, timeout: float | None = None) -> int:
        """Write one key; gives the revision."""
        request = rpc.PutRequest(key=key_bytes(key), value=value, lease=lease)
        answer = await self.connection.unary(lambda line: line.kv.Put, request, write=True, timeout=timeout)
        return answer.header.revision

    async def delete(self, key: str, *, prefix: bool = False) -> int:
        """Delete a key, or all that begin with it; gives how many there were."""
        request = rpc.DeleteRangeRequest(key=key_bytes(key), range_end=end_of(key) if prefix else b"")
        return (await self.connection.unary(lambda line: line.kv.DeleteRange, request, write=True)).deleted

    async def txn(
        self,
        when: Sequence[Compare] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult:
        """All of `then` if every condition holds, else all of `otherwise`, at one revision; up to 128 of each."""
        if max(len(when), len(then), len(otherwise)) > ETCD_OPERATIONS:
            raise ValueError(f"a transaction holds up to {ETCD_OPERATIONS} operations; use write_all to split")
        request = txn_message(when, then, otherwise)
        write = any(is_write(operation) for operation in (*then, *otherwise))
        return txn_result(await self.connection.unary(lambda line: line.kv.Txn, request, write=write, timeout=timeout))

    async def write_all(self, operations: Iterable[Write], when: Sequence[Compare] = ()) -> Written:
        """Any number of writes in few transactions, each under the same conditions; stops where they fail.

        Not atomic as a whole: `Written.done` says how far it came.
        """
        revision = done = 0
        for chunk in split(operations):
            result = await self.txn(when, chunk)
            revision = result.revision
            if not result.succeeded:
                return Written(succeeded=False, revision=revision, done=done)
            done += len(chunk)
        return Written(succeeded=True, revision=revision, done=done)

    async def watch(self, prefix: str, start_revision: int) -> WatchStream:
        """One watch over one connection; the caller closes it. Use `Follower` to follow a prefix for ever."""
        return await WatchStream.open(self.connection, prefix, start_revision)

    async def compact(self, revision: int) -> None:
        """Forget all older revisions."""
        await self.connection.unary(lambda line: line.kv.Compact, rpc.CompactionRequest(revision=revision), write=True)

    async def status(self) -> MemberStatus:
        """What the member in use says about itself. Raises Unavailable, and Refused: etcd 3.6 tells it to root only."""
        answer = await self.connection.unary(lambda line: line.maintenance.Status, rpc.StatusRequest())
        header = answer.header
        return MemberStatus(
            address=self.connection.address,
            version=answer.version,
            cluster_id=header.cluster_id,
            member_id=header.member_id,
            leader_id=answer.leader,
            revision=header.revision,
            size_bytes=answer.dbSize,
            errors=tuple(answer.errors),
        )

    async def alarms(self) -> tuple[Alarm, ...]:
        """The alarms that stand; NOSPACE means that etcd refuses writes."""
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
        answer = await self.connection.unary(lambda line: line.maintenance.Alarm, request)
        return tuple(Alarm(a.memberID, _ALARMS.get(a.alarm, str(a.alarm))) for a in answer.alarms)

    async def health(self) -> str:
        """An empty string when reads and writes can work, else why not, in one sentence."""
        try:
            await self.get("/isthmus/health")  # linearizable: there is a leader and a majority
            try:
                alarms = await self.alarms()
            except Refused:  # etcd 3.6 tells its alarms to root only
                alarms = ()
        except IsthmusError as error:
            return str(error)
        if any(alarm.kind == "NOSPACE" for alarm in alarms):
            return "etcd has no space left (its quota is reached) and refuses writes"
        return "; ".join(f"etcd reports the alarm {alarm.kind}" for alarm in alarms)


def split(operations: Iterable[Write]) -> Iterable[tuple[Write, ...]]:
    """Operations in order, in chunks that one transaction may hold: by number, by bytes, and no key twice."""
    chunk: list[Write] = []
    size = 0
    keys: set[str] = set()
    for operation in operations:
        cost = len(operation.key) + (len(operation.value) if isinstance(operation, Put) else 0) + 32
        # etcd refuses a transaction that writes a key twice; a prefix may cover any key, so it goes alone.
        alone = not isinstance(operation, Put) and operation.prefix
        full = len(chunk) == MAX_OPERATIONS or size + cost > MAX_TRANSACTION_BYTES
        if chunk and (full or alone or operation.key in keys):
            yield tuple(chunk)
            chunk, size, keys = [], 0, set()
        chunk.append(operation)
        keys.add(operation.key)
        size += cost
        if alone:
            yield tuple(chunk)
            chunk, size, keys = [], 0, set()
    if chunk:
        yield tuple(chunk)
