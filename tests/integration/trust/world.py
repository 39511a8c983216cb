"""Certificates of a federation, and of those who attack it: whoever stole a cluster's CA signs whatever they like."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus_core.spiffe import SpiffeId, controller_id, controller_name, gateway_id, gateway_name, trust_domain_of
from isthmus_kit.pki import (
    LEAF_LIFETIME,
    Authority,
    Identity,
    Subject,
    encode,
    encode_key,
    issue_identity,
    make_key,
    make_root,
    sign_authority,
)
from isthmus_kit.pki.keys import common_name_of, digest_for

DOMAIN = "fed.test"


def authority(root: Authority, trust_domain: str, dns: str, now: datetime) -> Authority:
    key = make_key()
    return Authority(sign_authority(root, key.public_key(), trust_domain, dns, now), key)


class World:
    """One federation with the clusters a and b, and a controller."""

    def __init__(self, domain: str = DOMAIN, now: datetime | None = None) -> None:
        self.domain = domain
        self.now = now or datetime.now(UTC)
        self.root = make_root(f"root {domain}", self.now)
        self.controller_ca = authority(self.root, domain, controller_name(domain), self.now)
        self.cas = {cluster: self._cluster_ca(cluster) for cluster in "ab"}

    @property
    def roots(self) -> bytes:
        return encode(self.root.certificate)

    def _cluster_ca(self, cluster: str) -> Authority:
        domain = trust_domain_of(cluster, self.domain)
        return authority(self.root, domain, domain, self.now)

    def controller(self) -> Identity:
        subject = Subject("controller", str(controller_id(self.domain)), (controller_name(self.domain),))
        return issue_identity(self.controller_ca, self.roots, subject, self.now, LEAF_LIFETIME)

    def gateway(self, cluster: str, now: datetime | None = None) -> Identity:
        subject = Subject("gateway", str(gateway_id(cluster, self.domain)), (gateway_name(cluster, self.domain),))
        return issue_identity(self.cas[cluster], self.roots, subject, now or self.now, LEAF_LIFETIME)

    def forge(
        self,
        issuer: Authority,
        uris: Sequence[str],
        dns: Sequence[str] = (),
        extra: Sequence[x509.GeneralName] = (),
        ends: timedelta = LEAF_LIFETIME,
    ) -> Identity:
        """A leaf with any names, signed by `issuer` without asking whether it may."""
        key = make_key()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(name) for name in dns]
        leaf = (
            x509.CertificateBuilder()
            .subject_name(common_name_of("forged"))
            .issuer_name(issuer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(hours=2))
            .not_valid_after(self.now + ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([*names, *extra]), critical=False)
            .sign(issuer.key, digest_for(issuer.key))
        )
        chain = encode(leaf) + encode(issuer.certificate)
        end = leaf.not_valid_after_utc
        return Identity(SpiffeId.parse(uris[0]), chain, encode_key(key), self.roots, self.now, end)


def attacks(world: World) -> dict[str, Identity]:
    """Identities that every TLS stack of the federation must refuse, by the name of the attack.

    All carry the DNS name of cluster b's gateways, so that nothing but the attack itself is wrong.
    """
    b_uri, b_dns = str(gateway_id("b", world.domain)), gateway_name("b", world.domain)
    stolen = world.cas["a"]
    below = authority(stolen, trust_domain_of("b", world.domain), trust_domain_of("b", world.domain), world.now)
    lone = make_root("nobody", world.now)
    stranger = World("fed.test", world.now)
    return {
        "another cluster's names from a stolen CA": world.forge(stolen, [b_uri], [b_dns]),
        "another cluster's URI from a stolen CA": world.forge(stolen, [b_uri], ["gateway.a.fed.test"]),
        "another cluster's DNS name from a stolen CA": world.forge(
            stolen, [str(gateway_id("a", world.domain))], [b_dns]
        ),
        "the controller's names from a stolen CA": world.forge(
            stolen, [str(controller_id(world.domain))], [controller_name(world.domain)]
        ),
        "an admin's id from a stolen CA": world.forge(stolen, [f"spiffe://{world.domain}/admin/x"]),
        "an authority made by a stolen CA": world.forge(below, [b_uri], [b_dns]),
        "expired": world.forge(world.cas["b"], [b_uri], [b_dns], ends=-timedelta(minutes=5)),
        "self-signed": world.forge(lone, [b_uri], [b_dns]),
        "another federation of the same name": stranger.gateway("b"),
    }
