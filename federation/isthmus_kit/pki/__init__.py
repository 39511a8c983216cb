"""Certificates, keys, identities and join tokens: what controller and gateway share of the federation's trust."""

from isthmus_kit.pki.certificates import (
    AUTHORITY_LIFETIME,
    CLOCK_SKEW,
    LEAF_LIFETIME,
    ROOT_LIFETIME,
    Authority,
    Subject,
    encode,
    issue_leaf,
    make_root,
    sign_authority,
)
from isthmus_kit.pki.checks import (
    check_authority,
    check_validity,
    decode_certificates,
    fingerprint,
    peer_of_certificate,
    spiffe_id_of,
)
from isthmus_kit.pki.identity import Identity, IdentitySource, Step, issue_identity, next_step, renewal_age
from isthmus_kit.pki.keys import (
    SigningKey,
    check_public_key,
    decode_key,
    encode_key,
    key_fingerprint,
    make_key,
    make_request,
    open_request,
)
from isthmus_kit.pki.token import JoinToken, read_token

__all__ = [
    "AUTHORITY_LIFETIME",
    "CLOCK_SKEW",
    "LEAF_LIFETIME",
    "ROOT_LIFETIME",
    "Authority",
    "Identity",
    "IdentitySource",
    "JoinToken",
    "SigningKey",
    "Step",
    "Subject",
    "check_authority",
    "check_public_key",
    "check_validity",
    "decode_certificates",
    "decode_key",
    "encode",
    "encode_key",
    "fingerprint",
    "issue_identity",
    "issue_leaf",
    "key_fingerprint",
    "make_key",
    "make_request",
    "make_root",
    "next_step",
    "open_request",
    "peer_of_certificate",
    "read_token",
    "renewal_age",
    "sign_authority",
    "spiffe_id_of",
]
