"""The controller's power to let clusters join and to show who it is itself; knows no storage but its folder."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509

from isthmus_controller.trust.federation import Federation, read_description, read_passphrase
from isthmus_core.errors import InvalidInput
from isthmus_core.spiffe import controller_id, controller_name, parse_member_id, trust_domain_of
from isthmus_kit.files import read_file
from isthmus_kit.pki import (
    AUTHORITY_LIFETIME,
    LEAF_LIFETIME,
    Authority,
    Identity,
    IdentitySource,
    Subject,
    decode_certificates,
    decode_key,
    encode,
    fingerprint,
    issue_identity,
    key_fingerprint,
    open_request,
    sign_authority,
)

_MEND = "Restore it from a backup of the folder that 'isthmus init' made."


class TrustAuthority:
    """Signs the CAs of clusters with the root, and the controller's own leaves with the controllers' authority."""

    def __init__(self, federation: Federation, root: Authority, own: Authority) -> None:
        self.federation = federation
        self._root = root
        self._own = own

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The authority of the federation in `folder`; raises InvalidInput that names what is missing or unusable."""
        described = read_description(folder)
        # The fingerprint is filled in from the certificate itself.
        places = Federation(name=described.name, domain=described.domain, folder=folder, root_fingerprint="")
        root = _read_certificate(places.root_certificate, "the root certificate")
        federation = Federation(
            name=described.name, domain=described.domain, folder=folder, root_fingerprint=fingerprint(root)
        )
        own = _read_certificate(places.authority_certificate, "the controllers' CA certificate")
        return cls(
            federation,
            _paired(root, places.root_key, "the root key", read_passphrase(places)),
            _paired(own, places.authority_key, "the controllers' CA key", None),
        )

    @property
    def name(self) -> str:
        """The federation's name."""
        return self.federation.name

    @property
    def domain(self) -> str:
        """The federation's domain."""
        return self.federation.domain

    @property
    def root_pem(self) -> bytes:
        """The root certificate, PEM: what `GET /v1/root` answers and every member trusts."""
        return encode(self._root.certificate)

    @property
    def root_fingerprint(self) -> str:
        """SHA-256 of the root certificate (DER), lower-case hex."""
        return self.federation.root_fingerprint

    def sign_cluster_ca(
        self, cluster_id: str, csr_pem: bytes, now: datetime | None = None, lifetime: timedelta = AUTHORITY_LIFETIME
    ) -> bytes:
        """The CA certificate (PEM) of a cluster for the key in its request; raises InvalidInput.

        The request must be signed by its own key; the names that it asks for are ignored.
        """
        cluster = parse_member_id(cluster_id)
        key = open_request(csr_pem)
        domain = trust_domain_of(cluster, self.domain)
        return encode(sign_authority(self._root, key, domain, domain, now or datetime.now(UTC), lifetime))

    def issue(self, now: datetime, lifetime: timedelta = LEAF_LIFETIME) -> Identity:
        """A leaf for this controller, for its gRPC and its HTTPS."""
        subject = Subject("Isthmus controller", str(controller_id(self.domain)), (controller_name(self.domain),))
        return issue_identity(self._own, self.root_pem, subject, now, lifetime)

    def identity_source(self) -> IdentitySource:
        """The controller's identity, renewed as long as `run()` runs."""
        return IdentitySource(self.issue, random.random)


def certificate_fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 (DER, lower-case hex) of a certificate: what `Cluster.certificate_fingerprint` holds."""
    return fingerprint(decode_certificates(certificate_pem, "the certificate")[0])


def _read_certificate(path: Path, what: str) -> x509.Certificate:
    return decode_certificates(read_file(path, what, _MEND), f"{what} {path}")[0]


def _paired(certificate: x509.Certificate, key_path: Path, what: str, passphrase: bytes | None) -> Authority:
    key = decode_key(read_file(key_path, what, _MEND), f"{what} {key_path}", passphrase)
    if key_fingerprint(key.public_key()) != key_fingerprint(certificate.public_key()):
        raise InvalidInput(f"{what} {key_path} does not belong to its certificate", _MEND)
    return Authority(certificate, key)
