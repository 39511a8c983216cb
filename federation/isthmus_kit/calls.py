"""End gRPC calls for good."""

import grpc.aio


def end_call(call: grpc.aio.RpcContext) -> None:
    """Cancel a call, also one that counts as ended although gRPC's core has not ended it.

    A write that fails as the peer goes away marks the call as ended, and `cancel` then does nothing: the core's call
    would stay, with a task that waits for its status for ever (https://github.com/grpc/grpc/issues/41875, pull 43486).
    """
    call.cancel()
    core = getattr(call, "_cython_call", None)
    if core is not None:
        core.cancel("given up")
