"""Change who is a member: register, enrol, drain, remove; a crash leaves each of them done or not begun."""

import asyncio
import difflib
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from isthmus_controller.admin.errors import NotFound, Taken
from isthmus_controller.registry.records import RecordKey, encode
from isthmus_controller.store import (
    ClusterKey,
    Delete,
    EtcdClient,
    KeyValue,
    OutcomeUnknown,
    Put,
    TokenKey,
    absent,
    decode,
    present,
    unchanged,
)
from isthmus_controller.store.values import Write
from isthmus_controller.trust import (
    TrustAuthority,
    certificate_fingerprint,
    check_token,
    consume_token,
    enrolled_key,
    issue_token,
    token_id,
)
from isthmus_controller.view import View
from isthmus_core.errors import InvalidInput, Refused, Unavailable
from isthmus_core.model import Cluster, ClusterState
from isthmus_core.names import ClusterId, Locality, parse_cluster_id
from isthmus_core.spiffe import parse_member_id, trust_domain_of
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb

log = logging.getLogger(__name__)

_NETWORK = re.compile(r"[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?\Z")
_TRIES = 5


class IssuedToken(msgspec.Struct, frozen=True):
    """A join token in clear, once, and what was stored of it."""

    text: str
    id: str
    cluster: ClusterId
    locality: Locality
    network: str
    expires_at_ms: int

    def __repr__(self) -> str:
        return f"IssuedToken(id={self.id}, cluster={self.cluster})"


class Enrolment(msgspec.Struct, frozen=True):
    """A cluster that is a member now, with its CA certificate (PEM)."""

    cluster: Cluster
    ca_certificate: bytes


class Removal(msgspec.Struct, frozen=True):
    """What went with a cluster."""

    exports: int
    keys: int


