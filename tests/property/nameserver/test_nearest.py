"""Services answered with endpoints: for whatever endpoints there are, and wherever the client is."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from isthmus_core.names import Locality
from isthmus_core.route import rank
from isthmus_dns.message import wire
from isthmus_dns.zone.nearest import nearest
from isthmus_dns.zone.records import near_records, service_records
from isthmus_dns.zone.service import Host, Port, Service
from isthmus_dns.zone.zone import Zone

ORIGIN = wire.encode_name("clusterset.local")
PLACES = tuple(Locality(*parts) for parts in (("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("z", "b", "c")))
PORTS = tuple(Port(b"\5_" + name + b"\4_tcp", number) for name, number in ((b"http", 80), (b"grpc", 81)))

clients = st.sampled_from([None, *PLACES])


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    address = bytes((10, 0, 0, draw(st.integers(1, 9)))) if draw(st.booleans()) else bytes(15) + b"\1"
    served = tuple(Port(port.owner, port.number + 8000) for port in draw(st.sets(st.sampled_from(PORTS))))
    owner = b"\3h" + address.hex().encode()[-2:]
    cluster, locality = draw(st.sampled_from(["east", "west", "north"])), draw(st.sampled_from(PLACES))
    return Host(owner, address, served, cluster, locality, draw(st.integers(0, 3)))


services = st.lists(hosts(), max_size=8).map(
    lambda found: Service(b"\3web\4shop\3svc", False, (bytes(4),), PORTS, tuple(found), (), endpoints=True)
)


@given(st.lists(hosts(), max_size=8), clients)
def test_nobody_nearer_is_passed_over(found: list[Host], client: Locality | None) -> None:
    def distance(host: Host) -> tuple[int, int]:
        near = rank(client, host.locality) if client is not None and host.locality is not None else 0
        return int(near), host.tier

    answer = nearest(found, client)

    assert bool(answer) == bool(found)
    assert list(map(distance, answer)) == sorted(map(distance, answer))
    if found:
        best = min(map(distance, found))
        clusters = {host.cluster for host in found if distance(host) == best}
        assert set(answer) == {host for host in found if host.cluster in clusters}


@given(services, clients)
def test_which_names_and_types_exist_does_not_depend_on_the_client(service: Service, client: Locality | None) -> None:
    usual, there = (near_records(service, ORIGIN, place) for place in (None, client))
    assert [(rrset.owner, rrset.rtype) for rrset in there] == [(rrset.owner, rrset.rtype) for rrset in usual]


@given(services)
def test_srv_targets_exist_and_have_the_address_of_their_port(service: Service) -> None:
    records = service_records(service, ORIGIN)
    addresses = {rrset.owner: rrset.rdatas for rrset in records if rrset.rtype in (wire.A, wire.AAAA)}
    serving = {(host.owner, port.number) for host in service.hosts for port in host.ports}
    for rrset in records:
        if rrset.rtype == wire.SRV and service.hosts:
            for rdata in rrset.rdatas:
                number, target = struct.unpack_from("!H", rdata, 4)[0], rdata[6:]
                assert target in addresses and (target[:4], number) in serving
            assert {helper.owner for helper in rrset.helped_by} == {rdata[6:] for rdata in rrset.rdatas}


@given(st.lists(services, max_size=5))
def test_whatever_a_service_was_nothing_of_it_is_left(history: list[Service]) -> None:
    zone = Zone(places=PLACES)
    empty = dict(zone.ready), dict(zone.long), dict(zone.names)
    for service in history:
        zone.put(service)
        assert all(len(answers) == len(PLACES) for answers in zone.tailored.values())
        assert zone.tailored.keys() <= zone.ready.keys() | zone.long.keys()
    for service in history:
        zone.remove(service.owner)
    assert (zone.ready, zone.long, zone.names) == empty
    assert (zone.tailored, zone.reasons) == ({}, {})
