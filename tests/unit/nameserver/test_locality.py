"""Services that are answered with endpoints: the nearest healthy ones, for each kind of client."""

import dns.edns
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus_core.errors import InvalidInput
from isthmus_core.names import Locality
from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.subnet import IpNetwork, SubnetMap, parse_networks, parse_place
from isthmus_dns.zone.intake import apply_services
from isthmus_sync.codec import locality_message
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import METRICS, ask, near, question, resources, responder, service, shown

NAME = "web.shop.svc.clusterset.local"
RESOLVER = "198.51.100.7"
PLACES = ("10.1.0.0/16=aws/eu-west-1/a", "10.2.0.0/16=gcp/us-east1/b", "10.1.2.0/24=gcp/us-east1/b")


def endpoint(
    address: str, cluster: str = "east", where: str = "aws/eu-west-1/a", tier: int = 0, port: int = 8080
) -> pb.ZoneHost:
    ports = [pb.ServicePort(name="http", port=port, protocol=pb.TCP)] if port else []
    return pb.ZoneHost(
        cluster=cluster, address=address, tier=tier, ports=ports, locality=locality_message(Locality.parse(where))
    )


NEAR = endpoint("10.9.0.1")
OTHER_ZONE = endpoint("10.9.0.2", where="aws/eu-west-1/b", tier=1)
FAR = endpoint("10.8.0.1", "west", "gcp/us-east1/b", tier=2)


def server(*hosts: pb.ZoneHost, ips: tuple[str, ...] = ("10.1.2.3",), places: tuple[str, ...] = PLACES) -> Responder:
    features = Features(
        subnets=SubnetMap(map(parse_place, places)), subnet_resolvers=parse_networks(["198.51.100.0/24"])
    )
    return responder(near("shop/web", hosts, ips), features=features)


def ordered(response: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in response.answer for rdata in rrset]


def test_the_endpoints_of_the_nearest_cluster_are_the_answer_the_nearest_first() -> None:
    under_test = server(FAR, OTHER_ZONE, NEAR)
    assert ordered(ask(under_test, NAME)) == ["10.9.0.1", "10.9.0.2"]
    assert shown(ask(under_test, NAME, "AAAA")) == "NOERROR"


def test_when_the_nearest_cluster_has_none_left_the_next_one_answers() -> None:
    under_test = server(NEAR, FAR)
    apply_services(under_test.zone, resources([near("shop/web", [FAR])]), ())
    assert ordered(ask(under_test, NAME)) == ["10.8.0.1"]
    assert shown(ask(under_test, "10-9-0-1." + NAME)) == "NXDOMAIN"


def test_without_any_endpoint_the_vip_is_the_answer_and_says_so() -> None:
    under_test = server()
    assert shown(ask(under_test, NAME)) == "NOERROR | A 10.1.2.3"
    assert ordered(ask(under_test, f"_http._tcp.{NAME}", "SRV")) == [f"0 100 80 {NAME}."]
    told = near("shop/web", [])
    told.provenance.add(cluster="west", rule="anywhere")
    apply_services(under_test.zone, resources([told]), ())
    why = ordered(ask(under_test, f"_why.{NAME}", "TXT"))
    rule = "no healthy endpoint has an address that can be reached from here"
    assert why[0] == f'"mode=endpoints" "answer=vip" "rule={rule}"'
    assert '"via=vip"' in why[1]


def test_each_kind_of_address_comes_from_the_nearest_cluster_that_has_it() -> None:
    under_test = server(endpoint("fd00::9"), FAR)
    assert shown(ask(under_test, NAME, "AAAA")) == "NOERROR | AAAA fd00::9"
    assert shown(ask(under_test, NAME, "A")) == "NOERROR | A 10.8.0.1"


