"""Who is there for tests of gateways alone: clusters, the certificates they trust, and where their gateways are."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from isthmus_core.model import Cluster, Gateway
from isthmus_core.names import ClusterId, Locality
from isthmus_kit.pki import Subject, encode, issue_leaf, make_key, make_root, sign_authority
from isthmus_kit.pki.certificates import Authority

DOMAIN = "fed.test"


class World:
    """A root, one constrained CA per cluster, and where each cluster's gateway is."""

    def __init__(self) -> None:
        self.root = make_root("test root", datetime.now(UTC))
        self._authorities: dict[str, Authority] = {}
        self.members: dict[ClusterId, Cluster] = {}

    @property
    def roots_pem(self) -> bytes:
        return encode(self.root.certificate)

    def identity(self, name: str, lifetime: timedelta = timedelta(hours=1)) -> tuple[bytes, bytes]:
        """Chain and key of a fresh leaf for a cluster's gateway."""
        domain = f"{name}.{DOMAIN}"
        subject = Subject("gateway", f"spiffe://{domain}/gateway", (f"gateway.{domain}",))
        return issue_leaf(self.authority(name), subject, datetime.now(UTC), lifetime)

    def authority(self, name: str) -> Authority:
        """The CA of a cluster."""
        domain = f"{name}.{DOMAIN}"
        if name not in self._authorities:
            key = make_key()
            certificate = sign_authority(self.root, key.public_key(), domain, domain, datetime.now(UTC))
            self._authorities[name] = Authority(certificate, key)
        return self._authorities[name]

    def add(self, name: str, locality: str, gateways: Sequence[tuple[str, int]]) -> Cluster:
        """Make a member whose gateways take tunnels at these addresses."""
        id_ = ClusterId(name)
        self.members[id_] = Cluster(
            id_,
            Locality.parse(locality),
            trust_domain=f"{name}.{DOMAIN}",
            gateways=tuple(Gateway(f"{name}-{n}", id_, *where) for n, where in enumerate(gateways)),
            session_held=True,
        )
        return self.members[id_]
