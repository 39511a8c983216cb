"""How much of each exported service is alive here: its endpoints, judged by Envoy's health checks."""

import msgspec

from isthmus_core.dns_mode import DnsMode, dns_mode
from isthmus_core.model import Capacity, CheckKind, Endpoint, LocalService, Protocol, ServiceType, ZoneCapacity
from isthmus_core.names import ClusterId, Locality, ServiceName

MOST_LISTED = 1000
"""Endpoints of one service with a VIP that are told one by one; with more the VIP is the better answer."""


class Judged(msgspec.Struct, frozen=True):
    """A capacity, and how many of its endpoints nobody has judged yet."""

    capacity: Capacity
    pending: int


class Verdicts:
    """What Envoy's health checks said last, by service and by the address and port that were asked."""

    def __init__(self) -> None:
        self._healthy: dict[ServiceName, dict[tuple[str, int], bool]] = {}

    def note(self, service: ServiceName, address: str, port: int, healthy: bool) -> bool:
        """Record a verdict; whether it is news."""
        known = self._healthy.setdefault(service, {})
        news = known.get((address, port)) is not healthy
        known[(address, port)] = healthy
        return news

    def of(self, service: ServiceName, address: str, port: int) -> bool | None:
        """The last verdict; None before the first."""
        return self._healthy.get(service, {}).get((address, port))

    def retain(self, local: LocalService | None, service: ServiceName) -> None:
        """Forget endpoints that are gone: one that comes back must be judged anew."""
        known = self._healthy.get(service)
        if known is None:
            return
        kept = {(e.address, number) for e in local.endpoints for number in e.ports.values()} if local else set()
        for key in [key for key in known if key not in kept]:
            del known[key]
        if not known:
            del self._healthy[service]


def judge(local: LocalService, cluster: ClusterId, verdicts: Verdicts, observed_at_ms: int = 0) -> Judged:
    """The capacity of an own service by zone.

    An endpoint is ready when its source says so and every TCP port of it passed its last check. Nobody checks headless
    services (clients talk to their endpoints themselves) or those whose check is `none`: there the source decides.
    Endpoints are listed one by one where DNS answers with them, unless there are too many for an answer; before anybody
    has looked at one of them the source is believed there, so that a restart takes no addresses away.
    """
    zones: dict[Locality, tuple[int, int]] = {}
    endpoints: list[Endpoint] = []
    pending = 0
    headless = local.type is ServiceType.HEADLESS
    checked = not headless and local.health_check.kind is not CheckKind.NONE
    for endpoint in local.endpoints:
        verdict = _verdict(endpoint, local, verdicts) if checked else True
        pending += verdict is None and endpoint.ready
        ready = endpoint.ready and verdict is True
        alive, total = zones.get(endpoint.locality, (0, 0))
        zones[endpoint.locality] = (alive + endpoint.weight * ready, total + endpoint.weight)
        endpoints.append(endpoint if ready == endpoint.ready else msgspec.structs.replace(endpoint, ready=ready))
    unseen = pending == sum(endpoint.ready for endpoint in local.endpoints)
    capacity = Capacity(
        service=local.service,
        cluster=cluster,
        zones=tuple(ZoneCapacity(where, ready, total) for where, (ready, total) in sorted(zones.items())),
        endpoints=(local.endpoints if unseen else tuple(endpoints)) if headless or _answers(local) else (),
        observed_at_ms=observed_at_ms,
    )
    return Judged(capacity, pending)


def _answers(local: LocalService) -> bool:
    """Whether the endpoints of a service with a VIP are what DNS may answer."""
    asked = local.export is not None and dns_mode(local.export.annotations) is DnsMode.ENDPOINTS
    return asked and len(local.endpoints) <= MOST_LISTED


def _verdict(endpoint: Endpoint, local: LocalService, verdicts: Verdicts) -> bool | None:
    """False as soon as one port fails, None while one has not been asked."""
    tcp = [port.name for port in local.ports if port.protocol is Protocol.TCP and port.name in endpoint.ports]
    said = [verdicts.of(local.service, endpoint.address, endpoint.ports[name]) for name in tcp]
    if any(verdict is False for verdict in said):
        return False
    return None if any(verdict is None for verdict in said) else True
