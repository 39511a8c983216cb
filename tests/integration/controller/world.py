"""Controllers that really run, and gateways that say what a test tells them, over real mutual TLS."""

import asyncio
import http.client
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import isthmus_kit.tls13  # noqa: F401 - before gRPC
from isthmus_controller.controller import run_controller
from isthmus_controller.settings import Addresses, ControllerSettings, EtcdSettings, Listen
from isthmus_controller.trust import NewFederation, init_federation
from isthmus_core.model import AppProtocol, Capacity, Export, Gateway, ServicePort, ServiceType, ZoneCapacity
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_core.spiffe import controller_name
from isthmus_gateway.identity import issue_gateway_identity
from isthmus_gateway.join import join
from isthmus_kit.latest import Latest
from isthmus_kit.pki import Identity
from isthmus_kit.tasks import own_tasks
from isthmus_kit.tls import grpc_client_credentials, grpc_server_name
from isthmus_sync import (
    CAPACITY,
    CLUSTER,
    EXPORT,
    EXPORT_STATUS,
    EXPORTS_METHOD,
    FEDERATION,
    GATEWAY,
    IMPORT,
    IMPORTS_METHOD,
    TRUST_BUNDLE,
    WILDCARD,
    Acked,
    Nacked,
    Publication,
    Publishing,
    ResourceCache,
    SubscriberStream,
    Subscribing,
    Update,
    codec,
    open_channel,
    publish,
    subscribe,
)
from support.waiting import eventually

HOST = "127.52.0.1"
soon = partial(eventually, within=20.0)
"""Everything here happens within milliseconds, but not beside somebody who keeps all processors busy."""
ECHO = ServiceName("shop", "echo")
ZONE = Locality("aws", "eu-west-1", "a")
HTTP = ServicePort("http", 80, app_protocol=AppProtocol.HTTP)


def make_federation(folder: Path, domain: str) -> NewFederation:
    """A federation in `folder`."""
    return init_federation(folder, "test", domain, "tester")


def settings(federation: NewFederation, etcd: str | EtcdSettings | None, **changes: Any) -> ControllerSettings:
    """A replica on ports that the system chooses; `etcd` is HOST:PORT or all about it, None for an embedded one."""
    return ControllerSettings(
        **{
            "data_dir": federation.folder,
            "grpc": Listen(HOST, 0),
            "admin": Listen(HOST, 0),
            "etcd": EtcdSettings((f"http://{etcd}",)) if isinstance(etcd, str) else etcd,
            **changes,
        }
    )