def test_srv_records_give_the_port_of_each_endpoint_under_a_name_of_its_own() -> None:
    under_test = server(NEAR, endpoint("10.9.0.3", port=9999), endpoint("fd00::9"))
    for name in (f"_http._tcp.{NAME}", NAME):
        response = ask(under_test, name, "SRV")
        assert ordered(response) == [
            f"0 100 8080 10-9-0-1.{NAME}.",
            f"0 100 9999 10-9-0-3.{NAME}.",
            f"0 100 8080 fd00-0000-0000-0000-0000-0000-0000-0009.{NAME}.",
        ]
        assert len(response.additional) == 3
    assert shown(ask(under_test, f"10-9-0-3.{NAME}")) == "NOERROR | A 10.9.0.3"
    # MCS DNS 2.3: only headless services have names of clusters.
    assert shown(ask(under_test, f"east.{NAME}")) == "NXDOMAIN"


def test_a_port_that_only_a_farther_cluster_serves_leads_there() -> None:
    told = near("shop/web", [NEAR, endpoint("10.8.0.1", "west", tier=2)])
    told.ports.append(METRICS)
    told.hosts[1].ports.append(METRICS)
    under_test = responder(told)
    assert ordered(ask(under_test, NAME)) == ["10.9.0.1"]
    assert ordered(ask(under_test, f"_metrics._tcp.{NAME}", "SRV")) == [f"0 100 9090 10-8-0-1.{NAME}."]


def subnet(response: dns.message.Message) -> tuple[str, int, int] | None:
    found = [option for option in response.options if isinstance(option, dns.edns.ECSOption)]
    return (found[0].address, found[0].srclen, found[0].scopelen) if found else None


def asked_for(
    under_test: Responder, client: str, rtype: str = "A", name: str = NAME, resolver: str = RESOLVER
) -> dns.message.Message:
    address, _, length = client.partition("/")
    query = question(name, rtype, 1232, options=[dns.edns.ECSOption(address, int(length))])
    return dns.message.from_wire(under_test.respond(query.to_wire(), client=resolver) or b"")


@pytest.mark.parametrize(
    ("client", "expected", "scope"),
    [
        ("10.1.9.0/24", "10.9.0.1", 21),  # 10.1.2.0/24 is elsewhere: the /21 is the longest part without it
        ("10.1.2.0/24", "10.8.0.1", 24),
        ("10.2.3.0/24", "10.8.0.1", 16),
        ("203.0.113.0/24", "10.9.0.1", 1),  # unknown: as everybody; but not for 0.0.0.0/1, where some are known
        ("10.0.0.0/8", "10.9.0.1", 16),  # too short to say: more bits are wanted
        ("0.0.0.0/0", "10.9.0.1", 0),
    ],
)
def test_a_named_resolver_gets_the_answer_for_its_client(client: str, expected: str, scope: int) -> None:
    under_test = server(NEAR, FAR)
    response = asked_for(under_test, client)
    assert ordered(response) == [expected]
    address, _, length = client.partition("/")
    assert subnet(response) == (address, int(length), scope)


def test_clients_with_ipv6_addresses_have_places_too() -> None:
    under_test = server(NEAR, FAR, places=("2001:db8::/32=gcp/us-east1/b", "2001:db8:1::/48=aws/eu-west-1/a"))
    for client, expected, scope in (
        ("2001:db8:ff00::/56", "10.8.0.1", 33),
        ("2001:db8:1:200::/56", "10.9.0.1", 48),
        ("2001:d00::/24", "10.9.0.1", 25),
        ("10.2.3.0/24", "10.9.0.1", 0),
    ):
        response = asked_for(under_test, client)
        assert (ordered(response), subnet(response)) == ([expected], (*client.split("/")[:1], int(client[-2:]), scope))


def test_srv_records_and_reasons_follow_the_client_too() -> None:
    told = near("shop/web", [NEAR, FAR])
    told.provenance.extend([pb.Provenance(cluster="east"), pb.Provenance(cluster="west")])
    under_test = server()
    apply_services(under_test.zone, resources([told]), ())

    assert ordered(asked_for(under_test, "10.2.0.0/24", "SRV")) == [f"0 100 8080 10-8-0-1.{NAME}."]
    why = ordered(asked_for(under_test, "10.2.0.0/24", "TXT", f"_why.{NAME}"))
    assert why[0] == '"mode=endpoints" "answer=endpoints" "client=gcp/us-east1/b"'
    assert ['"via=endpoints"' in line for line in why[1:]] == [False, True]
    assert '"client=unknown"' in ordered(ask(under_test, f"_why.{NAME}", "TXT"))[0]


