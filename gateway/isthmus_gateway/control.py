"""Answer questions about a running gateway: its state as JSON, its numbers as metrics."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from isthmus_core.model import Gateway, LocalService, Protocol
from isthmus_core.names import ClusterId, ServiceName
from isthmus_gateway import status
from isthmus_gateway.controllers import EXPORTS, IMPORTS, Controllers
from isthmus_gateway.envoy import EnvoyState, IngressRefusals
from isthmus_gateway.hub import Hub
from isthmus_gateway.membership import Membership
from isthmus_gateway.settings import GatewaySettings
from isthmus_gateway.sources.files import FileSource
from isthmus_kit.latest import Latest
from isthmus_kit.readiness import Readiness
from isthmus_kit.web import json_response


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running gateway that can be asked."""

    settings: GatewaySettings
    member: Membership
    gateway: Gateway
    readiness: Readiness
    files: FileSource
    envoy: Latest[EnvoyState]
    hub: Hub
    controllers: Controllers
    refusals: IngressRefusals


def add_routes(app: web.Application, parts: Parts) -> None:
    """GET /v1/state[?service=NAMESPACE/NAME]: everything, or everything with only that service's details."""

    async def state(request: web.Request) -> web.Response:
        asked = request.query.get("service")
        return json_response(state_of(parts, ServiceName.parse(asked) if asked else None))

    app.router.add_get("/v1/state", state)


def register_metrics(registry: CollectorRegistry, parts: Parts) -> None:
    """Put the gateway's numbers into the registry; they are read when somebody asks."""
    registry.register(_Numbers(parts))


def state_of(parts: Parts, only: ServiceName | None = None) -> status.GatewayStatus:
    """What the gateway knows and does now."""
    envoy = parts.envoy.value
    return status.GatewayStatus(
        cluster=parts.member.id,
        gateway=parts.gateway.id,
        version=parts.gateway.version,
        locality=str(parts.member.locality),
        address=f"{parts.gateway.address}:{parts.gateway.port}",
        ready=parts.readiness.ready,
        missing=parts.readiness.missing(),
        warnings=parts.readiness.warnings(),
        controllers=_controllers(parts),
        files=_files(parts),
        envoy=status.EnvoyStatus(
            running=envoy.running,
            pid=envoy.pid,
            adopted=envoy.adopted,
            why=envoy.why,
            refused=tuple(status.RefusedResource(r.kind, r.name, r.reason) for r in parts.hub.feed.refusals),
            ingress_refused=parts.refusals.count,
        ),
        zone_serial=parts.hub.zone.serial,
        zone_stale=parts.hub.zone.stale,
        snapshot_age_s=parts.controllers.age(time.monotonic()),
        clusters=tuple(_cluster(parts, cluster) for cluster in sorted(parts.hub.fleet.clusters)),
        services=tuple(_service(parts, name) for name in sorted(parts.hub.routes.routes) if only in (None, name)),
        exports=tuple(
            _export(parts, local) for name, local in sorted(parts.hub.routes.local.items()) if only in (None, name)
        ),
    )


def cluster_age(parts: Parts, cluster: ClusterId) -> float | None:
    """Seconds since what is known of a cluster was last confirmed: by the controller, and by its session there."""
    age = parts.controllers.age(time.monotonic())
    known = parts.hub.fleet.clusters.get(cluster)
    if age is None or known is None or known.session_held:
        return age
    return max(age, time.time() - known.session_since_ms / 1000) if known.session_since_ms else age


def _controllers(parts: Parts) -> status.ControllersStatus:
    streams = {
        name: status.StreamStatus(link.connected, link.address, link.why)
        for name, link in parts.controllers.links.items()
    }
    return status.ControllersStatus(
        addresses=parts.settings.controllers or parts.member.controllers,
        imports=streams[IMPORTS],
        exports=streams[EXPORTS],
        age_s=parts.controllers.age(time.monotonic()),
        refused={
            f"{kind.rpartition('.')[2]} {name}": reason for (kind, name), reason in parts.controllers.refused.items()
        },
    )


def _files(parts: Parts) -> status.FilesStatus:
    state = parts.files.state.value
    return status.FilesStatus(
        folder=str(parts.settings.services_dir),
        trouble=state.folder,
        services=len(parts.hub.routes.local),
        problems=tuple(
            status.FileProblem(p.place.file, p.place.line, p.place.column, p.reason, p.mend) for p in state.problems
        ),
    )


def _cluster(parts: Parts, cluster: ClusterId) -> status.ClusterStatus:
    known = parts.hub.fleet.clusters[cluster]
    return status.ClusterStatus(
        id=cluster,
        locality=str(known.locality),
        state=known.state.value,
        session_held=known.session_held,
        age_s=cluster_age(parts, cluster),
        unreachable=cluster in parts.hub.routes.unreachable,
        gateways=status.gateways_of(known, parts.hub.remotes.verdicts(cluster)),
    )


def _service(parts: Parts, name: ServiceName) -> status.ServiceStatus:
    route = parts.hub.routes.routes[name]
    return status.ServiceStatus(
        service=str(name),
        type=parts.hub.fleet.imports[name].type.value,
        vip=parts.hub.routes.vip(name),
        ports=status.ports_of(route),
        candidates=status.candidates_of(route),
    )


def _export(parts: Parts, local: LocalService) -> status.ExportStatus:
    capacity = parts.hub.offers.capacities.get(local.service)
    tcp = [port.name for port in local.ports if port.protocol is Protocol.TCP]
    said = parts.hub.offers.verdicts.of
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
        conditions=parts.hub.fleet.statuses.get(local.service, ()),
    )


class _Numbers(Collector):
    """The gateway's gauges and counters."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        parts = self._parts
        yield from (
            _gauge("isthmus_gateway_ready", "1 when the gateway is ready", float(parts.readiness.ready)),
            _gauge("isthmus_services_imported", "Services of the federation", len(parts.hub.fleet.imports)),
            _gauge("isthmus_services_exported", "Services that this cluster offers", len(parts.hub.offers.capacities)),
            _gauge("isthmus_vips_exhausted", "Services for which no address is left", len(parts.hub.routes.exhausted)),
            _gauge("isthmus_envoy_refused", "Resources that Envoy refuses", len(parts.hub.feed.refusals)),
            _gauge("isthmus_envoy_running", "1 when Envoy runs", float(parts.envoy.value.running)),
            _gauge("isthmus_zone_serial", "Serial of the zone", parts.hub.zone.serial),
        )
        yield CounterMetricFamily(
            "isthmus_envoy_restarts", "How often Envoy was started again", value=parts.envoy.value.restarts
        )
        yield CounterMetricFamily(
            "isthmus_ingress_refused_connections",
            "Connections that the ingress refused for what the certificate says",
            value=parts.refusals.count,
        )
        streams = GaugeMetricFamily("isthmus_controller_connected", "1 when connected", labels=["stream"])
        for stream, link in parts.controllers.links.items():
            streams.add_metric([stream], float(link.connected))
        yield streams
        ages = GaugeMetricFamily(
            "isthmus_cluster_age_seconds", "Since what is known of a cluster was confirmed", labels=["cluster"]
        )
        reach = GaugeMetricFamily("isthmus_cluster_unreachable", "1 when no gateway answers", labels=["cluster"])
        for cluster in sorted(parts.hub.fleet.clusters):
            age = cluster_age(parts, cluster)
            ages.add_metric([cluster], float("inf") if age is None else age)
            reach.add_metric([cluster], float(cluster in parts.hub.routes.unreachable))
        yield ages
        yield reach


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family
