"""Names and ids, parsed once at the border: cluster ids, service names, localities."""

import re
from collections.abc import Sequence
from typing import NewType, Self

import msgspec

from isthmus_core.errors import InvalidInput

ClusterId = NewType("ClusterId", str)
"""A lower-case DNS label, at most 63 characters, immutable while the cluster is a member (KEP-2149)."""

CLUSTERSET_ZONE = "clusterset.local"

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_SERVICE_LABEL = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_LOCALITY_PART = re.compile(r"[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?\Z")
# A port name is an IANA service name (RFC 6335, section 5.1): at most 15 characters and at least one letter.
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:(?!--)[-a-z0-9]{0,13}[a-z0-9])?\Z")


def parse_cluster_id(text: str) -> ClusterId:
    """The cluster id in `text`; raises InvalidInput when it is no lower-case DNS label (RFC 1123)."""
    if not _LABEL.match(text):
        raise InvalidInput(
            f"cluster id {text!r} is not a DNS label",
            "Use 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
        )
    return ClusterId(text)


def parse_port_name(text: str) -> str:
    """The port name in `text` (RFC 6335); an empty name is allowed where a service has a single port."""
    if text and not _PORT_NAME.match(text):
        raise InvalidInput(
            f"port name {text!r} is not valid",
            "Use 1 to 15 lower-case letters, digits and hyphens with at least one letter, for example 'http'.",
        )
    return text


class ServiceName(msgspec.Struct, frozen=True, order=True):
    """A namespaced service, the same in every cluster (namespace sameness, KEP-1645)."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def host(self, zone: str = CLUSTERSET_ZONE) -> str:
        """The DNS name of the service, without the final dot: `<svc>.<ns>.svc.<zone>`."""
        return f"{self.name}.{self.namespace}.svc.{zone}"

    def authority(self, port: int) -> str:
        """The CONNECT authority that stands for one port of this service inside a tunnel."""
        return f"{self.host()}:{port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`<namespace>/<service>` as a value; raises InvalidInput."""
        namespace, slash, name = text.partition("/")
        if not slash:
            raise InvalidInput(
                f"service {text!r} has no namespace", "Write it as <namespace>/<service>, such as shop/echo."
            )
        return cls.of(namespace, name)

    @classmethod
    def of(cls, namespace: str, name: str) -> Self:
        """A service name from its parts; raises InvalidInput when one is no DNS label."""
        if not _LABEL.match(namespace):
            raise InvalidInput(
                f"namespace {namespace!r} is not a DNS label", "Use lower-case letters, digits and hyphens."
            )
        if not _SERVICE_LABEL.match(name):
            raise InvalidInput(
                f"service name {name!r} is not a DNS label",
                "Use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter (RFC 1035).",
            )
        return cls(namespace, name)


class Locality(msgspec.Struct, frozen=True, order=True):
    """Where something runs: provider / region / zone, in Envoy's and Kubernetes' topology words."""

    provider: str
    region: str
    zone: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.region}/{self.zone}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`provider/region/zone` as a value; raises InvalidInput."""
        parts = text.split("/")
        if len(parts) != 3 or not all(parts):
            raise InvalidInput(
                f"locality {text!r} is not provider/region/zone",
                "Give all three parts, for example aws/eu-west-1/a or onprem/berlin/rack-7.",
            )
        for part in parts:
            if not _LOCALITY_PART.match(part):
                raise InvalidInput(
                    f"locality {text!r} has a part {part!r} that is no name",
                    "Use at most 63 letters, digits, '.', '_' and '-' for each, with a letter or digit at both ends.",
                )
        return cls(*parts)


def few(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
