"""Write protocol tests as playbooks: what the peer says, and what it is answered."""

from collections.abc import Iterable, Mapping

from google.rpc import status_pb2

from isthmus_sync import Acked, Nacked, Order, PublisherStream, ResourceCache, Unserved
from isthmus_sync.proto import isthmus_pb2 as pb
from isthmus_sync.wire import MORE, Request, Response

RED, GREEN = "type/red", "type/green"
ORDER = Order(additions=(RED, GREEN), removals=(GREEN, RED))


class Play:
    """A publisher of two types, and a peer whose lines the test speaks."""

    def __init__(
        self, order: Order = ORDER, types: Iterable[str] = (RED, GREEN), *, limit: int = 1 << 20, synced: bool = True
    ) -> None:
        self.caches = {type_url: ResourceCache(type_url) for type_url in types}
        self.order, self.limit = order, limit
        if synced:
            self.sync()
        self.reconnect()

    def sync(self) -> None:
        for cache in self.caches.values():
            cache.mark_synced()

    def reconnect(self) -> None:
        self.stream = PublisherStream(self.caches, self.order, limit=self.limit)

    def put(self, type_url: str = RED, **bodies: str) -> None:
        for name, body in bodies.items():
            self.caches[type_url].put(name, body.encode(), version=body)

    def remove(self, *names: str, type_url: str = RED) -> None:
        for name in names:
            self.caches[type_url].remove(name)

    def says(
        self,
        type_url: str = RED,
        *,
        subscribe: Iterable[str] = (),
        unsubscribe: Iterable[str] = (),
        has: Mapping[str, str] | None = None,
        nonce: str = "",
    ) -> Acked | Nacked | Unserved | None:
        return self.stream.receive(
            Request(
                type_url=type_url,
                resource_names_subscribe=list(subscribe),
                resource_names_unsubscribe=list(unsubscribe),
                initial_resource_versions=has or {},
                response_nonce=nonce,
            )
        )

    def acks(self, response: Response) -> Acked | Nacked | Unserved | None:
        return self.says(response.type_url, nonce=response.nonce)

    def nacks(self, response: Response, message: str = "no", **reasons: str) -> Nacked:
        status = status_pb2.Status(code=3, message=message)
        for name, reason in reasons.items():
            status.details.add().Pack(pb.ResourceError(name=name, reason=reason))
        outcome = self.stream.receive(
            Request(type_url=response.type_url, response_nonce=response.nonce, error_detail=status)
        )
        assert isinstance(outcome, Nacked)
        return outcome

    def hears(self) -> list[Response]:
        return [Response.FromString(payload) for payload in self.stream.next()]

    def hears_one(self) -> Response:
        (response,) = self.hears()
        return response

    def hears_nothing(self) -> bool:
        return not self.hears()


def told(response: Response) -> dict[str, str]:
    """Name -> version of what a response brings."""
    return {resource.name: resource.version for resource in response.resources}


def gone(response: Response) -> set[str]:
    """What a response takes away."""
    return set(response.removed_resources)


def is_part(response: Response) -> bool:
    """Whether more of the same answer follows."""
    return response.system_version_info == MORE


def connected(play: Play, *types: str) -> None:
    """Subscribe to everything and acknowledge it."""
    for type_url in types or (RED,):
        play.says(type_url, subscribe=["*"])
    for response in play.hears():
        play.acks(response)
