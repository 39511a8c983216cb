"""Answer the routes of the admin API from the registry, and pass changes on to the members."""

import asyncio
import difflib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec

from isthmus_controller.admin import values as v
from isthmus_controller.admin import views
from isthmus_controller.admin.errors import NotFound
from isthmus_controller.admin.routes import Ask, Query, Route
from isthmus_controller.candidates import Candidate
from isthmus_controller.members import Members
from isthmus_controller.trust import TrustAuthority
from isthmus_controller.view import View
from isthmus_core.errors import InvalidInput, Unavailable
from isthmus_core.merge import Merged
from isthmus_core.model import Cluster, ClusterState
from isthmus_core.names import ServiceName, parse_cluster_id
from isthmus_kit.readiness import Readiness

LONGEST_WAIT = 60.0
"""Seconds that a request for news may wait."""


class AdminApi:
    """All handlers; each takes a request as a value and gives a value."""

    def __init__(
        self,
        view: View,
        members: Members,
        trust: TrustAuthority,
        readiness: Readiness,
        etcd: Callable[[], Sequence[v.EtcdView]],
        replicas: Callable[[], Sequence[Candidate]],
        own: Candidate,
        gateways_dial: Callable[[], Sequence[str]],
    ) -> None:
        """`gateways_dial` gives the HOST:PORT of the controllers' gRPC, for clusters that join."""
        self._view = view
        self._registry = view.registry
        self._members = members
        self._trust = trust
        self._readiness = readiness
        self._etcd = etcd
        self._replicas = replicas
        self._own = own
        self._gateways_dial = gateways_dial

    def routes(self) -> tuple[Route, ...]:
        """Every route, with its types."""
        here = Query("from", "The id of the cluster whose traffic is meant.", required=True)
        of_service = Query("service", "Only this service, as <namespace>/<service>.")
        wait = Query("wait", "Answer when the revision is larger than this one, or when the time is over.")
        timeout = Query("timeout", f"Seconds to wait at most; 30 unless given, at most {LONGEST_WAIT:g}.")
        cluster, service = "/v1/clusters/{id}", "/v1/services/{namespace}/{name}"
        explain = "/v1/explain/{namespace}/{name}"
        token = "Register a cluster: reserve its id with a one-time join token"
        return (
            Route("GET", "/v1/root", "The federation's root certificates", self.root, v.Root, open=True),
            Route("POST", "/v1/enrol", "Join with a token", self.enrol, v.Enrolled, v.EnrolRequest, open=True),
            Route("POST", "/v1/tokens", token, self.register, v.Token, v.NewToken, status=201),
            Route("POST", "/v1/clusters", token, self.register, v.Token, v.NewToken, status=201),
            Route("GET", "/v1/clusters", "All members", self.clusters, v.Clusters),
            Route("GET", cluster, "One member with its exports", self.cluster, v.ClusterView),
            Route("DELETE", cluster, "Remove a member with all that it offers", self.remove, v.Removed),
            Route("POST", cluster + "/drain", "Send it no new traffic", self.drain, v.Drained),
            Route("POST", cluster + "/undrain", "Let traffic go there again", self.undrain, v.ClusterView),
            Route("GET", "/v1/services", "All services", self.services, v.Services),
            Route("GET", service, "One service", self.service, v.ServiceView),
            Route("GET", "/v1/endpoints", "What is alive, by place", self.endpoints, v.Endpoints, query=(of_service,)),
            Route("GET", "/v1/exports", "All exports with their conditions", self.exports, v.Exports),
            Route(
                "GET", explain, "Where traffic of a cluster goes, and why", self.explain, v.Explanation, query=(here,)
            ),
            Route("GET", "/v1/status", "The federation at a glance", self.status, v.Status, query=(wait, timeout)),
        )

    async def root(self, _: Ask) -> v.Root:
        """Open: what a cluster needs before it can trust anybody; it checks the fingerprint in its token."""
        trust = self._trust
        return v.Root(trust.root_pem.decode(), [trust.root_fingerprint], trust.name, trust.domain)

    async def enrol(self, ask: Ask) -> v.Enrolled:
        """Open: the token is the proof."""
        assert isinstance(ask.body, v.EnrolRequest)
        self._require_synced()
        enrolled = await self._members.enrol(ask.body.token, ask.body.csr.encode())
        return v.Enrolled(
            ca_certificate=enrolled.ca_certificate.decode(),
            root_certificates=self._trust.root_pem.decode(),
            federation=self._trust.name,
            cluster=enrolled.cluster.id,
            domain=self._trust.domain,
            locality=str(enrolled.cluster.locality),
            network=enrolled.cluster.network,
            controllers=list(self._gateways_dial()),
        )

    async def register(self, ask: Ask) -> v.Token:
        """Reserve a cluster id with a one-time token."""
        assert isinstance(ask.body, v.NewToken)
        self._require_synced()
        wish = ask.body
        if not 1 <= wish.ttl_minutes <= 24 * 60:
            raise InvalidInput(f"a token cannot live {wish.ttl_minutes} minutes", "Choose 1 to 1440 minutes.")
        made = await self._members.register(
            wish.cluster, wish.locality, wish.network, timedelta(minutes=wish.ttl_minutes)
        )
        return v.Token(made.text, made.id, made.cluster, str(made.locality), made.network, made.expires_at_ms)

    async def clusters(self, _: Ask) -> v.Clusters:
        """All members."""
        self._require_synced()
        return v.Clusters(self._cluster_views())

    async def cluster(self, ask: Ask) -> v.ClusterView:
        """One member."""
        return views.cluster_view(self._registry, self._member(ask.path["id"]), with_exports=True)

    async def remove(self, ask: Ask) -> v.Removed:
        """Take a member out."""
        self._require_synced()
        removal = await self._members.remove(ask.path["id"])
        return v.Removed(ask.path["id"], removal.exports, removal.keys)

    async def drain(self, ask: Ask) -> v.Drained:
        """No new traffic from other clusters, and what they get from nobody then."""
        drained = await self._set_state(ask, ClusterState.DRAINING)
        offered = frozenset(drained.exports)
        missed = [name for name in views.unserved(self._registry) if name in offered]
        return v.Drained(**msgspec.structs.asdict(drained), unserved=missed)

    async def undrain(self, ask: Ask) -> v.ClusterView:
        """Traffic again."""
        return await self._set_state(ask, ClusterState.ACTIVE)

    async def services(self, _: Ask) -> v.Services:
        """All services, sorted by name."""
        self._require_synced()
        merged = self._registry.merged
        return v.Services([views.service_view(self._registry, merged[name]) for name in sorted(merged)])

    async def service(self, ask: Ask) -> v.ServiceView:
        """One service."""
        return views.service_view(self._registry, self._merged(ask.path["namespace"], ask.path["name"]))

    async def endpoints(self, ask: Ask) -> v.Endpoints:
        """The capacity of every service, or of one."""
        self._require_synced()
        wanted = ask.query.get("service")
        if wanted:
            name = ServiceName.parse(wanted)
            names = [self._merged(name.namespace, name.name).service.service]
        else:
            names = sorted(self._registry.merged)
        return v.Endpoints([view for name in names for view in views.capacity_views(self._registry, name)])

    async def exports(self, _: Ask) -> v.Exports:
        """All exports, sorted by service and cluster."""
        self._require_synced()
        exports = sorted(self._registry.exports(), key=lambda e: (e.service, e.cluster))
        return v.Exports([views.export_view(self._registry, export) for export in exports])

    async def explain(self, ask: Ask) -> v.Explanation:
        """The same function that decides in every gateway."""
        merged = self._merged(ask.path["namespace"], ask.path["name"])
        return views.explain(self._registry, merged, self._member(ask.query["from"]))

    async def status(self, ask: Ask) -> v.Status:
        """Everything at a glance; with `wait`, as soon as there is news."""
        if "wait" in ask.query:
            await self._news(_number(ask.query["wait"], "wait"), _number(ask.query.get("timeout", "30"), "timeout"))
        registry = self._registry
        replicas = self._replicas()
        return v.Status(
            federation=self._trust.name,
            domain=self._trust.domain,
            version=self._own.version,
            revision=self._view.changed.value,
            time_ms=round(time.time() * 1000),
            ready=self._readiness.ready,
            missing=self._readiness.missing(),
            warnings=self._readiness.warnings(),
            clusters=self._cluster_views(),
            services=len(registry.merged),
            exports=sum(1 for _ in registry.exports()),
            conflicts=[c for name in sorted(registry.merged) for c in views.conflict_views(registry.merged[name])],
            quarantined=[v.QuarantinedView(key, reason) for key, reason in sorted(registry.quarantined.items())],
            etcd=list(self._etcd()),
            replicas=[
                v.ReplicaView(
                    *(r.id, r.grpc, r.admin, r.version, r.started_at_ms), number == 0, r.id == self._own.id, r.place
                )
                for number, r in enumerate(replicas)
            ],
            unserved=views.unserved(registry),
        )

    async def _news(self, known: float, timeout: float) -> None:
        try:
            async with asyncio.timeout(min(timeout, LONGEST_WAIT)):
                await self._view.changed.wait(lambda revision: revision > known)
        except TimeoutError:
            return  # no news is an answer as well

    async def _set_state(self, ask: Ask, state: ClusterState) -> v.ClusterView:
        self._require_synced()
        changed = await self._members.set_state(ask.path["id"], state)
        return views.cluster_view(self._registry, self._registry.clusters.get(changed.id, changed), with_exports=True)

    def _cluster_views(self) -> list[v.ClusterView]:
        clusters = self._registry.clusters
        return [views.cluster_view(self._registry, clusters[name]) for name in sorted(clusters)]

    def _member(self, name: str) -> Cluster:
        self._require_synced()
        cluster = parse_cluster_id(name)
        member = self._registry.clusters.get(cluster)
        if member is None:
            raise self._members.unknown(cluster)
        return member

    def _merged(self, namespace: str, name: str) -> Merged:
        self._require_synced()
        service = ServiceName.of(namespace, name)
        merged = self._registry.merged.get(service)
        if merged is None:
            near = difflib.get_close_matches(str(service), [str(known) for known in self._registry.merged], n=1)
            mend = f"Did you mean {near[0]}?" if near else "See 'isthmus services' for what is exported."
            raise NotFound(f"no cluster exports {service}", mend)
        return merged

    def _require_synced(self) -> None:
        if not self._view.synced:
            raise Unavailable("this controller has not read the registry yet", "Try again in a moment.")


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise InvalidInput(f"{name} is {text!r}, which is not a number") from None
    if not 0 <= number < 2**63:
        raise InvalidInput(f"{name} is {text}, which is out of range")
    return number
