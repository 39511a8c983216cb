"""Servers and services that fuzzing asks."""

from collections.abc import Sequence

from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.clients.cookies import Cookies
from isthmus_dns.clients.subnet import SubnetMap, parse_networks, parse_place
from isthmus_dns.zone.apex import NameServer, ZoneSpec
from isthmus_dns.zone.intake import mark
from isthmus_sync.proto import isthmus_pb2 as pb
from unit.nameserver.builders import (
    HTTP,
    METRICS,
    headless,
    host,
    near,
    responder,
    service,
)

CLIENT, STRANGER = "192.0.2.1", "198.51.100.7"
NOW = 1_700_000_000
SECRET = b"0123456789abcdef"


def endpoint(
    address: str, cluster: str, provider: str = "aws", region: str = "eu-west-1", tier: int = 0
) -> pb.ZoneHost:
    """A ready endpoint of a service that is answered with its nearest ones."""
    locality = pb.Locality(provider=provider, region=region, zone="a")
    return pb.ZoneHost(cluster=cluster, address=address, ports=[HTTP], locality=locality, tier=tier)


PLACES = ("10.1.0.0/16=aws/eu-west-1/a", "10.2.0.0/16=gcp/us-east1/b", "10.1.2.0/24=gcp/us-east1/b")
FEATURES = Features(
    server_id="dns-7",
    cookies=Cookies(SECRET),
    subnet_resolvers=parse_networks((f"{CLIENT}/32",)),
    subnets=SubnetMap(map(parse_place, PLACES)),
)
SERVICES = (
    service("shop/web", ["10.1.2.3", "fd00::3"], [HTTP, METRICS], [pb.Provenance(cluster="east", rule="nearest")]),
    headless("shop/db", [host(f"10.0.0.{n}", f"db-{n}", "east" if n % 2 else "west") for n in range(30)]),
    headless("shop/queue", []),
    near("shop/api", [endpoint("10.9.0.1", "east"), endpoint("10.8.0.1", "west", "gcp", "us-east1", 1)]),
)
ZONES = (ZoneSpec(), ZoneSpec("fed.example.com", (NameServer("ns1.fed.example.com", ("192.0.2.53", "fd00::53")),)))


def make_server(
    synced: bool = True,
    stale: bool = False,
    features: Features | None = None,
    services: Sequence[pb.ZoneService] = SERVICES,
) -> Responder:
    """A server with these services in all zones."""
    server = responder(*services, specs=ZONES, synced=synced, features=features)
    if stale:
        mark(server.zone, True, True)
        server.freshen()
    server.tick(NOW)
    return server


SERVERS = (
    make_server(),
    make_server(features=FEATURES),
    make_server(synced=False, features=FEATURES),
    make_server(stale=True),
    make_server(stale=True, features=FEATURES),
)
