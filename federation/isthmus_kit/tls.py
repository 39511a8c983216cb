"""Make the TLS of every connection: 1.3 only, both sides known, leaves replaced without a restart."""

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum

# Sets what gRPC reads when it is imported, so it stands before gRPC.
from isthmus_kit import tls13

import grpc  # isort: skip

from isthmus_core.errors import Refused
from isthmus_core.spiffe import Peer
from isthmus_kit.pki.checks import peer_of_certificate
from isthmus_kit.pki.identity import Identity


class ClientCertificates(Enum):
    """Whether a server asks its clients for certificates. Those that come are verified in any case."""

    NONE = ssl.CERT_NONE
    OPTIONAL = ssl.CERT_OPTIONAL
    REQUIRED = ssl.CERT_REQUIRED


def server_context(identity: Identity, clients: ClientCertificates) -> ssl.SSLContext:
    """A server's context. Give every new identity to `replace_identity`; open connections are not disturbed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.VerifyMode(clients.value)
    # Resumed sessions skip the verification of certificates: with leaves of one hour every handshake is a full one.
    context.num_tickets = 0
    context.load_verify_locations(cadata=identity.roots.decode())
    replace_identity(context, identity)
    return context


def client_context(roots: bytes, identity: Identity | None = None) -> ssl.SSLContext:
    """A client's context that believes `roots` (PEM) alone and verifies the server's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=roots.decode())
    if identity is not None:
        replace_identity(context, identity)
    return context


def replace_identity(context: ssl.SSLContext, identity: Identity) -> None:
    """Show `identity` in every later handshake of `context`."""
    with _as_path(identity.chain + identity.key) as path:
        context.load_cert_chain(path)


def grpc_server_credentials(current: Callable[[], Identity]) -> grpc.ServerCredentials:
    """Credentials of a gRPC server that requires client certificates; `current` is asked at every new connection."""
    if not tls13.IN_FORCE:
        raise RuntimeError("gRPC would accept TLS 1.2: put 'import isthmus_kit.tls13' before the first import of grpc")
    last = current()

    def changed() -> grpc.ServerCertificateConfiguration:
        # Called on gRPC's thread; None keeps the contexts that gRPC has built.
        nonlocal last
        identity = current()
        if identity is last:
            return None  # type: ignore[return-value] # the stub does not know that None means "as before"
        last = identity
        return _certificates(identity)

    return grpc.dynamic_ssl_server_credentials(_certificates(last), changed, require_client_authentication=True)


def grpc_client_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Credentials of a gRPC channel. A channel keeps its first identity: make a new one for a new identity."""
    return grpc.ssl_channel_credentials(identity.roots, identity.key, identity.chain)


def grpc_server_name(name: str) -> list[tuple[str, str]]:
    """Channel options that verify the server as `name`, whatever address it is reached at."""
    return [("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]


def peer_of_grpc(auth_context: Mapping[str, object], domain: str) -> Peer:
    """Who is at the other end of a gRPC call: `peer_of_grpc(context.auth_context(), domain)`; raises Refused."""
    shown = auth_context.get("x509_pem_cert")
    first = shown[0] if isinstance(shown, list | tuple) and shown else None
    if not isinstance(first, bytes):
        raise Refused("the peer shows no certificate", "Connect with a certificate that this federation issued.")
    return peer_of_certificate(first, domain)


def peer_of_tls(connection: ssl.SSLObject | ssl.SSLSocket | None, domain: str) -> Peer | None:
    """Who is at the other end of a TLS connection, or None when it showed no certificate; raises Refused.

    With aiohttp: `peer_of_tls(request.transport.get_extra_info("ssl_object"), domain)`.
    """
    encoded = connection.getpeercert(binary_form=True) if connection is not None else None
    return peer_of_certificate(encoded, domain) if encoded else None


def _certificates(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(identity.key, identity.chain)], identity.roots)


@contextmanager
def _as_path(secret: bytes) -> Iterator[str]:
    """`secret` as a file that exists only in memory: Python's ssl reads certificates from paths alone."""
    descriptor = os.memfd_create("isthmus-identity", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(secret)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


__all__ = [
    "ClientCertificates",
    "client_context",
    "grpc_client_credentials",
    "grpc_server_credentials",
    "grpc_server_name",
    "peer_of_grpc",
    "peer_of_tls",
    "replace_identity",
    "server_context",
]
