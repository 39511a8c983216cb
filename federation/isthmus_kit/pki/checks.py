"""Read certificates that others made, and say in a sentence what is wrong with them."""

import hashlib
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from isthmus_core.errors import InvalidInput, Refused
from isthmus_core.spiffe import Peer, SpiffeId, identify
from isthmus_kit.pki.keys import key_fingerprint


def decode_certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    """All certificates in `pem`, at least one; raises InvalidInput that calls them `what`."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidInput(f"{what} is not a certificate in PEM", "Restore it from a backup.") from error
    if not found:
        raise InvalidInput(f"{what} holds no certificate", "Restore it from a backup.")
    return found


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate (DER), lower-case hex."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def check_authority(
    certificate: x509.Certificate, root: x509.Certificate, key: PublicKeyTypes, trust_domain: str, now: datetime
) -> None:
    """Raise Refused unless `certificate` is what a root of this federation gives to `trust_domain` for `key`.

    That is: signed by `root`, valid now, for our key, a CA with pathlen 0, and critical name constraints on exactly
    our own trust domain.
    """
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise Refused("the CA certificate is not signed by the federation's root", _MEND) from error
    if key_fingerprint(certificate.public_key()) != key_fingerprint(key):
        raise Refused("the CA certificate is for another key than ours", _MEND)
    check_validity(certificate, "the CA certificate", now)
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        limits = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise Refused("the CA certificate has no usable constraints", _MEND) from error
    if not (basic.critical and basic.value.ca and basic.value.path_length == 0 and usage.value.key_cert_sign):
        raise Refused("the CA certificate may not issue leaves, or may issue more than leaves", _MEND)
    expected = {x509.UniformResourceIdentifier(trust_domain), x509.DNSName(trust_domain)}
    if not limits.critical or set(limits.value.permitted_subtrees or ()) != expected:
        raise Refused(f"the CA certificate is not limited to {trust_domain}", _MEND)


def check_validity(certificate: x509.Certificate, what: str, now: datetime) -> None:
    """Raise InvalidInput when `now` is outside of the certificate's validity."""
    if now > certificate.not_valid_after_utc:
        raise InvalidInput(f"{what} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", "Renew it.")
    if now < certificate.not_valid_before_utc:
        raise InvalidInput(
            f"{what} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            "Set this machine's clock.",
        )


def spiffe_id_of(certificate: x509.Certificate) -> SpiffeId:
    """The one SPIFFE id of a leaf; raises Refused.

    TLS stacks accept certificates with several URIs (X509-SVID, section 5.2: validators must not), and with several,
    which one speaks would be the reader's choice. The chain is the TLS stack's work and is not looked at here.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise Refused("the peer's certificate carries no SPIFFE id", _PEER_MEND) from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise Refused(f"the peer's certificate has {len(uris)} URI names and not exactly one", _PEER_MEND)
    if basic.ca:
        raise Refused("the peer shows the certificate of an authority", _PEER_MEND)
    try:
        return SpiffeId.parse(uris[0])
    except InvalidInput as error:
        raise Refused(f"the peer's certificate is no SPIFFE certificate: {error.sentence}", _PEER_MEND) from error


def peer_of_certificate(encoded: bytes, domain: str) -> Peer:
    """Who a verified leaf certificate (PEM or DER) stands for in the federation `domain`; raises Refused."""
    try:
        is_pem = encoded.lstrip().startswith(b"-----BEGIN")
        certificate = x509.load_pem_x509_certificate(encoded) if is_pem else x509.load_der_x509_certificate(encoded)
    except ValueError as error:
        raise Refused("the peer's certificate cannot be read", _PEER_MEND) from error
    return identify(spiffe_id_of(certificate), domain)


_MEND = "Do not use it: ask the federation's admin whether the controller is the right one."
_PEER_MEND = "Connect with a certificate that this federation issued."
