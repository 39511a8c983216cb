"""Serve gRPC with each identity in a folder, in a process of its own: gRPC reads its TLS settings when it is imported.

`python grpc_servers.py FOLDER DOMAIN` prints `NAME PORT` for every `NAME.json`. The files are read at every connection.
"""

from isthmus_kit import tls13  # isort: skip - before gRPC

import asyncio
import sys
from pathlib import Path

import grpc
import msgspec

from isthmus_core.errors import Refused
from isthmus_kit.pki import Identity
from isthmus_kit.tls import grpc_server_credentials, peer_of_grpc

METHOD = "/test.Who/Ami"


async def serve(path: Path, domain: str) -> grpc.aio.Server:
    async def who(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            peer = peer_of_grpc(context.auth_context(), domain)
        except Refused as refusal:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(refusal))
        return f"{peer.role.value} {peer.cluster}".encode()

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(who)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Who", {"Ami": handler}),))
    credentials = grpc_server_credentials(lambda: msgspec.json.decode(path.read_bytes(), type=Identity))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(path.stem, port, flush=True)
    return server


async def main(folder: Path, domain: str) -> None:
    assert tls13.IN_FORCE
    servers = [await serve(path, domain) for path in sorted(folder.glob("*.json"))]
    print("ready", flush=True)
    await asyncio.gather(*(server.wait_for_termination() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
