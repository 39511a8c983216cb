"""Fill service and local Envoy clusters with endpoints: the only resources that an endpoint change touches."""

from collections.abc import Iterable, Iterator

from envoy.config.core.v3.base_pb2 import Locality as EnvoyLocality
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from isthmus_core.model import Cluster, Endpoint, HealthCheck, LocalService, Protocol, ServicePort
from isthmus_core.names import Locality, ServiceName
from isthmus_core.route import PortRoute, ServiceRoute, Target
from isthmus_gateway.resources import names
from isthmus_gateway.resources.encode import encoded, number

# Envoy adds the weights of a priority up in 32 bits.
MAX_WEIGHT = 1_000_000

# In percent: one healthy endpoint of a thousand is enough for Envoy to call its tier healthy.
ONE_IS_ENOUGH = 100_000


def build_assignments(route: ServiceRoute, local: LocalService | None) -> dict[str, bytes]:
    """The assignments of all TCP ports of an imported service; `local` is this cluster's own service of that name."""
    return {
        names.service_cluster(route.service, port.port.port): encoded(_service(route.service, port, local))
        for port in route.ports
        if port.port.protocol is Protocol.TCP
    }


def build_export_assignments(local: LocalService) -> dict[str, bytes]:
    """The assignments behind the ingress: all own endpoints of an exported service."""
    answer: dict[str, bytes] = {}
    for port in local.ports:
        if port.protocol is Protocol.TCP:
            name = names.local_cluster(local.service, port.port)
            groups = _by_locality(local.endpoints)
            tiers = [_local_group(where, group, port, local.health_check, 0, "") for where, group in groups]
            answer[name] = encoded(
                ClusterLoadAssignment(cluster_name=name, endpoints=[t for t in tiers if t is not None])
            )
    return answer


def build_remote_assignment(cluster: Cluster) -> dict[str, bytes]:
    """The assignment of `gateway/<cluster>`: that cluster's gateways, all equally good."""
    name = names.gateway_cluster(cluster.id)
    group = LocalityLbEndpoints(locality=_locality(cluster.locality, cluster.id))
    for gateway in sorted(cluster.gateways):
        group.lb_endpoints.append(_socket(gateway.address, gateway.port, 1))
    return {name: encoded(ClusterLoadAssignment(cluster_name=name, endpoints=[group] if cluster.gateways else []))}


def _service(service: ServiceName, route: PortRoute, local: LocalService | None) -> ClusterLoadAssignment:
    name = names.service_cluster(service, route.port.port)
    assignment = ClusterLoadAssignment(cluster_name=name)
    # A tier whose endpoints do not serve this port is left out; priorities must have no gaps.
    priority = 0
    for tier in route.tiers:
        groups = [g for target in tier if (g := _group(service, route.port, target, local, priority)) is not None]
        assignment.endpoints.extend(groups)
        priority += bool(groups)
    if (only := _only_way(route)) is not None:
        # The probe's verdict closes its way for all services at once, and nobody else is there to turn to: until the
        # agent has moved the service, a retry finds the way that no probe closes.
        assignment.endpoints.append(_anyway(service, route.port, only, priority, HealthStatus.UNKNOWN))
    if not route.ready:
        # Envoy turns to them in its panic, when all are sick, as to the sick of the tiers.
        _add_last_resort(assignment, service, route, priority, HealthStatus.UNHEALTHY)
    elif priority == 1 and len(route.last_resort) < sum(len(group.lb_endpoints) for group in assignment.endpoints):
        # For retries of what the only tier failed to answer, before its checks fail. Half of all endpoints may be
        # ejected (checks.py): with as many last resorts as others that could be everybody who is healthy.
        _add_last_resort(assignment, service, route, priority, HealthStatus.DEGRADED)
        # A tier that has lost some of its endpoints keeps everything: there is no other to relieve it.
        assignment.policy.overprovisioning_factor.value = ONE_IS_ENOUGH
    elif priority == 1 and route.lately:
        _add_stuttering(assignment, service, route)
    return assignment


def _only_way(route: PortRoute) -> Target | None:
    """The one other cluster in the tiers of an HTTP port, whose requests are retried; None with several or without."""
    others = [target for tier in route.tiers for target in tier if not target.local]
    asked = route.ready and not route.lately and route.port.app_protocol.is_http
    return others[0] if asked and len(others) == 1 else None


def _add_last_resort(
    assignment: ClusterLoadAssignment, service: ServiceName, route: PortRoute, priority: int, health: HealthStatus
) -> None:
    """Clusters that look dead, for requests that nobody else answers (docs/decisions/0010)."""
    for target in route.last_resort:
        assignment.endpoints.append(_anyway(service, route.port, target, priority, health))


