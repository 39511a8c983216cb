"""Every leaf that somebody who does not belong, or a member gone bad, could show at a door; and how a door answers."""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from isthmus_kit.pki import Authority, encode, encode_key, make_key, make_root, sign_authority
from isthmus_kit.pki.keys import SigningKey, common_name_of

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Forged:
    """What a member's CA signs when nobody holds it back; everything is as it should be unless it is given."""

    ca: Authority
    uris: Sequence[str]
    key: SigningKey = field(default_factory=make_key)
    begins: timedelta = -HOUR
    ends: timedelta = HOUR
    purposes: Sequence[ObjectIdentifier] = (CLIENT, SERVER)
    is_ca: bool = False
    signs_certificates: bool = False
    subject: x509.Name = field(default_factory=lambda: common_name_of("forged"))

    def certificate(self) -> x509.Certificate:
        now, signs = datetime.now(UTC), self.signs_certificates
        issuer = self.ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(self.ca.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + self.begins)
            .not_valid_after(now + self.ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .add_extension(x509.BasicConstraints(ca=self.is_ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False), critical=True
            )
        )
        if self.purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.purposes), critical=False)
        if self.uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in self.uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.ca.key, hashes.SHA256())

    def shown(self, *extra: x509.Certificate) -> tuple[bytes, bytes]:
        """Chain and key."""
        return encode(self.certificate(), self.ca.certificate, *extra), encode_key(self.key)


def leaves(mine: Authority, other: Authority, domain: str) -> dict[str, tuple[bytes, bytes]]:
    """(chain, key) of each: cluster a has the CA `mine`, another member has `other`."""
    good = f"spiffe://a.{domain}/gateway"
    another = f"spiffe://b.{domain}/gateway"
    ours = f"a.{domain}"
    key = make_key()
    below = Authority(sign_authority(mine, key.public_key(), f"b.{ours}", ours, datetime.now(UTC)), key)
    lone, stranger = make_root("lone", datetime.now(UTC)), make_root("root", datetime.now(UTC))
    foreign = Authority(sign_authority(stranger, key.public_key(), ours, ours, datetime.now(UTC)), key)
    plain = Forged(mine, [good])
    table = {
        "good": plain.shown(),
        "self-signed": (encode(Forged(lone, [good], key=lone.key).certificate()), encode_key(lone.key)),
        "of another federation of the same name": Forged(foreign, [good]).shown(stranger.certificate),
        "of another member's CA": Forged(other, [good]).shown(),
        "expired": Forged(mine, [good], ends=-timedelta(minutes=1)).shown(),
        "not yet valid": Forged(mine, [good], begins=timedelta(minutes=30)).shown(),
        "an intermediate as a leaf": (encode(mine.certificate), encode_key(mine.key)),
        "below an intermediate of the intermediate": Forged(below, [good]).shown(mine.certificate),
        "below an intermediate of the same name": Forged(twin(mine), [good]).shown(mine.certificate),
        "another member below one of the same name": Forged(twin(mine), [another]).shown(mine.certificate),
        "not for clients": Forged(mine, [good], purposes=[SERVER]).shown(),
        "for code signing": Forged(mine, [good], purposes=[ExtendedKeyUsageOID.CODE_SIGNING]).shown(),
        "an authority that signs certificates": Forged(mine, [good], is_ca=True, signs_certificates=True).shown(),
        "an authority in name": Forged(mine, [good], is_ca=True).shown(),
        "without its intermediate": (encode(plain.certificate()), encode_key(plain.key)),
        "with 100 other certificates": plain.shown(*[Forged(lone, [good]).certificate() for _ in range(100)]),
        "with 400 other certificates": plain.shown(*[lone.certificate] * 400),
        "RSA of 1024 bits": Forged(mine, [good], key=rsa.generate_private_key(65537, 1024)).shown(),
        "signed with SHA-1": with_sha1(plain),
    }
    for what, uris in {
        "no URI": [],
        "two URIs": [good, f"spiffe://a.{domain}/other"],
        "the same URI twice": [good, good],
        "an admin's path": [f"spiffe://a.{domain}/admin/x"],
        "the controller's path": [f"spiffe://a.{domain}/controller"],
        "the controller's id": [f"spiffe://{domain}/controller"],
        "a longer path": [f"{good}/x"],
        "a slash behind the path": [f"{good}/"],
        "two slashes": [f"spiffe://a.{domain}//gateway"],
        "no path": [f"spiffe://a.{domain}"],
        "an upper-case path": [f"spiffe://a.{domain}/Gateway"],
        "an upper-case domain": [f"spiffe://A.{domain}/gateway"],
        "an encoded path": [f"spiffe://a.{domain}/%67ateway"],
        "a port": [f"spiffe://a.{domain}:443/gateway"],
        "a user": [f"spiffe://b.{domain}@a.{domain}/gateway"],
        "a question": [f"{good}?x"],
        "another scheme": [f"https://a.{domain}/gateway"],
        "a NUL at the end": [f"{good}\0"],
        "another member before a NUL": [f"spiffe://b.{domain}/gateway\0.a.{domain}"],
        "another member's URI": [another],
        "another member's URI beside it": [good, another],
    }.items():
        table[what] = Forged(mine, uris).shown()
    return table


