"""Name the keys of the registry, and read names back: `/isthmus/<federation>/v1/...`. Pure."""

from typing import Self

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.names import ClusterId, ServiceName, parse_cluster_id


class ClusterKey(msgspec.Struct, frozen=True):
    """`clusters/<id>`: a member, durable."""

    cluster: ClusterId


class TokenKey(msgspec.Struct, frozen=True):
    """`tokens/<id>`: a join token, its secret hashed."""

    id: str


class GatewayKey(msgspec.Struct, frozen=True):
    """`gateways/<cluster>/<gateway>`: the address of a gateway, durable."""

    cluster: ClusterId
    gateway: str


class SessionKey(msgspec.Struct, frozen=True):
    """`sessions/<cluster>/<gateway>`: a gateway is connected now; leased."""

    cluster: ClusterId
    gateway: str


class ExportKey(msgspec.Struct, frozen=True):
    """`exports/<ns>/<svc>/<cluster>`: what one cluster offers, durable."""

    service: ServiceName
    cluster: ClusterId


class EndpointsKey(msgspec.Struct, frozen=True):
    """`endpoints/<ns>/<svc>/<cluster>`: how much of it is alive there, durable."""

    service: ServiceName
    cluster: ClusterId


class PolicyKey(msgspec.Struct, frozen=True):
    """`policies/<kind>/<ns>/<name>`: a routing policy."""

    kind: str
    namespace: str
    name: str


class TrustKey(msgspec.Struct, frozen=True):
    """`trust/<name>`: roots, rotation, revocations; a name may have several parts."""

    name: str


class AuditKey(msgspec.Struct, frozen=True, order=True):
    """`audit/<n>`: one line of the audit chain; the number is padded, so that keys sort as numbers do."""

    number: int


class ElectionKey(msgspec.Struct, frozen=True):
    """`elections/<work>/<lease>`: a candidate for singleton work, or the fence of a writer; leased."""

    work: str
    lease: str


Key = (
    ClusterKey
    | TokenKey
    | GatewayKey
    | SessionKey
    | ExportKey
    | EndpointsKey
    | PolicyKey
    | TrustKey
    | AuditKey
    | ElectionKey
)

_FOLDERS: dict[type[Key], str] = {
    ClusterKey: "clusters",
    TokenKey: "tokens",
    GatewayKey: "gateways",
    SessionKey: "sessions",
    ExportKey: "exports",
    EndpointsKey: "endpoints",
    PolicyKey: "policies",
    TrustKey: "trust",
    AuditKey: "audit",
    ElectionKey: "elections",
}
_AUDIT_DIGITS = 19


class Keys(msgspec.Struct, frozen=True):
    """The keys of one federation: `Keys.of("fed.example")`."""

    root: str

    @classmethod
    def of(cls, federation: str) -> Self:
        """The layout below `/isthmus/<federation>/v1/`; raises InvalidInput for a name that would break the path."""
        return cls(f"/isthmus/{_part(federation, 'the federation')}/v1/")

    def prefix(self, kind: type[Key]) -> str:
        """Where all keys of a kind begin."""
        return f"{self.root}{_FOLDERS[kind]}/"

    def under(self, kind: type[Key], *parts: str) -> str:
        """Where the keys of a kind begin that share their first parts, for example all sessions of a cluster."""
        return self.prefix(kind) + "".join(f"{_part(part, 'a part')}/" for part in parts)

    def path(self, key: Key) -> str:
        """A key as it stands in etcd; raises InvalidInput when a part is empty or has a slash in it."""
        return self.prefix(type(key)) + "/".join(_parts(key))

    def parse(self, path: str) -> Key:
        """The key behind a path; raises InvalidInput for a path of another federation or layout."""
        folder, _, rest = path.removeprefix(self.root).partition("/")
        kind = next((kind for kind, name in _FOLDERS.items() if name == folder), None)
        if kind is None or not path.startswith(self.root):
            raise InvalidInput(f"registry key {path!r} is not known to this release")
        key = _key(kind, rest.split("/"))
        if key is None or self.path(key) != path:
            raise InvalidInput(f"registry key {path!r} does not have the shape of {folder}/")
        return key


def _parts(key: Key) -> tuple[str, ...]:
    parts: tuple[str, ...] = ()
    match key:
        case ClusterKey(cluster):
            parts = (cluster,)
        case TokenKey(id):
            parts = (id,)
        case GatewayKey(cluster, gateway) | SessionKey(cluster, gateway):
            parts = (cluster, gateway)
        case ExportKey(service, cluster) | EndpointsKey(service, cluster):
            parts = (service.namespace, service.name, cluster)
        case PolicyKey(kind, namespace, name):
            parts = (kind, namespace, name)
        case TrustKey(name):
            parts = tuple(name.split("/"))
        case AuditKey(number):
            if not 0 <= number < 10**_AUDIT_DIGITS:
                raise InvalidInput(f"audit number {number} is out of range")
            parts = (f"{number:0{_AUDIT_DIGITS}d}",)
        case ElectionKey(work, lease):
            parts = (work, lease)
    return tuple(_part(part, f"a part of a {_FOLDERS[type(key)]} key") for part in parts)


def _key(kind: type[Key], parts: list[str]) -> Key | None:
    match parts:
        case [id] if kind is ClusterKey:
            return ClusterKey(parse_cluster_id(id))
        case [id] if kind is TokenKey:
            return TokenKey(id)
        case [cluster, gateway] if kind is GatewayKey:
            return GatewayKey(parse_cluster_id(cluster), gateway)
        case [cluster, gateway] if kind is SessionKey:
            return SessionKey(parse_cluster_id(cluster), gateway)
        case [namespace, name, cluster] if kind is ExportKey:
            return ExportKey(ServiceName.of(namespace, name), parse_cluster_id(cluster))
        case [namespace, name, cluster] if kind is EndpointsKey:
            return EndpointsKey(ServiceName.of(namespace, name), parse_cluster_id(cluster))
        case [policy, namespace, name] if kind is PolicyKey:
            return PolicyKey(policy, namespace, name)
        case [_, *_] if kind is TrustKey:
            return TrustKey("/".join(parts))
        case [number] if kind is AuditKey and number.isascii() and number.isdigit():
            return AuditKey(int(number))
        case [work, lease] if kind is ElectionKey:
            return ElectionKey(work, lease)
    return None


def _part(part: str, what: str) -> str:
    if not part or "/" in part or not part.isprintable():
        raise InvalidInput(
            f"{what} is {part!r}, which cannot stand in a registry key", "Use letters, digits, '.', '-'."
        )
    return part
