"""Build the certificates of a federation: a root, constrained intermediates below it, and short-lived leaves.

root (10 years, pathlen 1)
├── controller CA (pathlen 0; only spiffe://<domain>/... and controller.<domain>)
│   ├── controller leaf (1 h)    └── admin certificates (1 year)
└── cluster CA (pathlen 0; only spiffe://<cluster>.<domain>/... and *.<cluster>.<domain>)
    └── gateway leaf (1 h)
"""

import ipaddress
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus_core.errors import InvalidInput
from isthmus_kit.pki.keys import PublicKey, SigningKey, common_name_of, digest_for, encode_key, make_key

# Peers whose clocks are behind by less than this accept a certificate that was just made.
CLOCK_SKEW = timedelta(minutes=5)

ROOT_LIFETIME = timedelta(days=3650)
AUTHORITY_LIFETIME = timedelta(days=365)
LEAF_LIFETIME = timedelta(hours=1)

_EVERY_ADDRESS = (x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")), x509.IPAddress(ipaddress.ip_network("::/0")))


class Authority(msgspec.Struct, frozen=True):
    """A CA that can sign: its certificate and its key. Never shown: `repr` hides the key."""

    certificate: x509.Certificate
    key: SigningKey

    def __repr__(self) -> str:
        return f"Authority({self.certificate.subject.rfc4514_string()})"


class Subject(msgspec.Struct, frozen=True):
    """What a certificate is made out to."""

    common_name: str
    uri: str
    dns: tuple[str, ...] = ()


def make_root(common_name: str, now: datetime, lifetime: timedelta = ROOT_LIFETIME) -> Authority:
    """A self-signed root with a fresh key; it allows one level of authorities below it."""
    key = make_key()
    name = common_name_of(common_name)
    builder = _blank(name, key.public_key(), now, now + lifetime).issuer_name(name)
    builder = _as_authority(builder, path_length=1)
    return Authority(builder.sign(key, digest_for(key)), key)


def sign_authority(
    issuer: Authority,
    key: PublicKey,
    trust_domain: str,
    dns: str,
    now: datetime,
    lifetime: timedelta = AUTHORITY_LIFETIME,
) -> x509.Certificate:
    """An intermediate for `key` that can only speak for `trust_domain` in URIs and for `dns` and names below it.

    The constraints are critical: a TLS stack that does not know them refuses the chain. A host without a leading dot
    means exactly that host (RFC 5280, section 4.2.1.10). No address at all may be certified.
    """
    limits = x509.NameConstraints([x509.UniformResourceIdentifier(trust_domain), x509.DNSName(dns)], _EVERY_ADDRESS)
    builder = _blank(common_name_of(f"Isthmus CA {trust_domain}"), key, now, _end(issuer, now, lifetime))
    builder = _as_authority(_issued_by(builder, issuer), path_length=0).add_extension(limits, critical=True)
    # X509-SVID, section 3.2: an authority's id has no path.
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
    return builder.add_extension(names, critical=False).sign(issuer.key, digest_for(issuer.key))


def issue_leaf(
    issuer: Authority, subject: Subject, now: datetime, lifetime: timedelta = LEAF_LIFETIME, *, server: bool = True
) -> tuple[bytes, bytes]:
    """A leaf with a fresh key: (PEM chain of the leaf and its issuer, PEM key); `server=False` is for clients only.

    X509-SVID, section 4: exactly one URI, no CA, critical key usage with digitalSignature alone.
    """
    key = make_key()
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(subject.uri)]
    names += [x509.DNSName(name) for name in subject.dns]
    purposes = (
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        if server
        else [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    builder = _blank(common_name_of(subject.common_name), key.public_key(), now, _end(issuer, now, lifetime))
    builder = (
        _issued_by(builder, issuer)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    leaf = builder.sign(issuer.key, digest_for(issuer.key))
    return encode(leaf) + encode(issuer.certificate), encode_key(key)


def encode(*certificates: x509.Certificate) -> bytes:
    """Certificates as PEM, one after the other."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _blank(subject: x509.Name, key: PublicKey, now: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - CLOCK_SKEW)
        .not_valid_after(end.astimezone(UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _issued_by(builder: x509.CertificateBuilder, issuer: Authority) -> x509.CertificateBuilder:
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return builder.issuer_name(issuer.certificate.subject).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
    )


def _as_authority(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
        _usage(sign_certificates=True), critical=True
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _end(issuer: Authority, now: datetime, lifetime: timedelta) -> datetime:
    """A certificate never outlives its issuer: peers would refuse it from that moment, and nobody would know why."""
    end = min(now + lifetime, issuer.certificate.not_valid_after_utc)
    if end <= now:
        who, expired = issuer.certificate.subject.rfc4514_string(), issuer.certificate.not_valid_after_utc
        raise InvalidInput(f"the authority {who} expired on {expired:%Y-%m-%d}", "Join again with a new token.")
    return end
