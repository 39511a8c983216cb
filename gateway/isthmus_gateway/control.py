"""Answer questions about a running gateway: its state as JSON, its numbers as metrics."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from isthmus_core.model import LocalService, Protocol
from isthmus_core.names import ClusterId, ServiceName
from isthmus_gateway import status
from isthmus_gateway.controllers import EXPORTS, IMPORTS
from isthmus_kit.web import json_response

if TYPE_CHECKING:
    from isthmus_gateway.agent import Agent


def add_routes(app: web.Application, agent: "Agent") -> None:
    """GET /v1/state[?service=NAMESPACE/NAME]: everything, or everything with only that service's details."""

    async def state(request: web.Request) -> web.Response:
        asked = request.query.get("service")
        return json_response(state_of(agent, ServiceName.parse(asked) if asked else None))

    app.router.add_get("/v1/state", state)


def register_metrics(agent: "Agent") -> None:
    """Put the agent's numbers into its registry; they are read when somebody asks."""
    agent.registry.register(_Numbers(agent))


def state_of(agent: "Agent", only: ServiceName | None = None) -> status.GatewayStatus:
    """What the gateway knows and does now."""
    envoy = agent.envoy_state.value
    return status.GatewayStatus(
        cluster=agent.member.id,
        gateway=agent.gateway.id,
        version=agent.gateway.version,
        locality=str(agent.member.locality),
        address=f"{agent.gateway.address}:{agent.gateway.port}",
        ready=agent.readiness.ready,
        missing=agent.readiness.missing(),
        warnings=agent.readiness.warnings(),
        controllers=_controllers(agent),
        files=_files(agent),
        envoy=status.EnvoyStatus(
            running=envoy.running,
            pid=envoy.pid,
            adopted=envoy.adopted,
            why=envoy.why,
            refused=tuple(status.RefusedResource(r.kind, r.name, r.reason) for r in agent.hub.feed.refusals),
        ),
        zone_serial=agent.hub.zone.serial,
        zone_stale=agent.hub.zone.stale,
        snapshot_age_s=agent.controllers.age(time.monotonic()),
        clusters=tuple(_cluster(agent, cluster) for cluster in sorted(agent.hub.fleet.clusters)),
        services=tuple(_service(agent, name) for name in sorted(agent.hub.routes.routes) if only in (None, name)),
        exports=tuple(
            _export(agent, local) for name, local in sorted(agent.hub.routes.local.items()) if only in (None, name)
        ),
    )


def cluster_age(agent: "Agent", cluster: ClusterId) -> float | None:
    """Seconds since what is known of a cluster was last confirmed: by the controller, and by its session there."""
    age = agent.controllers.age(time.monotonic())
    known = agent.hub.fleet.clusters.get(cluster)
    if age is None or known is None or known.session_held:
        return age
    return max(age, time.time() - known.session_since_ms / 1000) if known.session_since_ms else age


def _controllers(agent: "Agent") -> status.ControllersStatus:
    streams = {
        name: status.StreamStatus(link.connected, link.address, link.why)
        for name, link in agent.controllers.links.items()
    }
    return status.ControllersStatus(
        addresses=agent.settings.controllers or agent.member.controllers,
        imports=streams[IMPORTS],
        exports=streams[EXPORTS],
        age_s=agent.controllers.age(time.monotonic()),
        refused={
            f"{kind.rpartition('.')[2]} {name}": reason for (kind, name), reason in agent.controllers.refused.items()
        },
    )


def _files(agent: "Agent") -> status.FilesStatus:
    state = agent.files.state.value
    return status.FilesStatus(
        folder=str(agent.settings.services_dir),
        trouble=state.folder,
        services=len(agent.hub.routes.local),
        problems=tuple(
            status.FileProblem(p.place.file, p.place.line, p.place.column, p.reason, p.mend) for p in state.problems
        ),
    )


def _cluster(agent: "Agent", cluster: ClusterId) -> status.ClusterStatus:
    known = agent.hub.fleet.clusters[cluster]
    return status.ClusterStatus(
        id=cluster,
        locality=str(known.locality),
        state=known.state.value,
        session_held=known.session_held,
        age_s=cluster_age(agent, cluster),
        unreachable=cluster in agent.hub.routes.unreachable,
        gateways=status.gateways_of(known, agent.hub.remotes.verdicts(cluster)),
    )


def _service(agent: "Agent", name: ServiceName) -> status.ServiceStatus:
    route = agent.hub.routes.routes[name]
    return status.ServiceStatus(
        service=str(name),
        type=agent.hub.fleet.imports[name].type.value,
        vip=agent.hub.routes.vip(name),
        ports=status.ports_of(route),
        candidates=status.candidates_of(route),
    )


def _export(agent: "Agent", local: LocalService) -> status.ExportStatus:
    capacity = agent.hub.offers.capacities.get(local.service)
    tcp = [port.name for port in local.ports if port.protocol is Protocol.TCP]
    said = agent.hub.offers.verdicts.of
    return status.ExportStatus(
        service=str(local.service),
        exported=local.export is not None,
        type=local.type.value,
        ready=capacity.ready if capacity else 0,
        total=capacity.total if capacity else status.totals_of(local),
        endpoints=tuple(
            status.EndpointStatus(
                e.address,
                str(e.locality),
                e.weight,
                e.ready,
                {name: said(local.service, e.address, e.ports[name]) for name in tcp if name in e.ports},
            )
            for e in local.endpoints
        ),
        conditions=agent.hub.fleet.statuses.get(local.service, ()),
    )


class _Numbers(Collector):
    """The gateway's gauges."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        agent = self._agent
        yield from (
            _gauge("isthmus_gateway_ready", "1 when the gateway is ready", float(agent.readiness.ready)),
            _gauge("isthmus_services_imported", "Services of the federation", len(agent.hub.fleet.imports)),
            _gauge("isthmus_services_exported", "Services that this cluster offers", len(agent.hub.offers.capacities)),
            _gauge("isthmus_vips_exhausted", "Services for which no address is left", len(agent.hub.routes.exhausted)),
            _gauge("isthmus_envoy_refused", "Resources that Envoy refuses", len(agent.hub.feed.refusals)),
            _gauge("isthmus_envoy_running", "1 when Envoy runs", float(agent.envoy_state.value.running)),
            _gauge("isthmus_envoy_restarts", "How often Envoy was started again", max(0, agent.envoy_starts - 1)),
            _gauge("isthmus_zone_serial", "Serial of the zone", agent.hub.zone.serial),
        )
        streams = GaugeMetricFamily("isthmus_controller_connected", "1 when connected", labels=["stream"])
        for stream, link in agent.controllers.links.items():
            streams.add_metric([stream], float(link.connected))
        yield streams
        ages = GaugeMetricFamily(
            "isthmus_cluster_age_seconds", "Since what is known of a cluster was confirmed", labels=["cluster"]
        )
        reach = GaugeMetricFamily("isthmus_cluster_unreachable", "1 when no gateway answers", labels=["cluster"])
        for cluster in sorted(agent.hub.fleet.clusters):
            age = cluster_age(agent, cluster)
            ages.add_metric([cluster], float("inf") if age is None else age)
            reach.add_metric([cluster], float(cluster in agent.hub.routes.unreachable))
        yield ages
        yield reach


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family