def _add_stuttering(assignment: ClusterLoadAssignment, service: ServiceName, route: PortRoute) -> None:
    """Clusters that may be back in a moment, beside a tier that has too few endpoints for a real last resort.

    They take part once everybody in the tier is ejected or sick: Envoy's panic then tries all of them, and a retry who
    was not asked yet. It finds him for sure only among equal weights (http.CHOICES).
    """
    weight = min(host.load_balancing_weight.value for group in assignment.endpoints for host in group.lb_endpoints)
    for target in route.lately:
        group = _anyway(service, route.port, target, 0, HealthStatus.UNHEALTHY)
        group.lb_endpoints[0].load_balancing_weight.value = weight
        assignment.endpoints.append(group)
    # It is no panic that most of the hosts are last resorts.
    assignment.policy.overprovisioning_factor.value = ONE_IS_ENOUGH


def _anyway(
    service: ServiceName, port: ServicePort, target: Target, priority: int, health: HealthStatus
) -> LocalityLbEndpoints:
    """A cluster by the way that no probe closes."""
    host = _tunnel(service, port, target, names.last_resort_listener(target.cluster))
    host.health_status = health
    where = _locality(target.locality, target.cluster)
    return LocalityLbEndpoints(locality=where, priority=priority, lb_endpoints=[host])


def _group(
    service: ServiceName, port: ServicePort, target: Target, local: LocalService | None, priority: int
) -> LocalityLbEndpoints | None:
    if not target.local:
        return LocalityLbEndpoints(
            locality=_locality(target.locality, target.cluster),
            priority=priority,
            lb_endpoints=[_tunnel(service, port, target, names.tunnel_listener(target.cluster))],
        )
    if local is None:
        return None
    here = [endpoint for endpoint in local.endpoints if endpoint.locality == target.locality]
    return _local_group(target.locality, here, port, local.health_check, priority, target.cluster)


def _local_group(
    where: Locality, endpoints: Iterable[Endpoint], port: ServicePort, check: HealthCheck, priority: int, owner: str
) -> LocalityLbEndpoints | None:
    """Endpoints of one locality that serve the port; they are found by the port's name, not its number."""
    group = LocalityLbEndpoints(locality=_locality(where, owner), priority=priority)
    serving = {(e.address, e.ports[port.name]): e for e in endpoints if e.ready and port.name in e.ports}
    for (address, number_), endpoint in sorted(serving.items(), key=lambda item: item[0]):
        host = _socket(address, number_, endpoint.weight)
        if check.port_name in endpoint.ports and check.port_name != port.name and check.port_name:
            host.endpoint.health_check_config.port_value = endpoint.ports[check.port_name]
        group.lb_endpoints.append(host)
    return group if group.lb_endpoints else None


def _by_locality(endpoints: Iterable[Endpoint]) -> Iterator[tuple[Locality, list[Endpoint]]]:
    groups: dict[Locality, list[Endpoint]] = {}
    for endpoint in endpoints:
        groups.setdefault(endpoint.locality, []).append(endpoint)
    return iter(sorted(groups.items()))


def _socket(address: str, port: int, weight: int) -> LbEndpoint:
    host = LbEndpoint(load_balancing_weight=number(_weight(weight)))
    host.endpoint.address.socket_address.address = address
    host.endpoint.address.socket_address.port_value = port
    return host


def _tunnel(service: ServiceName, port: ServicePort, target: Target, listener: str) -> LbEndpoint:
    """One remote cluster as one endpoint; what the tunnel is for travels in its metadata."""
    host = LbEndpoint(load_balancing_weight=number(_weight(target.weight)))
    internal = host.endpoint.address.envoy_internal_address
    internal.server_listener_name = listener
    internal.endpoint_id = f"{target.cluster}/{service}/{port.port}"
    # A health check's connection carries no metadata, so it would find no destination. `gateway/<cluster>` is checked.
    host.endpoint.health_check_config.disable_active_health_check = True
    host.metadata.filter_metadata[names.TUNNEL_METADATA]["destination"] = service.authority(port.port)
    return host


def _weight(weight: int) -> int:
    return max(1, min(weight, MAX_WEIGHT))


def _locality(where: Locality, owner: str) -> EnvoyLocality:
    """Unique within a priority: the owner keeps two clusters of one zone apart."""
    return EnvoyLocality(region=f"{where.provider}/{where.region}", zone=where.zone, sub_zone=owner)
