"""End gRPC calls for good, and learn how they ended."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
import grpc.aio

_T = TypeVar("_T")
_FORGED = (grpc.StatusCode.INTERNAL, "Internal error from Core")
_PAUSE = 0.01
_LOOKS = 100
"""For a second: the status is on its way through gRPC's own queue. Only a call that never began has none."""


def end_call(call: grpc.aio.RpcContext) -> None:
    """Cancel a call, also one that counts as ended although gRPC's core has not ended it.

    A write that fails as the peer goes away marks the call as ended, and `cancel` then does nothing: the core's call
    would stay, with a task that waits for its status for ever (https://github.com/grpc/grpc/issues/41875, pull 43486).
    """
    call.cancel()
    core = getattr(call, "_cython_call", None)
    if core is not None:
        core.cancel("given up")


class Ending:
    """The status that a call really ended with; to be made before the first write.

    A write that fails as the peer ends the call puts "Internal error from Core" over the status and the sentence that
    the peer has given, whether those came before it or come after it (https://github.com/grpc/grpc/issues/36066).
    """

    def __init__(self, call: grpc.aio.Call) -> None:
        self._call = call
        self._first: tuple[grpc.StatusCode, str] | None = None
        call.add_done_callback(self._note)

    async def status(self, error: grpc.aio.AioRpcError | None = None) -> tuple[grpc.StatusCode, str]:
        """What the peer said, or gRPC for it. `error` is what the call raised; it stands when nobody said anything."""
        raised = _FORGED if error is None else (error.code(), error.details() or "")
        if raised != _FORGED:
            return raised
        for _ in range(_LOOKS):
            status = self._first or (await self._call.code(), await self._call.details() or "")
            if status != _FORGED:
                return status
            await asyncio.sleep(_PAUSE)  # gRPC tells nobody when it sets the status a second time
        return raised

    def _note(self, call: Any) -> None:
        """The status as it is set first: whoever awaits it learns only what it is when their turn comes."""
        status = _at_once(call.code()), _at_once(call.details()) or ""
        self._first = status if status != _FORGED else None


def _at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that has nothing to wait for, where nobody can wait: in a callback."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        answer: _T = end.value
        return answer
    raise RuntimeError("gRPC says that a call is done before it has a status")
