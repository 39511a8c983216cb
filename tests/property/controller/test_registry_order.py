"""Any order of changes and re-reads publishes what building from scratch publishes."""

from collections.abc import Iterable
from random import Random

import hypothesis.strategies as st
from hypothesis import given, settings

from isthmus_controller.registry import Published, Registry
from isthmus_controller.store.keys import Keys
from isthmus_controller.store.replica import Held, apply, differences
from isthmus_controller.store.values import Change, KeyValue
from isthmus_core.model import Capacity, Cluster, ClusterState, Export, Gateway, ServicePort, ServiceType, ZoneCapacity
from isthmus_core.names import ClusterId, Locality, ServiceName
from isthmus_sync import codec
from isthmus_sync.proto import isthmus_pb2 as pb

CLUSTERS = st.sampled_from([ClusterId("a"), ClusterId("b"), ClusterId("c")])
SERVICES = st.sampled_from([ServiceName("shop", "echo"), ServiceName("shop", "cart")])
KEYS = Keys.of("fed.example")
State = dict[tuple[str, str, ClusterId | None], bytes]


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, bytes | None]:
    cluster, service = draw(CLUSTERS), draw(SERVICES)
    gateway = draw(st.sampled_from(["g1", "g2"]))
    zone = Locality("aws", "eu", cluster)
    number = draw(st.integers(0, 2))
    port = ServicePort("http", 80 + number)
    values: dict[str, bytes] = {
        f"clusters/{cluster}": codec.cluster_message(
            Cluster(cluster, zone, state=draw(st.sampled_from(list(ClusterState))))
        ).SerializeToString(),
        f"gateways/{cluster}/{gateway}": codec.gateway_message(
            Gateway(gateway, cluster, f"10.0.0.{number}", 15443)
        ).SerializeToString(),
        f"sessions/{cluster}/{gateway}": pb.Session(held=number > 0, since_ms=number).SerializeToString(),
        f"exports/{service}/{cluster}": codec.export_message(
            Export(service, cluster, ServiceType.CLUSTER_SET_IP, (port,), labels={"b": "1", "a": str(number)})
        ).SerializeToString(),
        f"endpoints/{service}/{cluster}": codec.capacity_message(
            Capacity(service, cluster, (ZoneCapacity(zone, number, 2),))
        ).SerializeToString(),
        f"exports/{service}": b"",
    }
    key = draw(st.sampled_from(sorted(values)))
    return key, draw(st.sampled_from([values[key], values[key], None, b"\xff", b"\x08\x63"]))


def told(state: State, published: list[Published]) -> None:
    for resource in published:
        key = (resource.type_url, resource.name, resource.audience)
        assert state.get(key) != resource.body, "nothing is told twice"
        if resource.body is None:
            del state[key]
        else:
            state[key] = resource.body


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(changes(), st.sampled_from(["watch", "missed", "reread"])), max_size=40), st.randoms())
def test_any_order_of_changes_and_rereads_publishes_what_a_fresh_replica_publishes(
    steps: list[tuple[tuple[str, bytes | None], str]], random: Random
) -> None:
    etcd: dict[str, KeyValue] = {}
    held: dict[str, Held] = {}
    registry, state = Registry(KEYS), State()

    def take(changes: Iterable[Change]) -> None:
        apply(held, changes)
        told(state, registry.apply(changes))

    for revision, ((path, value), how) in enumerate(steps, start=1):
        key = KEYS.root + path
        before = etcd.pop(key, None)
        if value is not None:
            etcd[key] = KeyValue(key, value, revision, before.create_revision if before else revision)
        if how == "watch":
            now = etcd.get(key)
            take([Change(key, value, revision, now.create_revision if now else 0)])
        elif how == "reread":
            take(differences(held, etcd.values(), revision))
    take(differences(held, etcd.values(), len(steps)))
    fresh, from_scratch = Registry(KEYS), State()
    shuffled = list(etcd.values())
    random.shuffle(shuffled)
    for kv in shuffled:
        told(from_scratch, fresh.apply([Change(kv.key, kv.value, kv.mod_revision, kv.create_revision)]))
    assert state == from_scratch
    assert registry.quarantined == fresh.quarantined
    assert registry.clusters == fresh.clusters
    assert registry.merged == fresh.merged
    assert set(registry.orphans()) == set(fresh.orphans())
