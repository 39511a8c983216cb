"""Merging exports: the oldest wins, ports are a union, conflicts are values (KEP-1645)."""

import msgspec
import pytest

from isthmus_core.merge import merge
from isthmus_core.model import AppProtocol, Export, Exporter, Protocol, ServicePort, ServiceType
from isthmus_core.names import ClusterId, ServiceName

HTTP = ServicePort("http", 80, app_protocol=AppProtocol.HTTP)
METRICS = ServicePort("metrics", 9090)


def export(cluster: str, revision: int, *ports: ServicePort, **changes: object) -> Export:
    made = Export(
        ServiceName("shop", "echo"),
        ClusterId(cluster),
        ServiceType.CLUSTER_SET_IP,
        ports or (HTTP,),
        first_revision=revision,
    )
    return msgspec.structs.replace(made, **changes)


def test_equal_exports_have_no_conflict() -> None:
    merged = merge([export("b", 2), export("a", 1)])
    assert merged.conflicts == ()
    assert merged.service.exporters == (Exporter(ClusterId("a"), ("http",)), Exporter(ClusterId("b"), ("http",)))
    assert (merged.condition().status, merged.condition().reason) == (False, "NoConflicts")


def test_the_oldest_export_decides_the_type_whatever_the_clusters_claim() -> None:
    young = export("young", 9, type=ServiceType.HEADLESS, exported_at_ms=1)  # back-dated by its cluster
    old = export("old", 5, exported_at_ms=1000)
    merged = merge([young, old])
    assert merged.service.type is ServiceType.CLUSTER_SET_IP
    assert merged.condition().reason == "TypeConflict"
    assert "young differs" in merged.condition().message


def test_ports_are_a_union_and_traffic_goes_only_where_a_port_is_served() -> None:
    merged = merge([export("a", 1, HTTP), export("b", 2, HTTP, METRICS)])
    assert merged.service.ports == (HTTP, METRICS)
    assert merged.service.exporters == (
        Exporter(ClusterId("a"), ("http",)),
        Exporter(ClusterId("b"), ("http", "metrics")),
    )
    assert merged.condition().reason == "PortConflict"
    assert "a does not serve port metrics:9090/TCP" in merged.condition().message


def test_everybody_who_does_not_serve_a_port_is_named() -> None:
    merged = merge([export("a", 1, HTTP), export("b", 2, HTTP), export("c", 3, HTTP, METRICS)])
    assert merged.condition().message == (
        "a does not serve port metrics:9090/TCP; b does not serve port metrics:9090/TCP"
    )


def test_who_has_a_port_over_another_transport_only_gets_no_traffic_for_it() -> None:
    udp = ServicePort("http", 80, Protocol.UDP)
    merged = merge([export("a", 1, HTTP), export("b", 2, udp)])
    assert merged.service.exporters == (Exporter(ClusterId("a"), ("http",)), Exporter(ClusterId("b"), ()))
    assert merged.condition().message == "port http:80/TCP of a is used; b has http:80/UDP instead"


def test_a_port_that_differs_only_in_what_is_spoken_inside_it_says_so() -> None:
    tcp = ServicePort("http", 80, app_protocol=AppProtocol.TCP)
    merged = merge([export("a", 1, HTTP), export("b", 2, tcp)])
    assert merged.condition().message == (
        "port http:80/TCP (appProtocol http) of a is used; b has appProtocol tcp instead"
    )


def test_a_port_of_the_same_name_and_another_number_belongs_to_the_oldest() -> None:
    merged = merge([export("b", 2, ServicePort("http", 8080)), export("a", 1, HTTP)])
    assert merged.service.ports == (HTTP,)
    assert merged.service.exporters[1] == Exporter(ClusterId("b"), ())
    assert "b has http:8080/TCP instead" in merged.condition().message


def test_the_same_number_over_another_transport_is_another_port() -> None:
    udp = ServicePort("dns", 53, Protocol.UDP)
    tcp = ServicePort("dns-tcp", 53, Protocol.TCP)
    merged = merge([export("a", 1, udp, tcp)])
    assert merged.service.ports == (udp, tcp)
    assert merged.conflicts == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"session_affinity": "ClientIP"}, "SessionAffinityConflict"),
        ({"labels": {"team": "x"}}, "LabelsConflict"),
        ({"annotations": {"a": "b"}}, "AnnotationsConflict"),
    ],
)
def test_other_properties_are_the_oldests_whole_set(change: dict[str, object], reason: str) -> None:
    merged = merge([export("a", 1), export("b", 2, **change)])
    assert merged.condition().reason == reason
    assert merged.service.labels == {}
    assert merged.service.session_affinity == "None"


def test_several_conflicts_are_joined_in_one_reason() -> None:
    merged = merge([export("a", 1, HTTP), export("b", 2, METRICS, type=ServiceType.HEADLESS)])
    assert merged.condition().reason == "PortConflict,TypeConflict"


def test_no_export_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one"):
        merge([])
