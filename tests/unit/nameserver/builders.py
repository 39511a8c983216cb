"""Zones, feeds and questions for the tests of the DNS server."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import dns.name
import dns.rdatatype

from isthmus_dns.answering.answer import Responder
from isthmus_dns.answering.unusual import Features
from isthmus_dns.zone.apex import ZoneSpec
from isthmus_dns.zone.intake import apply_header, apply_services, mark
from isthmus_dns.zone.zone import Zone
from isthmus_sync import (
    ZONE,
    ZONE_HEADER,
    ZONE_METHOD,
    ZONE_SERVICE,
    Caller,
    Publication,
    Publishing,
    ResourceCache,
    new_server,
    publisher_handler,
)
from isthmus_sync.proto import isthmus_pb2 as pb

HTTP = pb.ServicePort(name="http", port=80, protocol=pb.TCP)
METRICS = pb.ServicePort(name="metrics", port=9090, protocol=pb.TCP)
SERIAL = 100


def service(
    name: str,
    ips: Iterable[str] = ("10.1.2.3",),
    ports: Iterable[pb.ServicePort] = (HTTP,),
    provenance: Iterable[pb.Provenance] = (),
) -> pb.ZoneService:
    """`namespace/name` with clusterset IPs."""
    namespace, _, short = name.partition("/")
    return pb.ZoneService(
        namespace=namespace, name=short, type=pb.CLUSTER_SET_IP, ports=ports, ips=ips, provenance=provenance
    )


def headless(name: str, hosts: Iterable[pb.ZoneHost]) -> pb.ZoneService:
    """`namespace/name` without a clusterset IP."""
    namespace, _, short = name.partition("/")
    return pb.ZoneService(namespace=namespace, name=short, type=pb.HEADLESS, hosts=hosts)


def near(name: str, hosts: Iterable[pb.ZoneHost], ips: Iterable[str] = ("10.1.2.3",)) -> pb.ZoneService:
    """`namespace/name` whose endpoints are the answer."""
    namespace, _, short = name.partition("/")
    return pb.ZoneService(
        namespace=namespace, name=short, ports=[HTTP], ips=ips, hosts=hosts, dns_mode=pb.DNS_ENDPOINTS
    )


def host(
    address: str, hostname: str = "", cluster: str = "east", ports: Iterable[pb.ServicePort] = (HTTP,)
) -> pb.ZoneHost:
    """A ready endpoint of a headless service."""
    return pb.ZoneHost(cluster=cluster, hostname=hostname, address=address, ports=ports)


def resources(services: Iterable[pb.ZoneService]) -> dict[str, bytes]:
    """The services as they come out of the feed."""
    return {f"{one.namespace}/{one.name}": one.SerializeToString(deterministic=True) for one in services}


def header(
    serial: int = SERIAL, cluster: str = "west", stale: bool = False, synced_at_ms: int = 0, confirmed: bool = False
) -> bytes:
    """The zone's header as it comes out of the feed."""
    return pb.ZoneHeader(
        serial=serial, cluster=cluster, stale=stale, synced_at_ms=synced_at_ms, confirmed=confirmed
    ).SerializeToString()


def responder(
    *services: pb.ZoneService,
    specs: tuple[ZoneSpec, ...] = (ZoneSpec(),),
    synced: bool = True,
    features: Features | None = None,
) -> Responder:
    """A responder whose zone has these services; none of them may be refused."""
    zone = Zone(specs, places=features.subnets.places if features else ())
    assert apply_services(zone, resources(services), ()) == {}
    assert apply_header(zone, {"zone": header()}) == {}
    mark(zone, synced, False)
    return Responder(zone, features or Features())


def question(name: str, rtype: str = "A", edns: int | None = None, **options: object) -> dns.message.Message:
    """A query; `edns` is the client's UDP size, None for a client without EDNS."""
    if edns is None:
        return dns.message.make_query(name, rtype, use_edns=False, **options)  # type: ignore[arg-type]
    return dns.message.make_query(name, rtype, use_edns=0, payload=edns, **options)  # type: ignore[arg-type]


def ask(
    server: Responder, name: str, rtype: str = "A", edns: int | None = 1232, tcp: bool = False, **options: object
) -> dns.message.Message:
    """What the server answers to one question, read by dnspython."""
    query = question(name, rtype, edns, **options)
    wire = server.respond(query.to_wire(), tcp, "127.0.0.1")
    assert wire is not None
    response = dns.message.from_wire(wire)
    assert response.id == query.id
    assert response.question == query.question
    return response


def shown(response: dns.message.Message) -> str:
    """Code and answers of a response in one line, sorted, for comparing."""
    code = dns.rcode.to_text(response.rcode())
    answers = sorted(f"{dns.rdatatype.to_text(rrset.rdtype)} {rdata}" for rrset in response.answer for rdata in rrset)
    return " | ".join([code, *answers])


class Feed:
    """An agent's zone feed on a unix socket, as the gateway serves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.services = ResourceCache(ZONE_SERVICE)
        self.header = ResourceCache(ZONE_HEADER)
        self.publication = Publication([self.services, self.header], order=ZONE)
        self.refused: dict[str, str] = {}
        self._serial = SERIAL

    @property
    def serial(self) -> int:
        """The serial of the last change."""
        return self._serial

    def publish(self, services: Iterable[pb.ZoneService] = (), removed: Iterable[str] = ()) -> None:
        """Change services, and count the serial up."""
        self._serial += 1
        with self.publication.change():
            for name, body in resources(services).items():
                self.services.put(name, body)
            for name in removed:
                self.services.remove(name)
            self.header.put("zone", header(self._serial))
            self.services.mark_synced()
            self.header.mark_synced()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve the feed while the block runs."""

        @asynccontextmanager
        async def open_feed(_: Caller) -> AsyncIterator[Publishing]:
            yield Publishing(
                self.publication,
                on_nacked=lambda nacked: self.refused.update(_reasons(nacked.rejected)),
            )

        server = new_server([publisher_handler(ZONE_METHOD, lambda caller: caller, open_feed)])
        server.add_insecure_port(f"unix:{self.path}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)
            self.path.unlink(missing_ok=True)


def _reasons(rejected: Mapping[str, object]) -> dict[str, str]:
    return {name: str(getattr(rejection, "reason", rejection)) for name, rejection in rejected.items()}
