"""A gateway's own leaf, issued by its cluster's CA on this machine: the controller may be gone for days."""

import random
from datetime import datetime, timedelta
from pathlib import Path

from isthmus_core.errors import InvalidInput
from isthmus_core.spiffe import gateway_id, gateway_name, trust_domain_of
from isthmus_gateway.membership import Membership, read_membership
from isthmus_kit.files import read_file
from isthmus_kit.pki import (
    LEAF_LIFETIME,
    Authority,
    Identity,
    IdentitySource,
    Subject,
    check_authority,
    decode_certificates,
    decode_key,
    issue_identity,
)

JOIN_AGAIN = "Join again with a new token: isthmus cluster join."


def issue_gateway_identity(folder: Path, now: datetime, lifetime: timedelta = LEAF_LIFETIME) -> Identity:
    """A fresh leaf of the cluster whose files are in `folder`; raises InvalidInput when a file cannot be used.

    `spiffe://<cluster>.<domain>/gateway`, DNS name `gateway.<cluster>.<domain>`, for both ends of a connection.
    """
    return issue_from(read_membership(folder), read_authority(folder, now), read_roots(folder), now, lifetime)


def issue_from(
    member: Membership, authority: Authority, roots: bytes, now: datetime, lifetime: timedelta = LEAF_LIFETIME
) -> Identity:
    """A fresh leaf of `member` from its authority; raises InvalidInput when the authority has expired."""
    uri = str(gateway_id(member.id, member.domain))
    subject = Subject("Isthmus gateway", uri, (gateway_name(member.id, member.domain),))
    return issue_identity(authority, roots, subject, now, lifetime)


def read_roots(folder: Path) -> bytes:
    """The trusted roots (PEM) of a joined cluster."""
    return read_file(folder / "root.pem", "the federation's root certificate", JOIN_AGAIN)


def read_authority(folder: Path, now: datetime) -> Authority:
    """The CA of a joined cluster; raises InvalidInput, or Refused when its files do not belong together."""
    member = read_membership(folder)
    certificate = decode_certificates(
        read_file(folder / "ca.pem", "the cluster's CA certificate", JOIN_AGAIN), f"{folder / 'ca.pem'}"
    )[0]
    key = decode_key(read_file(folder / "ca.key", "the cluster's CA key", JOIN_AGAIN), f"{folder / 'ca.key'}")
    if now >= certificate.not_valid_after_utc:
        raise InvalidInput(
            f"the CA of cluster {member.id} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", JOIN_AGAIN
        )
    root = decode_certificates(read_roots(folder), f"{folder / 'root.pem'}")[0]
    check_authority(certificate, root, key.public_key(), trust_domain_of(member.id, member.domain), now)
    return Authority(certificate, key)


def gateway_identity_source(folder: Path) -> IdentitySource:
    """The identity of this gateway: `.latest` is a Latest[Identity]; `run()` renews it at half of its life, for ever.

    The files are read anew for every leaf, so that joining again takes effect without a restart.
    """
    return IdentitySource(lambda now: issue_gateway_identity(folder, now), random.random)
