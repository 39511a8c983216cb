"""The zone: every answer compiled when a service changes, one service at a time, never when it is asked for."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.names import Locality
from isthmus_dns.message import wire
from isthmus_dns.zone.apex import Apex, ZoneSpec
from isthmus_dns.zone.compiled import Long, Ready, compile_answer
from isthmus_dns.zone.records import WHY, RRset, choosing_records, making_records
from isthmus_dns.zone.service import Reasons, Service, reasons_of
from isthmus_dns.zone.steps import MANY, Steps, finished
from isthmus_dns.zone.vip import Answers, compile_vip

_IN = wire.IN.to_bytes(2, "big")
_SOA_IN = wire.SOA.to_bytes(2, "big") + _IN


class Freshness(msgspec.Struct, frozen=True):
    """How well the zone is known: `synced` since the first full state, `stale` when the feed is gone for too long."""

    synced: bool = False
    stale: bool = False


class _Part(msgspec.Struct, frozen=True):
    """What one service put into the zone, to take it out again."""

    keys: tuple[bytes, ...]
    names: tuple[bytes, ...]


class Waiting(Protocol):
    """Services that are known and not compiled yet (`backlog`)."""

    def __len__(self) -> int: ...

    def settle(self, name: bytes) -> None:
        """Compile what the answers for this lower-case name come from."""


class Zone:
    """Answers by question for one or more origins.

    `ready` and `long` map a lower-case question (name, type, class in wire form) to its answer; `names` counts, for
    each name that exists, the services that need it: names without a record of their own are the empty non-terminals
    (RFC 8020). All changes happen inside one call, so that no query ever sees a half-changed service.
    """

    def __init__(
        self,
        specs: Sequence[ZoneSpec] = (ZoneSpec(),),
        ttl: int = 5,
        negative_ttl: int = 5,
        places: Sequence[Locality] = (),
    ) -> None:
        if not specs:
            raise InvalidInput("a DNS server without a zone has nothing to say", "Name at least one zone.")
        self.ttl = ttl
        self.ready: dict[bytes, Ready] = {}
        self.long: dict[bytes, Long] = {}
        self.names: dict[bytes, int] = {}
        self.places = tuple(places)
        """Where clients can be, as far as somebody can tell: `tailored` has an answer for each."""
        self.tailored: dict[bytes, tuple[Ready | Long, ...]] = {}
        """Of questions whose answer depends on the client's place, the answers in the order of `places`."""
        self.reasons: dict[bytes, Reasons] = {}
        """Of each `_why` name what it tells."""
        self.freshness = Freshness()
        self.cluster = ""
        self.synced_at_ms = 0
        self.confirmed = False
        """Whether the gateway has a controller that confirms what it knows: then it is as fresh as the feed."""
        self.feed_lost_at = 0
        """Unix seconds since when the feed is gone; 0 while it is there."""
        self.feed_stale = False
        # The longest origin first: a zone below another one answers for its own names.
        self.apexes = sorted((Apex(spec, ttl, negative_ttl) for spec in specs), key=lambda apex: -len(apex.origin))
        if len({apex.origin for apex in self.apexes}) != len(self.apexes):
            raise InvalidInput("a zone is named twice", "Name each zone once.")
        origins = [apex.origin for apex in self.apexes]
        # Names are counted up to here: nothing above our zones is ours.
        self._tops = frozenset(o for o in origins if not any(o != other and o.endswith(other) for other in origins))
        self._parts: dict[bytes, _Part] = {}
        self._headers: dict[bytes, _Part] = {}
        self._tailored_of: dict[bytes, tuple[bytes, ...]] = {}
        self.backlog: Waiting | None = None
        """What the zone does not have yet: whoever looks for an answer here has its name settled before."""
        self.watchers: list[Callable[[Iterable[bytes]], None]] = []
        """Told of each change with the questions whose answers it may have changed, in the same breath."""
        for apex in self.apexes:
            self._compile_apex(apex)

    def __len__(self) -> int:
        return len(self._parts) + (0 if self.backlog is None else len(self.backlog))

    def put(self, service: Service) -> None:
        """Take in one service: compile it, and exchange its answers for the old ones."""
        finished(self.putting(service))

    def putting(self, service: Service) -> Steps[None]:
        """`put` in steps: whoever asks between them is answered from before the change."""
        records: list[RRset] = []
        answers: Answers = []
        owners: list[bytes] = []
        explained: list[bytes] = []
        for apex in self.apexes:
            name = service.owner + apex.origin
            quick = compile_vip(name, service, self.ttl)
            if quick is None:
                sets = yield from making_records(service, apex.origin)
                records += sets
                quick = (yield from self._compiling(sets)), list(dict.fromkeys([rrset.owner for rrset in sets]))
            answers += quick[0]
            owners += quick[1]
            if service.sources and quick[0]:
                explained.append(WHY + name)
        owners += explained
        if owners and max(map(len, owners)) > 255:
            raise InvalidInput(f"the names of {wire.name_text(service.owner + bytes(1))} are longer than 255 octets")
        names = self._names_of(owners)
        if len(names) > MANY:
            yield
        tailored: dict[bytes, tuple[Ready | Long, ...]] = {}
        if self.places and service.endpoints and service.hosts:
            tailored = yield from self._tailoring(service, records)
        self._exchange(self._parts, service.owner, answers, names)
        self._forget(service.owner)
        if explained:
            self.reasons.update(dict.fromkeys(explained, reasons_of(service)))
        if tailored:
            self.tailored.update(tailored)
            self._tailored_of[service.owner] = tuple(tailored)

    def remove(self, owner: bytes) -> None:
        """Take out the service `<svc>.<ns>.svc`; one that is not here is no error."""
        if owner in self._parts:
            self._exchange(self._parts, owner, [], ())
            del self._parts[owner]
            self._forget(owner)

    def owners(self) -> Iterable[bytes]:
        """The services that are in the zone."""
        return self._parts.keys()

    @property
    def serial(self) -> int:
        """The serial of all our SOA records."""
        return self.apexes[0].serial

    def advance(self, serial: int) -> None:
        """Take a newer serial for all zones; an older one is passed over, so that it only grows."""
        for apex in self.apexes:
            if apex.advance(serial):
                soa = apex.soa_record()
                self.ready[soa.owner + _SOA_IN] = compile_answer(soa, self.ttl)  # type: ignore[assignment] # always fits
                self._tell((soa.owner + _SOA_IN,))

    def apex_of(self, name: bytes) -> Apex | None:
        """The zone that the lower-case wire name `name` lies in; None when it is not ours."""
        for apex in self.apexes:
            origin = apex.origin
            if name.endswith(origin):
                cut = len(name) - len(origin)
                at = 0
                while at < cut:
                    at += 1 + name[at]
                if at == cut:  # else the origin's bytes stand in the middle of a label
                    return apex
        return None

    def _forget(self, owner: bytes) -> None:
        for apex in self.apexes:
            self.reasons.pop(WHY + owner + apex.origin, None)
        for key in self._tailored_of.pop(owner, ()):
            del self.tailored[key]

    def _tailoring(self, service: Service, records: list[RRset]) -> Steps[dict[bytes, tuple[Ready | Long, ...]]]:
        """Compile the answers that differ from place to place."""
        usual = {(rrset.owner, rrset.rtype): rrset for rrset in records}
        found = {}
        for apex in self.apexes:
            everywhere = []
            for place in self.places:
                yield
                everywhere.append((yield from choosing_records(service, apex.origin, place)))
            # Which owners and types there are does not depend on the place, and neither does their order.
            for sets in zip(*everywhere, strict=True):
                owner, rtype = sets[0].owner, sets[0].rtype
                if any(rrset != usual[owner, rtype] for rrset in sets):
                    yield
                    found[_key(sets[0])] = tuple(compile_answer(rrset, self.ttl) for rrset in sets)
        return found

    def _compile_apex(self, apex: Apex) -> None:
        records = apex.records()
        owners = [*(rrset.owner for rrset in records), *apex.inner_names()]
        ttls = dict.fromkeys((wire.NS, wire.A, wire.AAAA), apex.delegation_ttl)
        answers = [(_key(rrset), compile_answer(rrset, ttls.get(rrset.rtype, self.ttl))) for rrset in records]
        self._exchange(self._headers, apex.origin, answers, self._names_of(owners))

    def _compiling(self, records: list[RRset]) -> Steps[Answers]:
        answers: Answers = []
        room = MANY
        for rrset in records:
            if room <= 0:
                yield
                room = MANY
            answers.append((_key(rrset), compile_answer(rrset, self.ttl)))
            room -= len(rrset.rdatas)
        return answers

    def _exchange(self, parts: dict[bytes, _Part], part: bytes, answers: Answers, names: tuple[bytes, ...]) -> None:
        old = parts.get(part)
        ready, long = self.ready, self.long
        for key, answer in answers:
            if isinstance(answer, Long):
                long[key] = answer
                ready.pop(key, None)
            else:
                ready[key] = answer
                if long:
                    long.pop(key, None)
        keys = tuple([key for key, _ in answers])
        self._tell(keys)
        new = _Part(keys, names)
        if old is None:
            parts[part] = new
            self._count(new.names, 1)
            return
        if new == old:
            return  # the usual change: other addresses; what was there already is not kept twice
        parts[part] = new
        gone = set(old.keys).difference(keys)
        for key in gone:
            ready.pop(key, None)
            long.pop(key, None)
        if gone:
            self._tell(gone)
        if new.names != old.names:
            self._count(new.names, 1)
            self._count(old.names, -1)

    def _tell(self, questions: Iterable[bytes]) -> None:
        for watch in self.watchers:
            watch(questions)

    def _names_of(self, owners: Iterable[bytes]) -> tuple[bytes, ...]:
        """The owners and all names between them and their zone's origin, each once."""
        found: dict[bytes, None] = {}
        tops = self._tops
        for owner in owners:
            name = owner
            while name not in found:
                found[name] = None
                if name in tops:
                    break
                name = name[1 + name[0] :]
        return tuple(found)

    def _count(self, names: tuple[bytes, ...], change: int) -> None:
        counts = self.names
        for name in names:
            count = counts.get(name, 0) + change
            if count:
                counts[name] = count
            else:
                del counts[name]


def _key(rrset: RRset) -> bytes:
    """The question that a record set answers."""
    return rrset.owner + rrset.rtype.to_bytes(2, "big") + _IN
