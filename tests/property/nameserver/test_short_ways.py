"""The short ways through which the commonest services go give exactly what the long ways give."""

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus_core.errors import InvalidInput
from isthmus_dns.zone.apex import ZoneSpec
from isthmus_dns.zone.compiled import compile_answer
from isthmus_dns.zone.intake import apply_services, refusal
from isthmus_dns.zone.reading import read
from isthmus_dns.zone.records import service_records
from isthmus_dns.zone.service import Service, read_service
from isthmus_dns.zone.vip import compile_vip
from isthmus_dns.zone.zone import Zone
from isthmus_sync.proto import isthmus_pb2 as pb

ORIGIN = b"\x0aclusterset\5local\0"

labels = st.sampled_from(["a", "web", "db-1", "x" * 63, "x" * 64, "Web", "-", ""])
ports = st.lists(
    st.builds(
        pb.ServicePort,
        name=st.sampled_from(["", "http", "grpc", "p" * 62, "p" * 63]),
        port=st.sampled_from([0, 1, 80, 81, 65535, 65536]),
        protocol=st.sampled_from([pb.PROTOCOL_UNSPECIFIED, pb.TCP, pb.UDP, pb.SCTP]),
    ),
    max_size=4,
)
addresses = st.one_of(
    st.sampled_from(["10.0.0.1", "10.0.0.02", "10.0.0.256", "1.2.3", "1.2.3.4.5", "", "10.0.0.1\n", "١.2.3.4"]),
    st.sampled_from(["fd00::1", "fd00::", "::", "::1", "fd00::g", "fd00::12345", "FD00::A", "::ffff:1.2.3.4", "fd00"]),
    st.sampled_from(["fe80::1%2", "fe80::%2", ":1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1::2::3", " ::1", "::+1"]),
    st.ip_addresses().map(str),
)
provenance = st.builds(
    pb.Provenance,
    cluster=st.sampled_from(["east", "west"]),
    rule=st.sampled_from(["", "same region", "r" * 200]),
    observed_at_ms=st.integers(0, 2**40),
    stale=st.booleans(),
)
hosts = st.builds(pb.ZoneHost, cluster=st.just("east"), address=addresses, hostname=labels)
messages = st.builds(
    pb.ZoneService,
    schema=st.sampled_from([0, 1, 300]),
    namespace=labels,
    name=labels,
    type=st.sampled_from([pb.CLUSTER_SET_IP, pb.CLUSTER_SET_IP, pb.HEADLESS]),
    ports=ports,
    ips=st.lists(addresses, max_size=3),
    hosts=st.lists(hosts, max_size=1),
    provenance=st.lists(provenance, max_size=2),
    dns_mode=st.sampled_from(list(pb.DnsMode.values())),
)
sound = st.builds(
    pb.ZoneService,
    namespace=st.sampled_from(["shop", "n" * 63]),
    name=st.sampled_from(["web", "w" * 63]),
    ports=st.lists(
        st.builds(
            pb.ServicePort,
            name=st.sampled_from(["", "http", "grpc", "admin", "p" * 62]),
            port=st.sampled_from([80, 81, 443, 65535]),
            protocol=st.sampled_from([pb.TCP, pb.UDP, pb.SCTP]),
        ),
        max_size=6,
    ),
    ips=st.lists(st.ip_addresses().map(str), max_size=8),
)


def outcome(name: str, body: bytes, *, quickly: bool) -> Service | str:
    """What came in, or the sentence that refuses it."""
    try:
        return (read if quickly else read_service)(name, body)
    except InvalidInput as wrong:
        return str(wrong)


@settings(max_examples=150, deadline=None)
@given(messages)
def test_a_service_is_read_the_same_by_both_ways(message: pb.ZoneService) -> None:
    name, body = f"{message.namespace}/{message.name}", message.SerializeToString(deterministic=True)
    for _ in range(2):  # what the short way learned the first time
        assert outcome(name, body, quickly=True) == outcome(name, body, quickly=False)


@settings(max_examples=150, deadline=None)
@given(sound, st.data())
def test_broken_bytes_are_read_the_same_by_both_ways(message: pb.ZoneService, draw: st.DataObject) -> None:
    name, body = f"{message.namespace}/{message.name}", bytearray(message.SerializeToString(deterministic=True))
    for _ in range(draw.draw(st.integers(0, 3))):
        body[draw.draw(st.integers(0, len(body) - 1))] = draw.draw(st.integers(0, 255))
    whole = bytes(body[: draw.draw(st.integers(0, len(body)))] if draw.draw(st.booleans()) else body)
    assert outcome(name, whole, quickly=True) == outcome(name, whole, quickly=False)


@settings(max_examples=150, deadline=None)
@given(sound, st.sampled_from([0, 5, 86400]))
def test_a_service_is_compiled_the_same_by_both_ways(message: pb.ZoneService, ttl: int) -> None:
    service = read_service(f"{message.namespace}/{message.name}", message.SerializeToString())
    name = service.owner + ORIGIN
    quick = compile_vip(name, service, ttl)

    sets = service_records(service, ORIGIN)
    answers = [(one.owner + one.rtype.to_bytes(2, "big") + b"\0\1", compile_answer(one, ttl)) for one in sets]
    if quick is not None:
        assert quick == (answers, list(dict.fromkeys(one.owner for one in sets)))


def test_the_commonest_service_takes_the_short_way() -> None:
    ports = [pb.ServicePort(name="http", port=80), pb.ServicePort(name="metrics", port=9090)]
    message = pb.ZoneService(namespace="shop", name="web", ports=ports, ips=["10.1.2.3", "fd00::3"])
    service = read("shop/web", message.SerializeToString(deterministic=True))

    assert compile_vip(service.owner + ORIGIN, service, 5) is not None


@settings(max_examples=150, deadline=None)
@given(st.one_of(messages, sound), st.sampled_from(["clusterset.local", f"{'z' * 63}.{'y' * 50}.example"]))
def test_what_would_be_refused_is_known_beforehand(message: pb.ZoneService, origin: str) -> None:
    name, body = f"{message.namespace}/{message.name}", message.SerializeToString(deterministic=True)
    trial, zone = Zone((ZoneSpec(origin),)), Zone((ZoneSpec(origin),))

    assert refusal(name, body, trial) == apply_services(zone, {name: body}, ()).get(name)
    assert len(trial) == 0
