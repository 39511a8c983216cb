"""A controller without etcd for the gateway's tests: real streams, real mutual TLS, its registry is a dictionary."""

import isthmus_kit.tls13  # isort: skip  # noqa: F401 - before gRPC

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc.aio
import msgspec

from isthmus_core.errors import Refused
from isthmus_core.merge import merge
from isthmus_core.model import Capacity, Cluster, ClusterState, Condition, Export, Gateway
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_core.spiffe import controller_id, controller_name, trust_domain_of
from isthmus_gateway.membership import Membership, write_membership
from isthmus_kit.pki import Identity, Subject, encode, encode_key, issue_identity, make_key, make_root, sign_authority
from isthmus_kit.pki.certificates import Authority
from isthmus_kit.tls import grpc_server_credentials, peer_of_grpc
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
    Caller,
    Publication,
    Publishing,
    ResourceCache,
    SubscriberStream,
    Subscribing,
    Update,
    codec,
    new_server,
    publisher_handler,
    subscriber_handler,
)
from isthmus_sync.proto import isthmus_pb2 as pb

DOMAIN = "fed.test"


class FakeController:
    """One federation: `join` writes a cluster's data directory, `serving` answers its gateways."""

    def __init__(self, address: str) -> None:
        self.address = address
        now = datetime.now(UTC)
        self._root = make_root("test root", now)
        self._identity = self._issue(DOMAIN, controller_name(DOMAIN), str(controller_id(DOMAIN)))
        self.clusters: dict[ClusterId, Cluster] = {}
        self.exports: dict[tuple[ServiceName, ClusterId], Export] = {}
        self.capacities: dict[tuple[ServiceName, ClusterId], Capacity] = {}
        self.refuse: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []
        """What gateways published: ("+" or "-" and the type, name)."""
        kinds = (CLUSTER, IMPORT, CAPACITY, EXPORT_STATUS, TRUST_BUNDLE)
        self.publication = Publication([ResourceCache(kind) for kind in kinds], order=FEDERATION)

    def _authority(self, domain: str, dns: str) -> Authority:
        key = make_key()
        return Authority(sign_authority(self._root, key.public_key(), domain, dns, datetime.now(UTC)), key)

    def _issue(self, domain: str, dns: str, uri: str) -> Identity:
        issuer = self._authority(domain, dns)
        subject = Subject("test", uri, (dns,))
        return issue_identity(issuer, encode(self._root.certificate), subject, datetime.now(UTC), timedelta(hours=1))

    def join(self, name: str, locality: str, folder: Path, *controllers: str) -> None:
        """Register a cluster and write what `isthmus cluster join` writes."""
        folder.mkdir(parents=True, exist_ok=True)
        domain = trust_domain_of(name, DOMAIN)
        authority = self._authority(domain, domain)
        (folder / "root.pem").write_bytes(encode(self._root.certificate))
        (folder / "ca.pem").write_bytes(encode(authority.certificate))
        (folder / "ca.key").write_bytes(encode_key(authority.key))
        member = Membership(
            id=ClusterId(name),
            federation="test",
            domain=DOMAIN,
            locality=Locality.parse(locality),
            network="",
            controllers=controllers or (self.address,),
        )
        write_membership(folder, member)
        self.clusters[member.id] = Cluster(member.id, member.locality, trust_domain=domain, registered_at_ms=1)
        self.publish()

    def change(self, cluster: str, state: ClusterState) -> None:
        """Drain or undrain a cluster."""
        known = self.clusters[ClusterId(cluster)]
        self.clusters[known.id] = msgspec.structs.replace(known, state=state)
        self.publish()

    def publish(self) -> None:
        """Tell all gateways what the registry says now."""
        wanted: dict[str, dict[str, bytes]] = {kind: {} for kind in self.publication.caches}
        for cluster in self.clusters.values():
            wanted[CLUSTER][cluster.id] = codec.cluster_message(cluster).SerializeToString(deterministic=True)
        for service in {service for service, _ in self.exports}:
            merged = merge(export for (name, _), export in self.exports.items() if name == service)
            wanted[IMPORT][str(service)] = codec.import_message(merged.service).SerializeToString(deterministic=True)
            status = codec.status_message(service, [Condition("Valid", True, "Valid"), merged.condition()])
            wanted[EXPORT_STATUS][str(service)] = status.SerializeToString(deterministic=True)
        for (service, owner), capacity in self.capacities.items():
            body = codec.capacity_message(capacity).SerializeToString(deterministic=True)
            wanted[CAPACITY][f"{service}/{owner}"] = body
        wanted[TRUST_BUNDLE]["roots"] = pb.TrustBundle(schema=1, federation_domain=DOMAIN).SerializeToString()
        with self.publication.change() as caches:
            for kind, bodies in wanted.items():
                for name, body in bodies.items():
                    caches[kind].put(name, body)
                for name in caches[kind].names() - bodies.keys():
                    caches[kind].remove(name)
                caches[kind].mark_synced()

    def gateways(self, cluster: str) -> tuple[Gateway, ...]:
        """The gateways that a cluster announced."""
        return self.clusters[ClusterId(cluster)].gateways

    def capacity(self, cluster: str, service: str) -> tuple[int, int] | None:
        """Ready and total, as that cluster's gateway published it."""
        held = self.capacities.get((ServiceName.parse(service), ClusterId(cluster)))
        return (held.ready, held.total) if held else None

    async def _commit(self, owner: ClusterId, update: Update) -> Mapping[str, str]:
        refused = {name: self.refuse[name] for name in update.changed if name in self.refuse}
        for name, changed in update.changed.items():
            self.log.append(("+" + update.type_url.rpartition(".")[2], name))
            if name in refused:
                continue
            if update.type_url == EXPORT:
                export = codec.export_value(pb.Export.FromString(changed.body))
                revision = self.exports.get((export.service, owner), export).first_revision or len(self.log)
                export = msgspec.structs.replace(export, first_revision=revision)
                self.exports[(export.service, owner)] = export
            elif update.type_url == CAPACITY:
                capacity = codec.capacity_value(pb.Capacity.FromString(changed.body))
                self.capacities[(capacity.service, owner)] = capacity
            else:
                gateway = codec.gateway_value(pb.Gateway.FromString(changed.body))
                self._set_gateways(owner, (*(g for g in self.gateways(owner) if g.id != name), gateway))
        for name in update.removed:
            self.log.append(("-" + update.type_url.rpartition(".")[2], name))
            if update.type_url == GATEWAY:
                self._set_gateways(owner, tuple(g for g in self.gateways(owner) if g.id != name))
            else:
                table = self.exports if update.type_url == EXPORT else self.capacities
                table.pop((ServiceName.parse(name), owner), None)
        self.publish()
        return refused

    def _set_gateways(self, owner: ClusterId, gateways: tuple[Gateway, ...]) -> None:
        known = self.clusters[owner]
        self.clusters[owner] = msgspec.structs.replace(known, gateways=gateways, session_held=bool(gateways))

    def _known(self, owner: ClusterId) -> dict[str, dict[str, str]]:
        return {
            EXPORT: {str(service): "" for service, cluster in self.exports if cluster == owner},
            CAPACITY: {str(service): "" for service, cluster in self.capacities if cluster == owner},
            GATEWAY: {gateway.id: "" for gateway in self.gateways(owner)},
        }

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeController"]:
        """Answer gateways while the block runs."""

        def identify(caller: Caller) -> ClusterId:
            peer = peer_of_grpc({"x509_pem_cert": [caller.certificate]}, DOMAIN)
            if peer.cluster is None:
                raise Refused("only gateways speak here")
            return peer.cluster

        @asynccontextmanager
        async def imports(_: ClusterId) -> AsyncIterator[Publishing]:
            yield Publishing(self.publication)

        @asynccontextmanager
        async def exports(owner: ClusterId) -> AsyncIterator[Subscribing]:
            async def apply(update: Update) -> Mapping[str, str]:
                return await self._commit(owner, update)

            wanted = {kind: {WILDCARD} for kind in (GATEWAY, EXPORT, CAPACITY)}
            yield Subscribing(SubscriberStream(wanted, self._known(owner)), apply)

        server: grpc.aio.Server = new_server(
            [
                publisher_handler(IMPORTS_METHOD, identify, imports),
                subscriber_handler(EXPORTS_METHOD, identify, exports),
            ]
        )
        server.add_secure_port(self.address, grpc_server_credentials(lambda: self._identity))
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)
            await asyncio.sleep(0)