def test_what_is_the_same_for_everybody_holds_for_everybody() -> None:
    under_test = server(NEAR)
    for name, rtype in ((NAME, "A"), (NAME, "AAAA"), (NAME, "MX"), ("nope." + NAME, "A"), ("clusterset.local", "SOA")):
        assert subnet(asked_for(under_test, "10.1.9.0/24", rtype, name)) == ("10.1.9.0", 24, 0)
    apply_services(under_test.zone, resources([service("shop/web")]), ())
    assert subnet(asked_for(under_test, "10.1.9.0/24")) == ("10.1.9.0", 24, 0)
    assert not under_test.zone.tailored


def test_the_word_of_any_other_resolver_does_not_count() -> None:
    under_test = server(NEAR, FAR)
    response = asked_for(under_test, "10.2.3.0/24", resolver="203.0.113.1")
    assert (ordered(response), subnet(response)) == (["10.9.0.1"], None)


def test_a_client_that_wants_no_attention_gets_none() -> None:
    """`dig +subnet=0` sends no address family at all."""
    under_test = server(NEAR, FAR)
    option = b"\0\x08\0\4" + bytes(4)
    query = question(NAME, "A", 1232).to_wire()[:-2] + len(option).to_bytes(2, "big") + option
    response = under_test.respond(query, client=RESOLVER) or b""
    assert response[3] & 15 == 0  # dnspython cannot read such an option
    assert bytes((10, 9, 0, 1)) in response and response.endswith(option)


def test_a_service_that_is_removed_leaves_nothing_behind() -> None:
    under_test = server(NEAR, FAR)
    assert under_test.zone.tailored
    apply_services(under_test.zone, {}, ["shop/web"])
    assert (under_test.zone.tailored, under_test.zone.reasons) == ({}, {})
    assert shown(ask(under_test, NAME)) == "NXDOMAIN"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.1.0.0/16", "is not provider/region/zone"),
        ("10.1.2.3/16=aws/eu/a", "has host bits set"),
        ("elsewhere=aws/eu/a", "does not say where a network is"),
        ("10.1.0.0/16=aws", "is not provider/region/zone"),
    ],
)
def test_a_place_that_cannot_be_read_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_place(text)


def test_a_network_is_in_one_place() -> None:
    with pytest.raises(InvalidInput, match="in two places"):
        SubnetMap(map(parse_place, ("10.0.0.0/8=a/b/c", "10.0.0.0/8=a/b/d")))


short = st.tuples(st.integers(0, 255), st.integers(0, 8))


def network(value: tuple[int, int]) -> IpNetwork:
    (found,) = parse_networks([f"{value[0]}.0.0.0/{value[1]}"])
    return found


@given(told=st.dictionaries(short.map(network), st.sampled_from("abc"), max_size=8), client=st.integers(0, 255))
def test_an_answer_holds_for_the_whole_prefix_that_it_names(told: dict[IpNetwork, str], client: int) -> None:
    """Every address within the scope gets the same answer, and it is that of the longest prefix that was told."""
    under_test = SubnetMap((each, Locality("x", "y", zone)) for each, zone in told.items())

    def place(address: int) -> str | None:
        within = [each for each in told if network((address, 8)).subnet_of(each)]  # type: ignore[arg-type]
        return told[max(within, key=lambda each: each.prefixlen)] if within else None

    found, scope = under_test.find(network((client, 8)))
    assert scope <= 8
    assert (None if found is None else under_test.places[found].zone) == place(client)
    block = network((client, scope))
    assert {place(other) for other in range(256) if network((other, 8)).subnet_of(block)} == {place(client)}  # type: ignore[arg-type]
