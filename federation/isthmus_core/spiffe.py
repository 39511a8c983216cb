"""SPIFFE ids, and who in a federation a SPIFFE id stands for.

    spiffe://<federation domain>/controller          a controller
    spiffe://<federation domain>/admin/<name>        an admin
    spiffe://<cluster>.<federation domain>/gateway   a gateway of that cluster

A cluster has a trust domain of its own because TLS stacks enforce name constraints on the host of a URI, never on its
path: a stolen cluster CA cannot speak for another cluster.
"""

import re
from enum import Enum
from typing import Self

import msgspec

from isthmus_core.errors import InvalidInput, Refused
from isthmus_core.names import ClusterId, parse_cluster_id

SCHEME = "spiffe://"
CONTROLLER_PATH = "/controller"
GATEWAY_PATH = "/gateway"
ADMIN_PREFIX = "/admin/"

# SPIFFE-ID, sections 2.1 and 2.2: the characters of both parts; section 2.3: at least 2048 bytes are accepted.
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+\Z")
_LONGEST_ID = 2048

_DOMAIN_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
# `<63 characters>.<domain>` must stay a DNS name (RFC 1035, section 2.3.4: 253 characters as text), and so must
# `controller.<domain>` and `gateway.<cluster>.<domain>`.
_LONGEST_DOMAIN = 253 - len("gateway.") - 64

# `controller.<domain>` is the DNS name of the controllers: a cluster of that name could serve under it.
RESERVED_CLUSTER_IDS = frozenset({"controller"})


class SpiffeId(msgspec.Struct, frozen=True, order=True):
    """A SPIFFE id in its parts; `path` is empty for the id of an authority, and begins with a slash otherwise."""

    trust_domain: str
    path: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}{self.path}"

    @classmethod
    def of(cls, trust_domain: str, *segments: str) -> Self:
        """An id from a trust domain and the segments of its path; raises InvalidInput."""
        if not _TRUST_DOMAIN.match(trust_domain):
            raise InvalidInput(
                f"trust domain {trust_domain!r} is not valid",
                "Use 1 to 255 lower-case letters, digits, dots, hyphens and underscores (SPIFFE-ID, section 2.1).",
            )
        for segment in segments:
            if not _SEGMENT.match(segment) or segment in (".", ".."):
                raise InvalidInput(
                    f"path segment {segment!r} of a SPIFFE id is not valid",
                    "Use letters, digits, dots, hyphens and underscores, not '.' or '..' (SPIFFE-ID, section 2.2).",
                )
        made = cls(trust_domain, "".join(f"/{segment}" for segment in segments))
        if len(str(made)) > _LONGEST_ID:
            raise InvalidInput(
                f"a SPIFFE id of {len(str(made))} bytes is too long", f"At most {_LONGEST_ID} are allowed."
            )
        return made

    @classmethod
    def parse(cls, text: str) -> Self:
        """The id in `text`; raises InvalidInput with the rule that it breaks."""
        if len(text) > _LONGEST_ID:
            raise InvalidInput(
                f"a SPIFFE id of {len(text)} characters is too long", f"At most {_LONGEST_ID} are allowed."
            )
        # The scheme of a URI is case-insensitive, and SPIFFE-ID section 2 keeps that; nothing else is folded here.
        if text[: len(SCHEME)].lower() != SCHEME:
            raise InvalidInput(f"{text!r} is not a SPIFFE id", "It begins with spiffe://.")
        trust_domain, slash, path = text[len(SCHEME) :].partition("/")
        return cls.of(trust_domain, *(path.split("/") if slash else ()))


class Role(Enum):
    """What a member of a federation may be."""

    CONTROLLER = "controller"
    ADMIN = "admin"
    GATEWAY = "gateway"


class Peer(msgspec.Struct, frozen=True):
    """Who stands at the other end of a verified connection."""

    id: SpiffeId
    role: Role
    cluster: ClusterId | None = None
    """The cluster of a gateway; None for controllers and admins."""
    admin: str | None = None
    """The name of an admin; None for everybody else."""

    @property
    def trust_domain(self) -> str:
        return self.id.trust_domain

    @property
    def path(self) -> str:
        return self.id.path


def identify(spiffe_id: SpiffeId, domain: str) -> Peer:
    """Who `spiffe_id` is in the federation `domain`; raises Refused for everybody who is no member of it."""
    if spiffe_id.trust_domain == domain:
        if spiffe_id.path == CONTROLLER_PATH:
            return Peer(spiffe_id, Role.CONTROLLER)
        name = spiffe_id.path.removeprefix(ADMIN_PREFIX)
        if name != spiffe_id.path and "/" not in name:
            return Peer(spiffe_id, Role.ADMIN, admin=name)
    elif spiffe_id.path == GATEWAY_PATH and (cluster := cluster_of(spiffe_id.trust_domain, domain)):
        return Peer(spiffe_id, Role.GATEWAY, cluster=cluster)
    raise Refused(f"{spiffe_id} is no member of the federation {domain}", "Connect with a certificate that it issued.")


def parse_domain(text: str) -> str:
    """The federation domain in `text`, lower case, without a final dot; raises InvalidInput when it is no DNS name."""
    domain = text.strip().lower().removesuffix(".")
    if "_" in domain:
        raise InvalidInput(
            f"federation domain {text!r} has an underscore",
            "TLS refuses names with underscores under a name constraint: use letters, digits, hyphens and dots.",
        )
    if not all(_DOMAIN_LABEL.match(label) for label in domain.split(".")) or domain.replace(".", "").isdigit():
        raise InvalidInput(f"federation domain {text!r} is not a DNS name", "Write it like fed.example.com.")
    if len(domain) > _LONGEST_DOMAIN:
        raise InvalidInput(
            f"federation domain {text!r} has {len(domain)} characters",
            f"Use at most {_LONGEST_DOMAIN}: cluster names go before it.",
        )
    return domain


def parse_member_id(text: str) -> ClusterId:
    """A cluster id that may become a member: a DNS label that is not reserved; raises InvalidInput."""
    cluster = parse_cluster_id(text)
    if cluster in RESERVED_CLUSTER_IDS:
        raise InvalidInput(f"cluster id {text!r} is reserved", "The controllers' own name uses it: choose another.")
    return cluster


def trust_domain_of(cluster: str, domain: str) -> str:
    """The trust domain of a cluster: `<cluster>.<federation domain>`."""
    return f"{cluster}.{domain}"


def cluster_of(trust_domain: str, domain: str) -> ClusterId | None:
    """The cluster whose trust domain this is, or None when it is of another federation."""
    label = trust_domain.removesuffix(f".{domain}")
    if label == trust_domain or not _DOMAIN_LABEL.match(label) or label in RESERVED_CLUSTER_IDS:
        return None
    return ClusterId(label)


def controller_name(domain: str) -> str:
    """The DNS name that every controller's certificate carries, whatever its address."""
    return f"controller.{domain}"


def gateway_name(cluster: str, domain: str) -> str:
    """The DNS name that the certificates of a cluster's gateways carry."""
    return f"gateway.{trust_domain_of(cluster, domain)}"


def controller_id(domain: str) -> SpiffeId:
    """The SPIFFE id of the controllers."""
    return SpiffeId.of(domain, "controller")


def admin_id(name: str, domain: str) -> SpiffeId:
    """The SPIFFE id of an admin; raises InvalidInput when the name is no path segment."""
    return SpiffeId.of(domain, "admin", name)


def gateway_id(cluster: str, domain: str) -> SpiffeId:
    """The SPIFFE id of a cluster's gateways."""
    return SpiffeId.of(trust_domain_of(cluster, domain), "gateway")
