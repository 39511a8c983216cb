"""Open what a controller listens on: gRPC with mutual TLS for gateways, HTTPS for admins and joiners."""

import errno
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ssl import SSLContext

import grpc

from isthmus_controller.settings import Listen
from isthmus_core.errors import InvalidInput
from isthmus_kit.listening import unusable_address, usable_port
from isthmus_kit.pki import IdentitySource
from isthmus_kit.tls import grpc_server_credentials, replace_identity
from isthmus_kit.tls_site import HANDSHAKE_S
from isthmus_sync import new_server

_GRACE = 0.3
"""Seconds that open streams get at the end: gateways go to another replica, and keep what they know meanwhile."""

MESSAGE_LIMIT = 20 * 1024 * 1024
MAX_CONNECTIONS = 4_000
"""Open ones of the gRPC port, of which each holds some 50 kB, also half-open: 2,000 gateways with their two streams."""

_OPTIONS = (
    # A publisher's parts have 16 MiB (isthmus_sync.publisher). What is larger ends its stream unread: a member
    # can be hostile, and a message for each stream is held in memory.
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    # Before the handshake everybody is a stranger: gRPC would wait two minutes for each, and take as many as come.
    ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_S * 1000)),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
)


_given: set[int] = set()
"""Ports of this process: the next listener must not find one free on which the last is only about to listen."""


def settled(listen: Listen) -> Listen:
    """The same address with a port that is free now in place of 0; raises InvalidInput when it cannot be used."""
    if listen.port:
        return Listen(listen.host, usable_port(listen.host, listen.port))
    for _ in range(100):
        # Below the range that the system gives to outgoing connections (ip(7), ip_local_port_range): a port from
        # there could be somebody's again before we listen on it.
        port = random.randrange(20_000, 32_000)
        if port in _given:
            continue
        try:
            found = Listen(listen.host, usable_port(listen.host, port))
            _given.add(port)
            return found
        except InvalidInput as error:
            if "in use" not in error.sentence:
                raise
    return Listen(listen.host, usable_port(listen.host, listen.port))


@asynccontextmanager
async def serving_grpc(
    handlers: Iterable[grpc.GenericRpcHandler], listen: Listen, identity: IdentitySource
) -> AsyncIterator[None]:
    """Serve `handlers` while the block runs; every client must show a certificate of the federation."""
    server = new_server(handlers, _OPTIONS, vigilant=True)
    credentials = grpc_server_credentials(lambda: identity.value)
    try:
        server.add_secure_port(str(listen), credentials)
    except RuntimeError as error:
        raise unusable_address(str(listen), OSError(errno.EADDRINUSE, "in use")) from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(_GRACE)


async def renew_certificate(context: SSLContext, identity: IdentitySource) -> None:
    """Show each new identity in later handshakes; open connections go on."""
    async for newest in identity.latest.follow():
        replace_identity(context, newest)
