"""Turn the model into messages and back; the same messages travel and stand in etcd."""

from collections.abc import Iterable

from isthmus_core import model
from isthmus_core.errors import InvalidInput
from isthmus_core.names import ClusterId, Locality, ServiceName, parse_cluster_id
from isthmus_sync.proto import isthmus_pb2 as pb

SCHEMA = 1
"""The schema version that this release writes; it reads this one and all before."""

PREFIX = "type.googleapis.com/isthmus.v1."
CLUSTER = PREFIX + "Cluster"
GATEWAY = PREFIX + "Gateway"
EXPORT = PREFIX + "Export"
EXPORT_STATUS = PREFIX + "ExportStatus"
CAPACITY = PREFIX + "Capacity"
IMPORT = PREFIX + "Import"
TRUST_BUNDLE = PREFIX + "TrustBundle"
ZONE_SERVICE = PREFIX + "ZoneService"
ZONE_HEADER = PREFIX + "ZoneHeader"

_APP = {
    model.AppProtocol.TCP: pb.APP_TCP,
    model.AppProtocol.HTTP: pb.APP_HTTP,
    model.AppProtocol.HTTP2: pb.APP_HTTP2,
    model.AppProtocol.GRPC: pb.APP_GRPC,
}
_APP_BACK = {number: name for name, number in _APP.items()}
_PROTOCOL = {model.Protocol.TCP: pb.TCP, model.Protocol.UDP: pb.UDP, model.Protocol.SCTP: pb.SCTP}
_PROTOCOL_BACK = {pb.PROTOCOL_UNSPECIFIED: model.Protocol.TCP} | {number: name for name, number in _PROTOCOL.items()}
_TYPE = {model.ServiceType.CLUSTER_SET_IP: pb.CLUSTER_SET_IP, model.ServiceType.HEADLESS: pb.HEADLESS}
_TYPE_BACK = {number: name for name, number in _TYPE.items()}


def locality_message(locality: Locality) -> pb.Locality:
    """A locality as its message."""
    return pb.Locality(provider=locality.provider, region=locality.region, zone=locality.zone)


def locality_value(message: pb.Locality) -> Locality:
    """A message as a locality; raises InvalidInput."""
    return Locality.parse(f"{message.provider}/{message.region}/{message.zone}")


def port_message(port: model.ServicePort) -> pb.ServicePort:
    """A service port as its message."""
    return pb.ServicePort(
        name=port.name, port=port.port, protocol=_PROTOCOL[port.protocol], app_protocol=_APP[port.app_protocol]
    )


def port_value(message: pb.ServicePort) -> model.ServicePort:
    """A message as a service port; raises InvalidInput for a number outside 1 to 65535 or an unknown protocol."""
    if not 1 <= message.port <= 65535:
        raise InvalidInput(f"port {message.port} of a service is out of range", "Use a number from 1 to 65535.")
    if message.protocol not in _PROTOCOL_BACK or message.app_protocol not in _APP_BACK:
        raise InvalidInput(f"port {message.name or message.port} has a protocol that this release does not know")
    return model.ServicePort(
        message.name, message.port, _PROTOCOL_BACK[message.protocol], _APP_BACK[message.app_protocol]
    )


def ports_value(messages: Iterable[pb.ServicePort]) -> tuple[model.ServicePort, ...]:
    """Several ports at once."""
    return tuple(port_value(message) for message in messages)


def cluster_message(cluster: model.Cluster) -> pb.Cluster:
    """A cluster as its message, gateways and session included."""
    return pb.Cluster(
        schema=SCHEMA,
        id=cluster.id,
        locality=locality_message(cluster.locality),
        network=cluster.network,
        trust_domain=cluster.trust_domain,
        state=pb.Cluster.DRAINING if cluster.state is model.ClusterState.DRAINING else pb.Cluster.ACTIVE,
        registered_at_ms=cluster.registered_at_ms,
        gateways=[gateway_message(gateway) for gateway in cluster.gateways],
        session=pb.Session(held=cluster.session_held, since_ms=cluster.session_since_ms),
        certificate_fingerprint=cluster.certificate_fingerprint,
    )


def cluster_value(message: pb.Cluster) -> model.Cluster:
    """A message as a cluster; raises InvalidInput."""
    return model.Cluster(
        id=parse_cluster_id(message.id),
        locality=locality_value(message.locality),
        network=message.network,
        trust_domain=message.trust_domain,
        state=model.ClusterState.DRAINING if message.state == pb.Cluster.DRAINING else model.ClusterState.ACTIVE,
        registered_at_ms=message.registered_at_ms,
        gateways=tuple(gateway_value(gateway) for gateway in message.gateways),
        session_held=message.session.held,
        session_since_ms=message.session.since_ms,
        certificate_fingerprint=message.certificate_fingerprint,
    )


def gateway_message(gateway: model.Gateway) -> pb.Gateway:
    """A gateway as its message."""
    return pb.Gateway(
        schema=SCHEMA,
        id=gateway.id,
        cluster=gateway.cluster,
        address=gateway.address,
        port=gateway.port,
        version=gateway.version,
    )


def gateway_value(message: pb.Gateway) -> model.Gateway:
    """A message as a gateway; raises InvalidInput."""
    if not 1 <= message.port <= 65535:
        raise InvalidInput(f"gateway {message.id!r} has port {message.port}, which is out of range")
    return model.Gateway(message.id, parse_cluster_id(message.cluster), message.address, message.port, message.version)


def export_message(export: model.Export) -> pb.Export:
    """An export as its message."""
    return pb.Export(
        schema=SCHEMA,
        namespace=export.service.namespace,
        name=export.service.name,
        cluster=export.cluster,
        type=_TYPE[export.type],
        ports=[port_message(port) for port in export.ports],
        labels=dict(export.labels),
        annotations=dict(export.annotations),
        session_affinity=export.session_affinity,
        exported_at_ms=export.exported_at_ms,
        first_revision=export.first_revision,
    )


def export_value(message: pb.Export) -> model.Export:
    """A message as an export; raises InvalidInput."""
    return model.Export(
        service=ServiceName.of(message.namespace, message.name),
        cluster=parse_cluster_id(message.cluster),
        type=_TYPE_BACK[message.type],
        ports=ports_value(message.ports),
        labels=dict(message.labels),
        annotations=dict(message.annotations),
        session_affinity=message.session_affinity or "None",
        exported_at_ms=message.exported_at_ms,
        first_revision=message.first_revision,
    )


def endpoint_message(endpoint: model.Endpoint) -> pb.Endpoint:
    """An endpoint as its message."""
    return pb.Endpoint(
        address=endpoint.address,
        hostname=endpoint.hostname,
        locality=locality_message(endpoint.locality),
        weight=endpoint.weight,
        ready=endpoint.ready,
        ports=dict(endpoint.ports),
    )


def endpoint_value(message: pb.Endpoint) -> model.Endpoint:
    """A message as an endpoint; raises InvalidInput."""
    return model.Endpoint(
        address=message.address,
        locality=locality_value(message.locality),
        ports=dict(message.ports),
        weight=message.weight or 1,
        ready=message.ready,
        hostname=message.hostname,
    )


def capacity_message(capacity: model.Capacity) -> pb.Capacity:
    """A capacity as its message."""
    return pb.Capacity(
        schema=SCHEMA,
        namespace=capacity.service.namespace,
        name=capacity.service.name,
        cluster=capacity.cluster,
        zones=[
            pb.ZoneCapacity(locality=locality_message(zone.locality), ready=zone.ready, total=zone.total)
            for zone in capacity.zones
        ],
        endpoints=[endpoint_message(endpoint) for endpoint in capacity.endpoints],
        observed_at_ms=capacity.observed_at_ms,
    )


def capacity_value(message: pb.Capacity) -> model.Capacity:
    """A message as a capacity; raises InvalidInput."""
    return model.Capacity(
        service=ServiceName.of(message.namespace, message.name),
        cluster=parse_cluster_id(message.cluster),
        zones=tuple(model.ZoneCapacity(locality_value(z.locality), z.ready, z.total) for z in message.zones),
        endpoints=tuple(endpoint_value(endpoint) for endpoint in message.endpoints),
        observed_at_ms=message.observed_at_ms,
    )


def import_message(imported: model.Import) -> pb.Import:
    """An import as its message."""
    return pb.Import(
        schema=SCHEMA,
        namespace=imported.service.namespace,
        name=imported.service.name,
        type=_TYPE[imported.type],
        ports=[port_message(port) for port in imported.ports],
        session_affinity=imported.session_affinity,
        labels=dict(imported.labels),
        annotations=dict(imported.annotations),
        exporters=[pb.Exporter(cluster=e.cluster, port_names=list(e.port_names)) for e in imported.exporters],
    )


def import_value(message: pb.Import) -> model.Import:
    """A message as an import; raises InvalidInput."""
    return model.Import(
        service=ServiceName.of(message.namespace, message.name),
        type=_TYPE_BACK[message.type],
        ports=ports_value(message.ports),
        exporters=tuple(model.Exporter(ClusterId(e.cluster), tuple(e.port_names)) for e in message.exporters),
        session_affinity=message.session_affinity or "None",
        labels=dict(message.labels),
        annotations=dict(message.annotations),
    )


def status_message(service: ServiceName, conditions: Iterable[model.Condition]) -> pb.ExportStatus:
    """The conditions of an export as their message."""
    return pb.ExportStatus(
        schema=SCHEMA,
        namespace=service.namespace,
        name=service.name,
        conditions=[pb.Condition(type=c.type, status=c.status, reason=c.reason, message=c.message) for c in conditions],
    )


def status_value(message: pb.ExportStatus) -> tuple[ServiceName, tuple[model.Condition, ...]]:
    """A message as the service and its conditions; raises InvalidInput."""
    conditions = tuple(model.Condition(c.type, c.status, c.reason, c.message) for c in message.conditions)
    return ServiceName.of(message.namespace, message.name), conditions
