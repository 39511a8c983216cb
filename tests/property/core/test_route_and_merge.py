"""What must hold for every fleet: order does not matter, nothing is lost, no tier is empty."""

import random

from hypothesis import given
from hypothesis import strategies as st

from isthmus_core.merge import merge
from isthmus_core.model import (
    Capacity,
    Cluster,
    ClusterState,
    Export,
    Gateway,
    Here,
    ServicePort,
    ServiceType,
    ZoneCapacity,
)
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_core.route import route
from isthmus_sync import codec

SERVICE = ServiceName("shop", "echo")
localities = st.builds(
    Locality, st.sampled_from(["aws", "gcp"]), st.sampled_from(["r1", "r2"]), st.sampled_from(["a", "b"])
)
ports = st.lists(
    st.builds(ServicePort, st.sampled_from(["", "http", "admin"]), st.sampled_from([80, 81, 443])),
    min_size=1,
    max_size=3,
    unique_by=(lambda p: p.name, lambda p: p.port),
).map(tuple)
cluster_names = st.sampled_from(["a", "b", "c", "d"]).map(ClusterId)
exports = st.lists(
    st.builds(
        Export,
        st.just(SERVICE),
        cluster_names,
        st.sampled_from(ServiceType),
        ports,
        first_revision=st.integers(1, 5),
        session_affinity=st.sampled_from(["None", "ClientIP"]),
        labels=st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"), max_size=1),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda e: e.cluster,
)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[dict[ClusterId, Cluster], dict[ClusterId, Capacity]]:
    clusters, capacities = {}, {}
    for name in draw(st.lists(cluster_names, unique=True)):
        place = draw(localities)
        gateways = draw(st.sampled_from([(), (Gateway("g", name, "127.0.0.1", 1),)]))
        state = draw(st.sampled_from(ClusterState))
        clusters[name] = Cluster(name, place, state=state, gateways=gateways, session_held=draw(st.booleans()))
    for name in draw(st.lists(cluster_names, unique=True)):
        total = draw(st.integers(0, 3))
        zone = ZoneCapacity(draw(localities), draw(st.integers(0, total)), total)
        capacities[name] = Capacity(SERVICE, name, (zone,))
    return clusters, capacities


@given(exports, st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_the_order_of_exports(given_exports: list[Export], chance: random.Random) -> None:
    shuffled = given_exports[:]
    chance.shuffle(shuffled)
    assert merge(shuffled) == merge(given_exports)


@given(exports)
def test_every_port_of_an_import_is_served_by_somebody_and_claims_are_unique(given_exports: list[Export]) -> None:
    merged = merge(given_exports).service
    served = {name for exporter in merged.exporters for name in exporter.port_names}
    assert {port.name for port in merged.ports} == served
    assert len({port.name for port in merged.ports}) == len(merged.ports)
    assert len({(port.protocol, port.port) for port in merged.ports}) == len(merged.ports)


@given(exports, fleets(), localities)
def test_tiers_are_never_empty_and_name_only_candidates_that_were_chosen(
    given_exports: list[Export], fleet: tuple[dict[ClusterId, Cluster], dict[ClusterId, Capacity]], place: Locality
) -> None:
    imported = merge(given_exports).service
    decided = route(imported, *fleet, Here(ClusterId("a"), place))
    chosen = {(c.cluster, c.locality) for c in decided.candidates if c.chosen}
    for port in decided.ports:
        for tier in port.tiers:
            assert tier
            assert all((target.cluster, target.locality) in chosen and target.weight > 0 for target in tier)
        assert all(target.weight > 0 and (target.cluster, target.locality) not in chosen for target in port.last_resort)
    assert all(candidate.why for candidate in decided.candidates)
    remote = {e.cluster for e in imported.exporters if e.cluster != "a"}
    assert remote <= {candidate.cluster for candidate in decided.candidates}


@given(exports)
def test_exports_and_imports_survive_their_messages(given_exports: list[Export]) -> None:
    for export in given_exports:
        assert codec.export_value(codec.export_message(export)) == export
    imported = merge(given_exports).service
    assert codec.import_value(codec.import_message(imported)) == imported


@given(fleets())
def test_clusters_and_capacities_survive_their_messages(
    fleet: tuple[dict[ClusterId, Cluster], dict[ClusterId, Capacity]],
) -> None:
    for cluster in fleet[0].values():
        assert codec.cluster_value(codec.cluster_message(cluster)) == cluster
    for capacity in fleet[1].values():
        assert codec.capacity_value(codec.capacity_message(capacity)) == capacity
