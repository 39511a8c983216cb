"""Make the certificates that let one etcd and its owner trust each other and nobody else on the machine.

The key of the CA is never written: after this nobody can make another certificate that this etcd accepts.
"""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus_kit.files import make_folder, write_file

_LIFETIME = timedelta(days=3650)
_SKEW = timedelta(minutes=5)


class LocalTls(msgspec.Struct, frozen=True):
    """The PEM files in one folder; all are readable by their owner only."""

    ca: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path


def local_tls(folder: Path) -> LocalTls:
    """Where the files stand."""
    return LocalTls(
        ca=folder / "ca.crt",
        server_certificate=folder / "server.crt",
        server_key=folder / "server.key",
        client_certificate=folder / "client.crt",
        client_key=folder / "client.key",
    )


def make_local_tls(folder: Path, address: str, now: datetime | None = None) -> LocalTls:
    """Fresh certificates for a server at `address` and its one client; replaces those of an earlier run."""
    made_at = now or datetime.now(UTC)
    make_folder(folder)
    files = local_tls(folder)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("isthmus local etcd", ca_key.public_key(), made_at, None, ca_key)
    write_file(files.ca, _pem(ca))
    for name, certificate_path, key_path in (
        (address, files.server_certificate, files.server_key),
        # No address in it: what it shows can only be a client.
        ("", files.client_certificate, files.client_key),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        write_file(key_path, _key_pem(key))
        write_file(certificate_path, _pem(_certificate(name, key.public_key(), made_at, ca, ca_key)))
    return files


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or "isthmus controller")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if issuer is not None:
        # etcd's own gateway dials its server with the server's certificate, so that one is a client too.
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if name else [])
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if name:
            names = [x509.IPAddress(ipaddress.ip_address(name))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
