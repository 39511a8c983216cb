"""Which services are asked for that nobody offers here: the signal by which a gateway could import them when needed."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.names import ServiceName
from isthmus_dns.message import wire
from isthmus_dns.watching.sketch import Hitter
from isthmus_dns.zone.zone import Zone

_KEPT = 512


class Wanted(msgspec.Struct, frozen=True, order=True):
    """A service (`namespace/name`), and about how many times a second some name of it was asked for in vain."""

    per_second: float
    service: str


def in_vain(asked: Mapping[bytes, float], zone: Zone) -> dict[bytes, float]:
    """Of the questions asked those for names that do not exist."""
    names = zone.names
    return {question: times for question, times in asked.items() if question[:-4] not in names}


def wanted(hits: Iterable[Hitter], zone: Zone, count: int = 100) -> list[Wanted]:
    """The services behind names that were asked for most, without those that exist by now; the most wanted first."""
    origins = tuple(apex.text for apex in zone.apexes)
    total: dict[str, float] = {}
    for hit in hits:
        service, names = _behind(hit.name, origins)
        if service and not any(name in zone.names for name in names):
            total[service] = total.get(service, 0.0) + hit.per_second
    return _most(total, count)


def merge_wanted(lists: Iterable[Iterable[Wanted]], count: int = 100) -> list[Wanted]:
    """What several workers saw, together."""
    total: dict[str, float] = {}
    for each in lists:
        for one in each:
            total[one.service] = total.get(one.service, 0.0) + one.per_second
    return _most(total, count)


def _most(total: dict[str, float], count: int) -> list[Wanted]:
    return sorted((Wanted(rate, service) for service, rate in total.items()), reverse=True)[:count]


@lru_cache(_KEPT)  # the same names are looked at again every second, between two answers
def _behind(name: str, origins: tuple[str, ...]) -> tuple[str, tuple[bytes, ...]]:
    """The service that `name` would belong to, and its names; "" for other shapes, such as those of search paths."""
    for origin in origins:
        above, found, _ = name.rpartition(f".svc.{origin}.")
        if found:
            *_, short, namespace = ["", "", *above.split(".")]
            try:
                service = ServiceName.of(namespace, short)
            except InvalidInput:
                break
            return str(service), tuple(wire.encode_name(service.host(each)) for each in origins)
    return "", ()
