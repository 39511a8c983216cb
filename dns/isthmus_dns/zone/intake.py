"""Take changes of the feed into the zone, resource by resource: what is wrong is refused alone, the rest goes on."""

from collections.abc import Iterable, Mapping

from google.protobuf.message import DecodeError

from isthmus_core.errors import InvalidInput
from isthmus_dns.zone.reading import read
from isthmus_dns.zone.records import WHY
from isthmus_dns.zone.service import reading_service, service_owner
from isthmus_dns.zone.steps import Steps, finished
from isthmus_dns.zone.zone import Freshness, Zone
from isthmus_sync.proto import isthmus_pb2 as pb

ZONE_SERVICE = "type.googleapis.com/isthmus.v1.ZoneService"
ZONE_HEADER = "type.googleapis.com/isthmus.v1.ZoneHeader"
LONGEST_NAME = 255
_BIT = 16_384
"""Bytes of services that are taken in at once."""
_LEAST = 200
"""What a service costs however short it is, in bytes of a long one."""
_LONG = 4096
"""Bytes of a service that is taken in step by step."""


def bits(changed: Mapping[str, bytes], size: int = _BIT) -> list[dict[str, bytes]]:
    """The changes in bits, each of which takes a millisecond or two; a longer service takes more, but in steps."""
    found: list[dict[str, bytes]] = []
    room = 0
    for name, body in changed.items():
        if room <= 0:
            found.append({})
            room = size
        found[-1][name] = body
        room -= _LEAST + len(body)
    return found


def apply_services(zone: Zone, changed: Mapping[str, bytes], removed: Iterable[str]) -> dict[str, str]:
    """Compile what changed; gives each refused service with the reason; that one keeps its last good answers."""
    return finished(applying_services(zone, changed, removed))


def applying_services(zone: Zone, changed: Mapping[str, bytes], removed: Iterable[str]) -> Steps[dict[str, str]]:
    """`apply_services`, with pauses while a long service is taken in."""
    refused = {}
    for name, body in changed.items():
        try:
            if len(body) < _LONG:
                zone.put(read(name, body))
            else:
                yield from zone.putting((yield from reading_service(name, body)))
        except InvalidInput as wrong:
            refused[name] = str(wrong)
    for name in removed:
        try:
            zone.remove(service_owner(name))
        except InvalidInput:
            continue  # a name that we never took in
    return refused


def refusal(name: str, body: bytes, trial: Zone) -> str | None:
    """Why `apply_services` would refuse this service; None when it would not. `trial` stays as it is."""
    try:
        service = read(name, body)
        # Only names can still be too long. Those of endpoints are made of many labels; the others are added up.
        below = max((len(port.owner) for port in service.ports), default=0)
        above = max(len(apex.origin) for apex in trial.apexes)
        if service.hosts or max(below, len(WHY)) + len(service.owner) + above > LONGEST_NAME:
            trial.put(service)
            trial.remove(service.owner)
    except InvalidInput as wrong:
        return str(wrong)
    return None


def apply_header(zone: Zone, changed: Mapping[str, bytes]) -> dict[str, str]:
    """Take in the state of the zone as a whole; the first header makes the zone synced."""
    refused = {}
    for name, body in changed.items():
        try:
            header = pb.ZoneHeader.FromString(body)
        except DecodeError:
            refused[name] = f"zone header {name!r} is not a ZoneHeader message"
            continue
        zone.cluster = header.cluster
        zone.synced_at_ms = header.synced_at_ms
        zone.confirmed = header.confirmed
        zone.feed_stale = header.stale
        zone.advance(header.serial)
    return refused


def with_serial(body: bytes, serial: int) -> bytes:
    """A header that says this serial."""
    header = pb.ZoneHeader.FromString(body)
    if header.serial == serial:
        return body
    header.serial = serial
    return header.SerializeToString(deterministic=True)


def mark(zone: Zone, synced: bool, feed_lost: bool) -> bool:
    """Say how fresh the zone is; True when that changed. A zone that was synced once stays so (DESIGN section 9)."""
    known = synced or zone.freshness.synced
    freshness = Freshness(known, known and (feed_lost or zone.feed_stale))
    changed = freshness != zone.freshness
    zone.freshness = freshness
    return changed
