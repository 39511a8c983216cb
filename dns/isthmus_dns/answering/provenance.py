"""Explain answers over DNS itself: `_why.<service>` and `_why.<zone>`, as TXT records of key=value (RFC 1464)."""

import bisect
from itertools import accumulate

from isthmus_core.names import Locality
from isthmus_dns.message import wire
from isthmus_dns.zone.nearest import nearest
from isthmus_dns.zone.records import WHY
from isthmus_dns.zone.service import Host, Reasons, Source
from isthmus_dns.zone.zone import Zone

_ROOM = 64_000
"""Bytes of records, so that they fit into a message with the question and our OPT record."""
_MOST = 2000
"""No more records than can have room."""

FELL_BACK = "no healthy endpoint has an address that can be reached from here"
"""Why a service whose endpoints should be the answer has its VIP as the answer."""


def explain(
    name: bytes, zone: Zone, now: int, server_id: str, client: Locality | None = None
) -> tuple[int, bytes] | None:
    """How many TXT records, and the records, for a `_why` name; None when there is nothing to explain at this name.

    `now` is Unix seconds; `client` is where the answer goes to, as far as a named resolver said so. The time to live is
    0: ages are true only now.
    """
    if not name.startswith(WHY):
        return None
    below = name[len(WHY) :]
    if any(below == apex.origin for apex in zone.apexes):
        texts = [_server(zone, now, server_id)]
    elif (reasons := zone.reasons.get(name)) is not None:
        texts = _service(reasons, zone, now, client)
    else:
        return None
    records = [_record(strings) for strings in texts[:_MOST]]
    # A message ends at 65,535 bytes, over TCP too: the clusters are in the order of failover, and the last ones go.
    told = bisect.bisect_right([*accumulate(map(len, records))], _ROOM)
    if told < len(texts):
        records = [*records[:told], _record((f"omitted={len(texts) - told}",))]
    return len(records), b"".join(records)


def _record(strings: tuple[str, ...]) -> bytes:
    return wire.record(wire.NAME_POINTER, wire.TXT, 0, wire.text_rdata(*strings))


def _server(zone: Zone, now: int, server_id: str) -> tuple[str, ...]:
    return (
        f"server={server_id or 'unnamed'}",
        f"cluster={zone.cluster}",
        f"serial={zone.serial}",
        f"age={_age(_known_at(zone, now), now)}",
        f"stale={_yes(zone.freshness.stale)}",
        f"feed={'lost' if zone.feed_lost_at else 'connected'}",
        # Who lost the gateway does not know what the gateway has lost since.
        f"controller={'unknown' if zone.feed_lost_at else 'connected' if zone.confirmed else 'lost'}",
        f"services={len(zone)}",
    )


def _service(reasons: Reasons, zone: Zone, now: int, client: Locality | None) -> list[tuple[str, ...]]:
    """One record for each cluster; before them how the answer was chosen, where it need not be the VIP."""
    answering = {host.cluster for size in (4, 16) for host in nearest(_sized(reasons, size), client)}
    texts: list[tuple[str, ...]] = []
    if reasons.endpoints and not reasons.direct:
        texts.append(("mode=endpoints", "answer=vip", f"rule={FELL_BACK}"))
    elif reasons.endpoints:
        texts.append(("mode=endpoints", "answer=endpoints", f"client={client or 'unknown'}"))
    for source in reasons.sources:
        if not source.cluster:
            texts.append(("cluster=none", f"rule={source.rule}"))
            continue
        via = "vip" if not reasons.direct else "endpoints"
        if reasons.endpoints and reasons.direct and source.cluster not in answering:
            via = "none"
        texts.append(_cluster(source, via, zone, now))
    return texts


def _sized(reasons: Reasons, size: int) -> list[Host]:
    return [host for host in reasons.hosts if len(host.address) == size]


def _cluster(source: Source, via: str, zone: Zone, now: int) -> tuple[str, ...]:
    known_at = _known_at(zone, now)
    if source.confirmed_at_ms:
        known_at = min(known_at, source.confirmed_at_ms // 1000)
    return (
        f"cluster={source.cluster}",
        f"rule={source.rule}",
        f"tier={source.tier}",
        f"via={via}",
        f"age={_age(known_at, now)}",
        f"changed={_age(source.observed_at_ms // 1000, now)}",
        f"stale={_yes(source.stale or zone.freshness.stale)}",
    )


def _known_at(zone: Zone, now: int) -> int:
    """When what we know was true for certain, in Unix seconds; 0 when nobody said."""
    if zone.confirmed:
        return zone.feed_lost_at or now
    return zone.synced_at_ms // 1000


def _age(at: int, now: int) -> str:
    return f"{max(0, now - at)}s" if at else "unknown"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