def twin(mine: Authority) -> Authority:
    """An authority below `mine` that has its name and no limits: one that certifies itself is not counted by pathlen
    (RFC 5280, section 4.2.1.9), and constraints from above hold for what is below it all the same."""
    made = Forged(mine, [], is_ca=True, signs_certificates=True, subject=mine.certificate.subject, purposes=())
    return Authority(made.certificate(), made.key)


def with_sha1(forged: Forged) -> tuple[bytes, bytes]:
    """The same certificate, signed once more: our library signs nothing with SHA-1."""
    sha256, sha1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")
    body = forged.certificate().tbs_certificate_bytes
    assert body[:2] == b"\x30\x82" and sha256 in body
    body = sequence(body[4:].replace(sha256, sha1, 1))
    assert isinstance(forged.ca.key, ec.EllipticCurvePrivateKey)
    signature = forged.ca.key.sign(body, ec.ECDSA(hashes.SHA1()))
    whole = sequence(body + sha1 + bytes([3, len(signature) + 1, 0]) + signature)
    leaf = x509.load_der_x509_certificate(whole)
    return encode(leaf, forged.ca.certificate), encode_key(forged.key)


def sequence(content: bytes) -> bytes:
    """A long SEQUENCE of ASN.1."""
    return b"\x30\x82" + len(content).to_bytes(2) + content


@dataclass(frozen=True)
class Door:
    """A port, what is asked there, and what stands in the answer to somebody who is let in."""

    address: tuple[str, int]
    request: bytes
    welcome: bytes
    protocols: Sequence[str] = ("h2",)
    name: str | None = None

    def knock(
        self,
        shown: tuple[bytes, bytes] | None,
        folder: Path,
        *,
        protocols: Sequence[str] | None = None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> str:
        """`in`, `closed` when nothing of HTTP came back, or else the printable part of the refusal."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")  # else OpenSSL would not even show a weak certificate
        if protocols := self.protocols if protocols is None else protocols:
            context.set_alpn_protocols(list(protocols))
        if shown is not None:
            (folder / "shown.pem").write_bytes(b"".join(shown))
            context.load_cert_chain(folder / "shown.pem")
        answer = b""
        with socket.create_connection(self.address, 5) as raw:
            try:
                with context.wrap_socket(raw, server_hostname=self.name) as connection:
                    connection.sendall(self.request)
                    while self.welcome not in answer and (more := connection.recv(65536)):
                        answer += more
                        if b"grpc-status" in answer:
                            break
            except TimeoutError:
                raise
            except OSError as error:  # an alert, or what comes when the port closes while we write
                if not answer:
                    return f"closed: {getattr(error, 'reason', '') or error.strerror or error}"
        if self.welcome in answer:
            return "in"
        return "".join(chr(byte) for byte in answer if 32 <= byte < 127) or "closed"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def ask_h2(*headers: tuple[str, str], ends: bool) -> bytes:
    """A request as HTTP/2 frames: no compression, stream 1."""
    block = b"".join(
        bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in headers
    )
    return PREFACE + len(block).to_bytes(3) + bytes([1, 5 if ends else 4]) + (1).to_bytes(4) + block


def ingress(address: tuple[str, int]) -> Door:
    """The way in for the gateways of cluster a."""
    asked = ((":method", "GET"), (":scheme", "https"), (":path", "/.isthmus/health"), (":authority", "x"))
    return Door(address, ask_h2(*asked, ends=True), b"ok\n", ("h2", "isthmus/a"))


def streams(address: tuple[str, int], name: str) -> Door:
    """Where gateways call the controller."""
    asked = (
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/isthmus.v1.Imports/Delta"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    return Door(address, ask_h2(*asked, ends=False), b"isthmus-accepted", name=name)


def admin(address: tuple[str, int]) -> Door:
    """Where people call the controller."""
    return Door(address, b"GET /v1/clusters HTTP/1.0\r\nHost: x\r\n\r\n", b" 200 OK", ("http/1.1",))
