"""The Imports service: tell the gateways of each cluster what the federation looks like."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography.hazmat.primitives.serialization import Encoding

from isthmus_controller.metrics import ControllerMetrics
from isthmus_controller.registry.records import encode
from isthmus_controller.trust import TrustAuthority
from isthmus_controller.view import View, Visitor
from isthmus_core.errors import Refused, Unavailable
from isthmus_core.spiffe import Role
from isthmus_kit.pki import decode_certificates, peer_of_certificate
from isthmus_sync import Caller, Publishing
from isthmus_sync.codec import SCHEMA
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.streams import Guard

log = logging.getLogger(__name__)


MAX_NAMES = 10_000
"""Names of one type that a stream may ask for; our gateways ask for all, with one."""


class Imports:
    """Serves the Imports streams of one replica."""

    def __init__(self, view: View, metrics: ControllerMetrics) -> None:
        self._view = view
        self._metrics = metrics

    @asynccontextmanager
    async def open(self, visitor: Visitor) -> AsyncIterator[Publishing]:
        """What a new stream of a cluster is told; ends with Refused when the cluster is removed."""
        cluster = visitor.cluster
        async with self._view.membership(visitor):
            log.info("a gateway follows the federation", extra={"cluster": cluster})
            with self._metrics.stream("imports", cluster):
                try:
                    yield Publishing(
                        self._view.feeds.of(cluster),
                        on_acked=self._metrics.on_acked(cluster),
                        on_nacked=self._metrics.on_nacked(cluster),
                        max_names=MAX_NAMES,
                        guard=Guard(),
                    )
                except Unavailable as error:
                    log.info("the stream of a gateway was ended", extra={"cluster": cluster, "reason": str(error)})
                    raise


def identify_gateway(caller: Caller, domain: str) -> Visitor:
    """The cluster whose gateway calls, by its certificate; raises Refused for everybody else."""
    if caller.certificate is None:
        raise Refused("the peer shows no certificate", "Connect with a certificate that this federation issued.")
    peer = peer_of_certificate(caller.certificate, domain)
    if peer.role is not Role.GATEWAY or peer.cluster is None:
        raise Refused(f"{peer.id} is no gateway of this federation", "Connect with the certificate of a gateway.")
    leaf = decode_certificates(caller.certificate, "the peer's certificate")[0]
    return Visitor(peer.cluster, leaf.not_valid_after_utc, caller.when_gone)


def trust_bundle(trust: TrustAuthority) -> bytes:
    """The TRUST_BUNDLE resource: the roots that every member believes."""
    roots = decode_certificates(trust.root_pem, "the root certificate")
    encoded = [root.public_bytes(Encoding.DER) for root in roots]
    return encode(pb.TrustBundle(schema=SCHEMA, federation_domain=trust.domain, roots=encoded, sequence=1))
