"""What the admin API shows of the registry agrees with where traffic goes."""

import msgspec

from isthmus_controller.admin import views
from isthmus_controller.registry import Registry
from isthmus_core.model import ClusterState
from unit.controller.test_registry import (
    ECHO,
    HTTP,
    A,
    B,
    capacity,
    cluster,
    export,
    gateway,
    gone,
    session,
    two_clusters,
)

STOPPED = "none of its gateways runs: none was started yet, or the last was stopped"


def stopped() -> Registry:
    """A and B export; the only gateway of A was stopped cleanly."""
    registry = two_clusters()
    registry.apply([export(B, 6), capacity(B, ready=2), gone(gateway(A)), gone(session(A))])
    return registry


def test_what_a_cluster_without_a_gateway_offers_is_not_ready_and_everything_says_why() -> None:
    registry = stopped()
    merged = registry.merged[ECHO]
    service = views.service_view(registry, merged)
    assert [(e.cluster, e.ready, e.total, e.why) for e in service.exporters] == [("a", 0, 3, STOPPED), ("b", 2, 3, "")]
    assert (service.ready, service.total) == (2, 6)
    assert [(c.cluster, c.state, c.ready, c.total, c.why) for c in views.capacity_views(registry, ECHO)] == [
        ("a", "waiting", 0, 3, STOPPED),
        ("b", "healthy", 2, 3, ""),
    ]
    told = views.explain(registry, merged, registry.clusters[B])
    assert {(c.cluster, c.ready, c.total, c.chosen) for c in told.candidates} == {
        ("a", 0, 3, False),
        ("b", 2, 3, True),
    }
    assert next(c.why for c in told.candidates if c.cluster == A) == STOPPED
    assert told.note == ""


def test_a_service_is_unserved_when_everybody_who_is_ready_is_drained() -> None:
    registry = two_clusters()
    registry.apply([export(B, 6), capacity(B, ready=2)])
    told = []
    for change in (
        cluster(A, ClusterState.DRAINING),  # B goes on
        capacity(B, ready=0),
        capacity(B, ready=1),
        cluster(B, ClusterState.DRAINING),
        capacity(A, ready=0),  # B could
        capacity(B, ready=0),  # nobody could: a matter of health
        capacity(B, ready=1),
        cluster(B),
    ):
        registry.apply([change])
        told.append(views.unserved(registry))
    echo = [str(ECHO)]
    assert told == [[], echo, [], echo, echo, [], echo, []]


def test_explain_says_when_nobody_can_ask_from_there() -> None:
    registry = stopped()
    told = views.explain(registry, registry.merged[ECHO], registry.clusters[A])
    assert told.note.startswith("a runs no gateway now")


def test_the_numbers_are_back_with_the_gateway() -> None:
    registry = stopped()
    registry.apply([gateway(A)])
    service = views.service_view(registry, registry.merged[ECHO])
    assert [(e.cluster, e.ready, e.why) for e in service.exporters] == [("a", 3, ""), ("b", 2, "")]


def test_a_cluster_whose_port_is_another_is_not_ready_and_everything_says_why() -> None:
    registry = two_clusters()
    registry.apply([export(B, 6, port=msgspec.structs.replace(HTTP, port=81)), capacity(B, ready=2)])
    service = views.service_view(registry, registry.merged[ECHO])
    assert [(e.cluster, e.ready, e.ports) for e in service.exporters] == [("a", 3, ["http"]), ("b", 0, [])]
    assert service.ready == 3 and "conflict" in service.exporters[1].why
    told = views.explain(registry, registry.merged[ECHO], registry.clusters[B])
    assert {c.cluster: c.chosen for c in told.candidates} == {"a": True, "b": False}
