"""Explain answers over DNS itself: `_why.<service>` and `_why.<zone>`, as TXT records of key=value (RFC 1464)."""

from isthmus_dns import wire
from isthmus_dns.records import WHY
from isthmus_dns.zone import Zone


def explain(name: bytes, zone: Zone, now: int, server_id: str) -> tuple[int, bytes] | None:
    """How many TXT records, and the records, for a `_why` name; None when there is nothing to explain at this name.

    `now` is Unix seconds. The time to live is 0: ages are true only now.
    """
    if not name.startswith(WHY):
        return None
    below = name[len(WHY) :]
    if any(below == apex.origin for apex in zone.apexes):
        texts = [_server(zone, now, server_id)]
    elif name in zone.sources:
        texts = [
            (
                f"cluster={source.cluster}",
                f"rule={source.rule}",
                f"age={_age(source.observed_at_ms, now)}",
                f"stale={_yes(source.stale)}",
            )
            for source in zone.sources[name]
        ]
    else:
        return None
    records = [wire.record(wire.NAME_POINTER, wire.TXT, 0, wire.text_rdata(*strings)) for strings in texts]
    return len(records), b"".join(records)


def _server(zone: Zone, now: int, server_id: str) -> tuple[str, ...]:
    return (
        f"server={server_id}",
        f"cluster={zone.cluster}",
        f"serial={zone.serial}",
        f"age={_age(zone.synced_at_ms, now)}",
        f"stale={_yes(zone.freshness.stale)}",
        f"services={len(zone)}",
    )


def _age(at_ms: int, now: int) -> str:
    return f"{max(0, now - at_ms // 1000)}s" if at_ms else "unknown"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
