"""Make, read and judge private and public keys."""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import NameOID

from isthmus_core.errors import InvalidInput

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_SMALLEST_RSA = 2048


def make_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key: what every TLS stack in use signs and verifies fastest."""
    return ec.generate_private_key(ec.SECP256R1())


def encode_key(key: SigningKey, passphrase: bytes | None = None) -> bytes:
    """PKCS #8 in PEM, encrypted when a passphrase is given."""
    how: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def decode_key(pem: bytes, what: str, passphrase: bytes | None = None) -> SigningKey:
    """The key in `pem`; raises InvalidInput that calls it `what`."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError as error:
        wanted = "is encrypted and no passphrase was given" if passphrase is None else "is not encrypted"
        raise InvalidInput(f"{what} {wanted}", "Give the passphrase it was made with.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise InvalidInput(
                f"{what} does not open with this passphrase", "Give the one it was made with."
            ) from error
        raise InvalidInput(f"{what} is not a private key in PEM", "Restore it from a backup.") from error
    if not isinstance(key, SigningKey):
        raise InvalidInput(
            f"{what} is a {type(key).__name__}", "Use an EC P-256 or P-384 key, or RSA of 2048 bits or more."
        )
    check_public_key(key.public_key(), what)
    return key


def check_public_key(key: PublicKeyTypes, what: str) -> PublicKey:
    """The key, when every peer (Envoy, gRPC, Python) accepts certificates with it; raises InvalidInput."""
    mend = "Use an EC P-256 or P-384 key, or RSA of 2048 bits or more."
    match key:
        case ec.EllipticCurvePublicKey():
            if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
                raise InvalidInput(f"{what} is an EC key on {key.curve.name}", mend)
            return key
        case rsa.RSAPublicKey():
            if key.key_size < _SMALLEST_RSA:
                raise InvalidInput(f"{what} is an RSA key of {key.key_size} bits", mend)
            return key
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            # Tried: Envoy verifies what an Ed25519 authority signed, but refuses a leaf with such a key.
            raise InvalidInput(f"{what} is an EdDSA key, which Envoy does not accept in leaves", mend)
        case _:
            raise InvalidInput(f"{what} is of a kind that TLS peers do not accept", mend)


def key_fingerprint(key: PublicKeyTypes) -> bytes:
    """SHA-256 of the key itself (SubjectPublicKeyInfo, DER): the same for every certificate and request with it."""
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()


def common_name_of(text: str) -> x509.Name:
    """A distinguished name for people to read: programs look at the SPIFFE id alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # ub-common-name is 64 (RFC 5280, A.1)


def make_request(key: SigningKey, common_name: str) -> bytes:
    """A certificate request (PKCS #10, PEM) that proves possession of `key`; its names are for people only."""
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(common_name_of(common_name)).sign(key, digest_for(key))
    )
    return request.public_bytes(serialization.Encoding.PEM)


def open_request(pem: bytes) -> PublicKey:
    """The public key of a certificate request, after its proof of possession and its kind were checked.

    Everything else that the request asks for is ignored: the issuer decides the names. Raises InvalidInput.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        unchecked = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "the certificate request cannot be read", "Send a PKCS #10 request in PEM, as 'isthmus cluster join' does."
        ) from error
    key = check_public_key(unchecked, "the requested key")
    try:
        proven = request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        proven = False
    if not proven:
        raise InvalidInput(
            "the certificate request is not signed by its own key", "Make a new one with the key you hold."
        )
    return key


def digest_for(key: SigningKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash that goes with a key: SHA-384 for P-384, SHA-256 for all others (RFC 5758; TLS 1.3, section 4.2.3)."""
    return hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == 384 else hashes.SHA256()
