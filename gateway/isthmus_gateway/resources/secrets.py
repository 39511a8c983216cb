"""Who we are and whom we believe, as secrets that change without touching a listener, a cluster or a connection."""

from collections.abc import Iterable

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsCertificate,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from isthmus_core.model import Cluster
from isthmus_core.names import ClusterId
from isthmus_gateway.resources import names
from isthmus_gateway.resources.encode import encoded

# An empty list of names would accept every certificate below the root; this name exists nowhere (RFC 6761, `.invalid`).
NOBODY = "spiffe://nobody.invalid/gateway"


def build_identity(chain_pem: bytes, key_pem: bytes) -> dict[str, bytes]:
    """The secret `identity`: leaf and intermediate, and the leaf's key."""
    certificate = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=chain_pem), private_key=DataSource(inline_bytes=key_pem)
    )
    return {names.IDENTITY: encoded(Secret(name=names.IDENTITY, tls_certificate=certificate))}


def build_trust(roots_pem: bytes, here: ClusterId, members: Iterable[Cluster]) -> dict[str, bytes]:
    """Who each other member's gateways are, by exact name, whichever side opens the connection."""
    others = {names.peer_secret(member.id): member for member in members if member.id != here}
    return {name: _context(name, roots_pem, gateway_id(member)) for name, member in sorted(others.items())}


def gateway_id(cluster: Cluster) -> str:
    """The SPIFFE id of a cluster's gateways; a cluster without a trust domain matches nobody."""
    return f"spiffe://{cluster.trust_domain}/gateway" if cluster.trust_domain else NOBODY


def _context(name: str, roots_pem: bytes, id_: str) -> bytes:
    exactly = SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.URI, matcher=StringMatcher(exact=id_))
    context = CertificateValidationContext(
        trusted_ca=DataSource(inline_bytes=roots_pem), match_typed_subject_alt_names=[exactly]
    )
    return encoded(Secret(name=name, validation_context=context))