class Members:
    """Changes of membership, on any replica; etcd decides between two that come at once."""

    def __init__(
        self,
        client: EtcdClient,
        view: View,
        trust: TrustAuthority,
        controllers: Callable[[], Sequence[str]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`controllers` gives the HOST:PORT of the admin API that go into tokens."""
        self._client = client
        self._view = view
        self._keys = view.keys
        self._trust = trust
        self._controllers = controllers
        self._now = now

    async def register(self, cluster: str, locality: str, network: str, ttl: timedelta) -> IssuedToken:
        """A one-time token with which `cluster` can join; an older one that was not used is void from now on."""
        name = parse_member_id(cluster)
        place = Locality.parse(locality)
        if network and not _NETWORK.match(network):
            raise InvalidInput(f"network {network!r} is not a name", "Use letters, digits, '.', '_' and '-'.")
        text, record = issue_token(
            name,
            place,
            network,
            ttl,
            self._trust.root_fingerprint,
            self._controllers(),
            self._now(),
            os.urandom,
            self._trust.domain,
        )
        if any(key.cluster == name for key in self._view.registry.orphans()):
            raise Unavailable(f"cluster {name} is still being removed", "Try again in a second.")
        operations: list[Write] = [Put(self._token(record.id), encode(record)), *await self._old_tokens(name)]
        result = await self._client.txn([absent(self._cluster(name))], operations)
        if not result.succeeded:
            raise self._taken(name)
        await self._view.reached(result.revision)
        return IssuedToken(text, record.id, name, place, network, record.expires_at_ms)

    async def enrol(self, token: str, csr: bytes) -> Enrolment:
        """Make the cluster of a token a member. Asking again with the same key is answered again (after a crash)."""
        key = self._token(token_id(token))
        for _ in range(_TRIES):
            stored = await self._client.get(key)
            record = decode(pb.JoinToken, stored.value, key) if stored else None
            checked = check_token(token, record, self._now(), csr)
            assert stored is not None and record is not None
            certificate = await asyncio.to_thread(self._trust.sign_cluster_ca, checked.cluster, csr)
            try:
                enrolled = await self._enrol_again(record, stored, certificate) if enrolled_key(record) else None
                enrolled = enrolled or await self._enrol_first(record, stored, certificate, csr)
            except OutcomeUnknown:
                continue  # read again what became of it: the same key may ask twice
            if enrolled is not None:
                log.info("cluster joined", extra={"cluster": enrolled.cluster.id, "token": record.id})
                return enrolled
        raise Unavailable("the registry changed while the cluster joined", "Try again.")

    async def set_state(self, cluster: str, state: ClusterState) -> Cluster:
        """Drain a cluster or take it back."""

        def with_state(message: pb.Cluster) -> None:
            message.state = pb.Cluster.DRAINING if state is ClusterState.DRAINING else pb.Cluster.ACTIVE

        name = parse_cluster_id(cluster)
        key = self._cluster(name)
        for _ in range(_TRIES):
            stored = await self._client.get(key)
            if stored is None:
                raise self.unknown(name)
            message = decode(pb.Cluster, stored.value, key)
            with_state(message)
            result = await self._client.txn([unchanged(key, stored.mod_revision)], [Put(key, encode(message))])
            if result.succeeded:
                await self._view.reached(result.revision)
                return codec.cluster_value(message)
        raise Unavailable(f"cluster {name} changed at the same time", "Try again.")

    async def remove(self, cluster: str) -> Removal:
        """Take a cluster out: first its membership, which ends its streams, then all that it offered."""
        name = parse_cluster_id(cluster)
        key = self._cluster(name)
        exports = sum(1 for export in self._view.registry.exports() if export.cluster == name)
        # The token goes with the membership, or it would let the same cluster in again.
        result = await self._client.txn([present(key)], [Delete(key), *await self._old_tokens(name)])
        if not result.succeeded:
            raise self.unknown(name)
        # From that revision on no transaction can write for this cluster, so the view at it has everything there is.
        await self._view.reached(result.revision)
        left = [k for k in self._view.registry.orphans() if k.cluster == name]
        done = await self.sweep(left)
        log.info("cluster removed", extra={"cluster": name, "keys": done + 1})
        return Removal(exports, done + 1)

    async def sweep(self, orphans: Sequence[RecordKey]) -> int:
        """Delete what removed clusters left behind; how many keys. A cluster that came back keeps its keys."""
        done = 0
        for cluster in sorted({key.cluster for key in orphans}):
            deletions = [Delete(self._keys.path(key)) for key in orphans if key.cluster == cluster]
            written = await self._client.write_all(deletions, [absent(self._cluster(cluster))])
            done += written.done
            await self._view.reached(written.revision)
        return done

    def unknown(self, cluster: ClusterId) -> NotFound:
        """There is no such member; names the nearest one."""
        known = sorted(self._view.registry.clusters)
        near = difflib.get_close_matches(cluster, known, n=1)
        there = f"There are: {', '.join(known[:20])}." if known else "No cluster has joined yet."
        return NotFound(f"there is no cluster {cluster!r}", f"Did you mean {near[0]!r}?" if near else there)

    async def _enrol_first(
        self, record: pb.JoinToken, stored: KeyValue, certificate: bytes, csr: bytes
    ) -> Enrolment | None:
        """Register the cluster and use up its token in one transaction; None when somebody else was faster."""
        member = self._member(record, certificate)
        key = self._cluster(member.id)
        result = await self._client.txn(
            [unchanged(stored.key, stored.mod_revision), absent(key)],
            [Put(stored.key, encode(consume_token(record, csr))), Put(key, encode(stored_cluster(member)))],
        )
        if result.succeeded:
            await self._view.reached(result.revision)
            return Enrolment(member, certificate)
        if await self._client.get(key) is not None and not enrolled_key(record):
            again = await self._client.get(stored.key)
            if again is None or again.mod_revision == stored.mod_revision:
                raise self._taken(member.id)
        return None

    async def _enrol_again(self, record: pb.JoinToken, stored: KeyValue, certificate: bytes) -> Enrolment | None:
        """The same key asks again: a fresh certificate for the member that it already is."""
        key = self._cluster(parse_cluster_id(record.cluster))
        member = await self._client.get(key)
        if member is None:
            raise Refused(
                f"the join token for {record.cluster} was used already, and the cluster was removed since",
                "Make a new one with 'isthmus cluster register'.",
            )
        message = decode(pb.Cluster, member.value, key)
        message.certificate_fingerprint = certificate_fingerprint(certificate)
        when = [unchanged(key, member.mod_revision), unchanged(stored.key, stored.mod_revision)]
        result = await self._client.txn(when, [Put(key, encode(message))])
        return Enrolment(codec.cluster_value(message), certificate) if result.succeeded else None

    def _member(self, record: pb.JoinToken, certificate: bytes) -> Cluster:
        cluster = parse_member_id(record.cluster)
        return Cluster(
            id=cluster,
            locality=codec.locality_value(record.locality),
            network=record.network,
            trust_domain=trust_domain_of(cluster, self._trust.domain),
            registered_at_ms=round(time.time() * 1000),
            certificate_fingerprint=certificate_fingerprint(certificate),
        )

    async def _old_tokens(self, cluster: ClusterId) -> list[Delete]:
        found = await self._client.range(self._keys.prefix(TokenKey))
        tokens = ((item.key, pb.JoinToken.FromString(item.value)) for item in found.items)
        return [Delete(key) for key, token in tokens if token.cluster == cluster][:90]

    def _taken(self, cluster: ClusterId) -> Taken:
        return Taken(
            f"cluster id {cluster!r} is taken: a cluster of that name is a member",
            f"Choose another id, or remove the other first with 'isthmus cluster remove {cluster}'.",
        )

    def _cluster(self, cluster: ClusterId) -> str:
        return self._keys.path(ClusterKey(cluster))

    def _token(self, token: str) -> str:
        return self._keys.path(TokenKey(token))


def stored_cluster(cluster: Cluster) -> pb.Cluster:
    """A cluster as it stands in etcd: its gateways and its session have keys of their own."""
    message = codec.cluster_message(cluster)
    message.ClearField("gateways")
    message.ClearField("session")
    return message