class Admin:
    """A client of the admin API."""

    def __init__(self, federation: NewFederation, address: str, certificate: tuple[Path, Path] | None = None) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._name = controller_name(federation.domain)
        self._context = ssl.create_default_context(cafile=str(federation.root_certificate))
        files = certificate or (federation.admin_certificate, federation.admin_key)
        if files != ANONYMOUS:
            self._context.load_cert_chain(*files)

    def call(self, method: str, path: str, body: object = None, raw: bytes | None = None) -> tuple[int, Any]:
        """Status and decoded answer; blocks."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=10, context=self._context)
        plain = connection._create_connection((self._host, self._port), 10)  # type: ignore[attr-defined]
        connection.sock = self._context.wrap_socket(plain, server_hostname=self._name)
        try:
            payload = raw if raw is not None else json.dumps(body) if body is not None else None
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(text) if is_json else text.decode()
        finally:
            connection.close()

    async def ask(self, method: str, path: str, body: object = None, raw: bytes | None = None) -> tuple[int, Any]:
        """The same without blocking the loop."""
        return await asyncio.to_thread(self.call, method, path, body, raw)

    async def get(self, path: str) -> Any:
        """The answer of a request that must succeed."""
        status, answer = await self.ask("GET", path)
        assert status == 200, answer
        return answer


ANONYMOUS = (Path("/nowhere"), Path("/nowhere"))


@asynccontextmanager
async def controller(
    federation: NewFederation, etcd: str | EtcdSettings | None, **changes: Any
) -> AsyncIterator[Addresses]:
    """A replica in this process that runs as long as the block."""
    stop = asyncio.Event()
    ready: Latest[Addresses] = Latest()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_controller(settings(federation, etcd, **changes), stop, ready.publish), name="controller")
        try:
            yield await ready.wait(timeout=20)
        finally:
            stop.set()


async def enrol(
    federation: NewFederation, admin: str, cluster: str, folder: Path, locality: Locality = ZONE
) -> Identity:
    """Register and join a cluster; gives the identity of its gateways."""
    status, token = await Admin(federation, admin).ask(
        "POST", "/v1/tokens", {"cluster": cluster, "locality": str(ZONE)}
    )
    assert status == 201, token
    await asyncio.to_thread(join, token["token"], folder)
    return issue_gateway_identity(folder, datetime.now(UTC))


@dataclass
class FakeGateway:
    """The two streams of a gateway, without an Envoy behind them."""

    cluster: ClusterId
    domain: str
    identity: Identity
    controllers: list[str]
    id: str = "g1"
    offers: Publication = field(
        default_factory=lambda: Publication(
            [ResourceCache(GATEWAY), ResourceCache(EXPORT), ResourceCache(CAPACITY)], order=FEDERATION
        )
    )
    known: dict[str, dict[str, bytes]] = field(default_factory=dict)
    acked: list[Acked] = field(default_factory=list)
    nacked: list[Nacked] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeGateway"]:
        """Connected as long as the block runs."""
        types = (TRUST_BUNDLE, CLUSTER, IMPORT, CAPACITY, EXPORT_STATUS)
        stream = SubscriberStream({type_url: {WILDCARD} for type_url in types})
        self.stream = stream
        publishing = Publishing(
            self.offers, on_acked=self.acked.append, on_nacked=self.nacked.append, on_disconnected=self.ended.append
        )
        async with own_tasks() as owner:
            owner.start("imports", subscribe(self._dial, IMPORTS_METHOD, Subscribing(stream, self._apply)))
            owner.start("exports", publish(self._dial, EXPORTS_METHOD, publishing))
            yield self

    def introduce(self) -> None:
        """Publish the gateway itself, and say that everything it has is published."""
        message = codec.gateway_message(Gateway(self.id, self.cluster, "127.52.9.9", 15443))
        with self.offers.change() as caches:
            caches[GATEWAY].put(self.id, codec_bytes(message))
            for cache in caches.values():
                cache.mark_synced()

    def leave(self) -> None:
        """Take leave in order."""
        with self.offers.change() as caches:
            caches[GATEWAY].remove(self.id)

    def export(self, service: ServiceName = ECHO, ready: int = 2, port: ServicePort = HTTP) -> None:
        """Offer a service."""
        export = Export(service, self.cluster, ServiceType.CLUSTER_SET_IP, (port,))
        with self.offers.change() as caches:
            caches[EXPORT].put(str(service), codec_bytes(codec.export_message(export)))
        self.capacity(service, ready)

    def capacity(self, service: ServiceName = ECHO, ready: int = 2) -> None:
        """Say how much of it is alive, of two."""
        capacity = Capacity(service, self.cluster, (ZoneCapacity(ZONE, ready, 2),))
        with self.offers.change() as caches:
            caches[CAPACITY].put(str(service), codec_bytes(codec.capacity_message(capacity)))

    def unexport(self, service: ServiceName = ECHO) -> None:
        """Withdraw a service."""
        with self.offers.change() as caches:
            caches[EXPORT].remove(str(service))
            caches[CAPACITY].remove(str(service))

    def names(self, type_url: str) -> set[str]:
        """What the controller has told of a type."""
        return set(self.known.get(type_url, {}))

    def body(self, type_url: str, name: str) -> bytes:
        """One resource that the controller has told."""
        return self.known[type_url][name]

    def _dial(self, attempt: int) -> Any:
        options = grpc_server_name(controller_name(self.domain))
        address = self.controllers[attempt % len(self.controllers)]
        return open_channel(address, grpc_client_credentials(self.identity), options)

    async def _apply(self, update: Update) -> Mapping[str, str]:
        self.updates.append(update)
        held = self.known.setdefault(update.type_url, {})
        held.update({name: changed.body for name, changed in update.changed.items()})
        for name in update.removed:
            held.pop(name, None)
        return {}


def codec_bytes(message: Any) -> bytes:
    """A message, the same bytes each time."""
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded
