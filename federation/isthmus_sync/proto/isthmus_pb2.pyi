from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSPECIFIED: _ClassVar[Protocol]
    TCP: _ClassVar[Protocol]
    UDP: _ClassVar[Protocol]
    SCTP: _ClassVar[Protocol]

class AppProtocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APP_TCP: _ClassVar[AppProtocol]
    APP_HTTP: _ClassVar[AppProtocol]
    APP_HTTP2: _ClassVar[AppProtocol]
    APP_GRPC: _ClassVar[AppProtocol]

class ServiceType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLUSTER_SET_IP: _ClassVar[ServiceType]
    HEADLESS: _ClassVar[ServiceType]

class DnsMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DNS_GATEWAY: _ClassVar[DnsMode]
    DNS_ENDPOINTS: _ClassVar[DnsMode]
PROTOCOL_UNSPECIFIED: Protocol
TCP: Protocol
UDP: Protocol
SCTP: Protocol
APP_TCP: AppProtocol
APP_HTTP: AppProtocol
APP_HTTP2: AppProtocol
APP_GRPC: AppProtocol
CLUSTER_SET_IP: ServiceType
HEADLESS: ServiceType
DNS_GATEWAY: DnsMode
DNS_ENDPOINTS: DnsMode

class Locality(_message.Message):
    __slots__ = ("provider", "region", "zone")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    provider: str
    region: str
    zone: str
    def __init__(self, provider: _Optional[str] = ..., region: _Optional[str] = ..., zone: _Optional[str] = ...) -> None: ...

class Cluster(_message.Message):
    __slots__ = ("schema", "id", "locality", "network", "trust_domain", "state", "registered_at_ms", "gateways", "session", "certificate_fingerprint")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTIVE: _ClassVar[Cluster.State]
        DRAINING: _ClassVar[Cluster.State]
    ACTIVE: Cluster.State
    DRAINING: Cluster.State
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    GATEWAYS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    schema: int
    id: str
    locality: Locality
    network: str
    trust_domain: str
    state: Cluster.State
    registered_at_ms: int
    gateways: _containers.RepeatedCompositeFieldContainer[Gateway]
    session: Session
    certificate_fingerprint: str
    def __init__(self, schema: _Optional[int] = ..., id: _Optional[str] = ..., locality: _Optional[_Union[Locality, _Mapping]] = ..., network: _Optional[str] = ..., trust_domain: _Optional[str] = ..., state: _Optional[_Union[Cluster.State, str]] = ..., registered_at_ms: _Optional[int] = ..., gateways: _Optional[_Iterable[_Union[Gateway, _Mapping]]] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., certificate_fingerprint: _Optional[str] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("held", "since_ms", "lacks")
    HELD_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    LACKS_FIELD_NUMBER: _ClassVar[int]
    held: bool
    since_ms: int
    lacks: str
    def __init__(self, held: _Optional[bool] = ..., since_ms: _Optional[int] = ..., lacks: _Optional[str] = ...) -> None: ...

class Gateway(_message.Message):
    __slots__ = ("schema", "id", "cluster", "address", "port", "version")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    schema: int
    id: str
    cluster: str
    address: str
    port: int
    version: str
    def __init__(self, schema: _Optional[int] = ..., id: _Optional[str] = ..., cluster: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., version: _Optional[str] = ...) -> None: ...

class ServicePort(_message.Message):
    __slots__ = ("name", "port", "protocol", "app_protocol")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    APP_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    name: str
    port: int
    protocol: Protocol
    app_protocol: AppProtocol
    def __init__(self, name: _Optional[str] = ..., port: _Optional[int] = ..., protocol: _Optional[_Union[Protocol, str]] = ..., app_protocol: _Optional[_Union[AppProtocol, str]] = ...) -> None: ...

class Export(_message.Message):
    __slots__ = ("schema", "namespace", "name", "cluster", "type", "ports", "labels", "annotations", "session_affinity", "exported_at_ms", "first_revision")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SESSION_AFFINITY_FIELD_NUMBER: _ClassVar[int]
    EXPORTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_REVISION_FIELD_NUMBER: _ClassVar[int]
    schema: int
    namespace: str
    name: str
    cluster: str
    type: ServiceType
    ports: _containers.RepeatedCompositeFieldContainer[ServicePort]
    labels: _containers.ScalarMap[str, str]
    annotations: _containers.ScalarMap[str, str]
    session_affinity: str
    exported_at_ms: int
    first_revision: int
    def __init__(self, schema: _Optional[int] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., cluster: _Optional[str] = ..., type: _Optional[_Union[ServiceType, str]] = ..., ports: _Optional[_Iterable[_Union[ServicePort, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., annotations: _Optional[_Mapping[str, str]] = ..., session_affinity: _Optional[str] = ..., exported_at_ms: _Optional[int] = ..., first_revision: _Optional[int] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("schema", "namespace", "name", "cluster", "zones", "endpoints", "observed_at_ms")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    ZONES_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    namespace: str
    name: str
    cluster: str
    zones: _containers.RepeatedCompositeFieldContainer[ZoneCapacity]
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    observed_at_ms: int
    def __init__(self, schema: _Optional[int] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., cluster: _Optional[str] = ..., zones: _Optional[_Iterable[_Union[ZoneCapacity, _Mapping]]] = ..., endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., observed_at_ms: _Optional[int] = ...) -> None: ...

class ZoneCapacity(_message.Message):
    __slots__ = ("locality", "ready", "total")
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    locality: Locality
    ready: int
    total: int
    def __init__(self, locality: _Optional[_Union[Locality, _Mapping]] = ..., ready: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("address", "hostname", "locality", "weight", "ready", "ports")
    class PortsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    address: str
    hostname: str
    locality: Locality
    weight: int
    ready: bool
    ports: _containers.ScalarMap[str, int]
    def __init__(self, address: _Optional[str] = ..., hostname: _Optional[str] = ..., locality: _Optional[_Union[Locality, _Mapping]] = ..., weight: _Optional[int] = ..., ready: _Optional[bool] = ..., ports: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Import(_message.Message):
    __slots__ = ("schema", "namespace", "name", "type", "ports", "session_affinity", "labels", "annotations", "exporters")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    SESSION_AFFINITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    EXPORTERS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    namespace: str
    name: str
    type: ServiceType
    ports: _containers.RepeatedCompositeFieldContainer[ServicePort]
    session_affinity: str
    labels: _containers.ScalarMap[str, str]
    annotations: _containers.ScalarMap[str, str]
    exporters: _containers.RepeatedCompositeFieldContainer[Exporter]
    def __init__(self, schema: _Optional[int] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[_Union[ServiceType, str]] = ..., ports: _Optional[_Iterable[_Union[ServicePort, _Mapping]]] = ..., session_affinity: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., annotations: _Optional[_Mapping[str, str]] = ..., exporters: _Optional[_Iterable[_Union[Exporter, _Mapping]]] = ...) -> None: ...

class Exporter(_message.Message):
    __slots__ = ("cluster", "port_names")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    PORT_NAMES_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    port_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster: _Optional[str] = ..., port_names: _Optional[_Iterable[str]] = ...) -> None: ...

class ExportStatus(_message.Message):
    __slots__ = ("schema", "namespace", "name", "conditions")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    namespace: str
    name: str
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    def __init__(self, schema: _Optional[int] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("type", "status", "reason", "message")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    type: str
    status: bool
    reason: str
    message: str
    def __init__(self, type: _Optional[str] = ..., status: _Optional[bool] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class TrustBundle(_message.Message):
    __slots__ = ("schema", "federation_domain", "roots", "sequence")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    schema: int
    federation_domain: str
    roots: _containers.RepeatedScalarFieldContainer[bytes]
    sequence: int
    def __init__(self, schema: _Optional[int] = ..., federation_domain: _Optional[str] = ..., roots: _Optional[_Iterable[bytes]] = ..., sequence: _Optional[int] = ...) -> None: ...

class ResourceError(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ZoneService(_message.Message):
    __slots__ = ("schema", "namespace", "name", "type", "ports", "ips", "hosts", "provenance", "dns_mode")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    IPS_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    DNS_MODE_FIELD_NUMBER: _ClassVar[int]
    schema: int
    namespace: str
    name: str
    type: ServiceType
    ports: _containers.RepeatedCompositeFieldContainer[ServicePort]
    ips: _containers.RepeatedScalarFieldContainer[str]
    hosts: _containers.RepeatedCompositeFieldContainer[ZoneHost]
    provenance: _containers.RepeatedCompositeFieldContainer[Provenance]
    dns_mode: DnsMode
    def __init__(self, schema: _Optional[int] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[_Union[ServiceType, str]] = ..., ports: _Optional[_Iterable[_Union[ServicePort, _Mapping]]] = ..., ips: _Optional[_Iterable[str]] = ..., hosts: _Optional[_Iterable[_Union[ZoneHost, _Mapping]]] = ..., provenance: _Optional[_Iterable[_Union[Provenance, _Mapping]]] = ..., dns_mode: _Optional[_Union[DnsMode, str]] = ...) -> None: ...

class ZoneHost(_message.Message):
    __slots__ = ("cluster", "hostname", "address", "ports", "locality", "tier")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    hostname: str
    address: str
    ports: _containers.RepeatedCompositeFieldContainer[ServicePort]
    locality: Locality
    tier: int
    def __init__(self, cluster: _Optional[str] = ..., hostname: _Optional[str] = ..., address: _Optional[str] = ..., ports: _Optional[_Iterable[_Union[ServicePort, _Mapping]]] = ..., locality: _Optional[_Union[Locality, _Mapping]] = ..., tier: _Optional[int] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("cluster", "rule", "observed_at_ms", "stale", "tier", "confirmed_at_ms")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    rule: str
    observed_at_ms: int
    stale: bool
    tier: int
    confirmed_at_ms: int
    def __init__(self, cluster: _Optional[str] = ..., rule: _Optional[str] = ..., observed_at_ms: _Optional[int] = ..., stale: _Optional[bool] = ..., tier: _Optional[int] = ..., confirmed_at_ms: _Optional[int] = ...) -> None: ...

class ZoneHeader(_message.Message):
    __slots__ = ("schema", "cluster", "serial", "stale", "synced_at_ms", "confirmed")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    SYNCED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    schema: int
    cluster: str
    serial: int
    stale: bool
    synced_at_ms: int
    confirmed: bool
    def __init__(self, schema: _Optional[int] = ..., cluster: _Optional[str] = ..., serial: _Optional[int] = ..., stale: _Optional[bool] = ..., synced_at_ms: _Optional[int] = ..., confirmed: _Optional[bool] = ...) -> None: ...

class JoinToken(_message.Message):
    __slots__ = ("schema", "id", "cluster", "secret_sha256", "expires_at_ms", "locality", "network")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SECRET_SHA256_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    schema: int
    id: str
    cluster: str
    secret_sha256: bytes
    expires_at_ms: int
    locality: Locality
    network: str
    def __init__(self, schema: _Optional[int] = ..., id: _Optional[str] = ..., cluster: _Optional[str] = ..., secret_sha256: _Optional[bytes] = ..., expires_at_ms: _Optional[int] = ..., locality: _Optional[_Union[Locality, _Mapping]] = ..., network: _Optional[str] = ...) -> None: ...
