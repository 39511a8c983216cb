"""Follow what a publisher says: the subscribing side of a delta xDS stream, without I/O."""

from collections.abc import Collection, Iterable, Mapping

import msgspec
from envoy.config.core.v3.base_pb2 import Node
from google.rpc import code_pb2, status_pb2

from isthmus_core.errors import InvalidInput
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.typestream import WILDCARD
from isthmus_sync.wire import AHEAD, MORE, TELL_AHEAD, Request, Response

_REASON_LIMIT = 1024


class Changed(msgspec.Struct, frozen=True):
    """A resource as it came: its version and its serialised message."""

    version: str
    body: bytes


class Update(msgspec.Struct, frozen=True):
    """One response. `last` is False when more parts of the same answer follow."""

    type_url: str
    changed: Mapping[str, Changed]
    removed: frozenset[str]
    malformed: Mapping[str, str]  # name -> reason; resources that cannot even be handed on
    nonce: str
    last: bool
    ahead: bool = False
    """Told ahead of its turn: it comes again, and is not answered now."""


class SubscriberStream:
    """What is known of a publisher, across all streams to it: a new stream only brings what differs.

    `subscriptions`: type -> names, or {"*"} for all. `known`: type -> {name: version} from an earlier life (a snapshot,
    a registry); the version "" says that the name is known and its version is not. `ahead`: types of which a publisher
    may tell what has changed while its last response is not answered.
    """

    def __init__(
        self,
        subscriptions: Mapping[str, Collection[str]],
        known: Mapping[str, Mapping[str, str]] | None = None,
        ahead: Collection[str] = (),
    ) -> None:
        self._ahead = frozenset(ahead)
        self._names = {type_url: set(names) for type_url, names in subscriptions.items()}
        given = known or {}
        self._known = {type_url: dict(given.get(type_url, {})) for type_url in subscriptions}
        self._awaited = {type_url: set(names) for type_url, names in subscriptions.items()}

    def connect(self) -> list[Request]:
        """The first requests of a new stream."""
        for type_url, awaited in self._awaited.items():
            # A name that is told with its version is answered only if it differs, so nothing is awaited for it.
            awaited.difference_update(name for name, version in self._known[type_url].items() if version)
        return [
            Request(
                type_url=type_url,
                resource_names_subscribe=sorted(names),
                initial_resource_versions={n: v for n, v in self._known[type_url].items() if self._wanted(type_url, n)},
                node=Node(client_features=[TELL_AHEAD]) if type_url in self._ahead else None,
            )
            for type_url, names in self._names.items()
            if names
        ]

    def receive(self, response: Response) -> Update:
        """A response as a value; raises InvalidInput when the stream cannot go on with this peer."""
        type_url = response.type_url
        if type_url not in self._names:
            raise InvalidInput(f"the peer sent resources of type {type_url!r}, which nobody asked for")
        ahead = type_url in self._ahead and response.system_version_info == AHEAD
        if not response.nonce and not ahead:
            raise InvalidInput("the peer sent a discovery response without a nonce")
        changed: dict[str, Changed] = {}
        malformed: dict[str, str] = {}
        removed = frozenset(response.removed_resources)
        for resource in response.resources:
            name = resource.name
            if not name or name in changed or name in malformed or name in removed:
                raise InvalidInput(f"the peer named the resource {name!r} twice in one response, or not at all")
            if not self._wanted(type_url, name):
                continue  # xds_protocol: a client silently ignores resources that it did not ask for
            if resource.resource.type_url != type_url:
                malformed[name] = f"its type is {resource.resource.type_url!r}"
            else:
                changed[name] = Changed(resource.version, resource.resource.value)
        return Update(
            type_url, changed, removed, malformed, response.nonce, response.system_version_info != MORE, ahead
        )

    def answer(self, update: Update, errors: Mapping[str, str] | None = None) -> Request:
        """The ACK of an update that was applied, or the NACK that names the resources in `errors` (name -> reason)."""
        refused = {**update.malformed, **(errors or {})}
        known = self._known[update.type_url]
        for name, changed in update.changed.items():
            if name not in refused and self._wanted(update.type_url, name):
                known[name] = changed.version
        for name in update.removed:
            if name not in refused:
                known.pop(name, None)
        awaited = self._awaited[update.type_url]
        awaited.difference_update(update.changed, update.removed, update.malformed)
        if update.last:
            awaited.discard(WILDCARD)
        request = Request(type_url=update.type_url, response_nonce=update.nonce)
        if refused:
            request.error_detail.CopyFrom(_status(refused))
        return request

    def change(self, type_url: str, subscribe: Iterable[str] = (), unsubscribe: Iterable[str] = ()) -> Request:
        """Change a subscription on the running stream."""
        names, added, dropped = self._names[type_url], set(subscribe), set(unsubscribe)
        names -= dropped
        names |= added
        self._awaited[type_url] = (self._awaited[type_url] - dropped) | added
        for name in [name for name in self._known[type_url] if not self._wanted(type_url, name)]:
            del self._known[type_url][name]
        return Request(
            type_url=type_url,
            resource_names_subscribe=sorted(added),
            resource_names_unsubscribe=sorted(dropped - added),
        )

    def known(self, type_url: str) -> Mapping[str, str]:
        """Name -> version of everything that was accepted and not removed."""
        return self._known[type_url]

    def synced(self, type_url: str) -> bool:
        """Whether everything that was asked for has been told, and applied, at least once."""
        return not self._awaited[type_url]

    @property
    def all_synced(self) -> bool:
        """Whether every type is synced."""
        return not any(self._awaited.values())

    def _wanted(self, type_url: str, name: str) -> bool:
        names = self._names[type_url]
        return WILDCARD in names or name in names


def _status(refused: Mapping[str, str]) -> status_pb2.Status:
    name, reason = next(iter(refused.items()))
    more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=f"{name}: {reason[:_REASON_LIMIT]}{more}")
    for name, reason in refused.items():
        status.details.add().Pack(pb.ResourceError(name=name, reason=reason[:_REASON_LIMIT]))
    return status
