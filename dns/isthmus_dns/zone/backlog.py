"""Know a zone before it is compiled: what somebody asks for is taken in first, the rest when there is time."""

from collections.abc import Mapping

from isthmus_dns.zone.intake import applying_services, bits
from isthmus_dns.zone.steps import Steps, finished
from isthmus_dns.zone.zone import Zone

_SVC = b"svc"
_PART = 4096


class Backlog:
    """Services of the first full state that the zone does not have yet; it goes when all of them are taken in.

    Every answer is the one that the whole zone gives, because whoever looks for one calls `settle` before.
    """

    def __init__(self, zone: Zone, services: Mapping[str, bytes]) -> None:
        self._zone = zone
        self._waiting = dict(services)
        self._namespaces = {name.partition("/")[0] for name in services}
        self.refused: dict[str, str] = {}
        if services:
            zone.backlog = self

    def __len__(self) -> int:
        return len(self._waiting)

    def settle(self, name: bytes) -> None:
        """Take in whatever the answers for the lower-case wire name `name` come from."""
        for apex in self._zone.apexes:  # a zone may lie inside another one, where its names could stand too
            *above, last = _labels_below(name, apex.origin) or (b"",)
            # Services stand at <service>.<namespace>.svc; all other names are below one, or lead to some.
            if last != _SVC:
                continue
            match [label.decode("latin-1") for label in above[-2:]]:
                case [service, namespace]:
                    if (named := f"{namespace}/{service}") in self._waiting:
                        finished(self._taking(named))
                case [namespace]:
                    if namespace in self._namespaces:
                        self._settle_one(f"{namespace}/", name)
                case _:
                    self._settle_one("", name)

    def parts(self) -> list[dict[str, bytes]]:
        """All that waits, in parts, each of which takes half a millisecond (`taking`): nobody waits for the rest."""
        return bits(self._waiting, _PART)

    def taking(self, part: Mapping[str, bytes]) -> Steps[None]:
        """Take in what of this part still waits."""
        for service in part:
            if service in self._waiting:
                yield from self._taking(service)

    def _settle_one(self, prefix: str, name: bytes) -> None:
        """Take in services whose names begin so until one makes `name` exist: an empty name above them."""
        while name not in self._zone.names:
            service = next((each for each in self._waiting if each.startswith(prefix)), None)
            if service is None:
                return
            finished(self._taking(service))

    def _taking(self, service: str) -> Steps[None]:
        # It waits until it is taken in: who asks between two steps does not wait for the others.
        self.refused |= yield from applying_services(self._zone, {service: self._waiting[service]}, ())
        self._waiting.pop(service, None)
        if not self._waiting:
            self._zone.backlog = None


def _labels_below(name: bytes, origin: bytes) -> list[bytes] | None:
    """The labels of `name` below `origin`, from outside and so perhaps no name at all; None when it is elsewhere."""
    if not name.endswith(origin):
        return None
    labels = []
    at, cut = 0, len(name) - len(origin)
    while at < cut:
        end = at + 1 + name[at]
        labels.append(name[at + 1 : end])
        at = end
    return labels if at == cut else None
