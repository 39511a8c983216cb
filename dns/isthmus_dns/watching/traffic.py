"""Count queries and answers cheaply, a batch at a time; a worker reports the counts to its supervisor."""

import bisect
from collections.abc import Mapping, Sequence

import msgspec

from isthmus_dns.message import wire
from isthmus_dns.watching.missing import Wanted
from isthmus_dns.watching.sketch import Hitter

SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0)
SIZES = (64, 128, 256, 512, 1023, 1232, 4095, 16383, 65535)


class Tally(msgspec.Struct):
    """A histogram: how many values fell at or below each bound and not below an earlier one; the last is the rest."""

    counts: list[int]
    total: float = 0.0

    def add(self, bounds: Sequence[float], value: float, times: int = 1) -> None:
        """Count `value` `times` times."""
        self.counts[bisect.bisect_left(bounds, value)] += times
        self.total += value * times


class Proto(msgspec.Struct):
    """What went over UDP, or over TCP."""

    requests: int = 0
    requests_six: int = 0
    """How many of them came over IPv6."""
    responses: int = 0
    unsent: int = 0
    seconds: Tally = msgspec.field(default_factory=lambda: Tally([0] * (len(SECONDS) + 1)))
    sizes: Tally = msgspec.field(default_factory=lambda: Tally([0] * (len(SIZES) + 1)))
    request_sizes: Tally = msgspec.field(default_factory=lambda: Tally([0] * (len(SIZES) + 1)))


class Traffic(msgspec.Struct):
    """All counters of one worker."""

    udp: Proto = msgspec.field(default_factory=Proto)
    tcp: Proto = msgspec.field(default_factory=Proto)
    connections: int = 0
    connections_refused: int = 0

    def batch(
        self,
        proto: str,
        requests: int,
        answered: int,
        unsent: int,
        octets: int,
        seconds: float,
        asked: int = 0,
        six: bool = False,
    ) -> None:
        """Count a batch; every query of it is said to have taken the batch's mean time, and to have its mean size.

        `asked` are the octets of the queries, `octets` those of the answers; `six` when it came over IPv6.
        """
        counts = self.udp if proto == "udp" else self.tcp
        counts.requests += requests
        counts.responses += answered
        counts.unsent += unsent
        if six:
            counts.requests_six += requests
        counts.seconds.add(SECONDS, seconds / requests, requests)
        counts.request_sizes.add(SIZES, asked / requests, requests)
        if answered:
            counts.sizes.add(SIZES, octets / answered, answered)


class Report(msgspec.Struct, frozen=True):
    """What a worker tells its supervisor once a second."""

    traffic: Traffic
    rcodes: Mapping[str, int]
    connected: bool
    synced: bool
    stale: bool
    services: int
    serial: int
    refused: int
    types: Mapping[str, float] = {}
    """About how many questions for each type there were: they are sampled."""
    top: tuple[Hitter, ...] = ()
    missing: tuple[Wanted, ...] = ()
    withheld: int = 0
    slipped: int = 0
    untapped: int = 0
    """Queries that dnstap's receiver was too slow for."""


def type_counts(counts: dict[str, float], asked: Mapping[bytes, float]) -> None:
    """Count questions by type, as many as were `asked` for each; types without a name of their own together."""
    for question, times in asked.items():
        name = wire.TYPES.get(int.from_bytes(question[-4:-2], "big"), "other")
        counts[name] = counts.get(name, 0.0) + times


def rcode_counts(traffic: Traffic, nxdomain: int, outcomes: Mapping[int, int]) -> dict[str, int]:
    """Answers by response code. The fast way counts only NXDOMAIN; what nobody else counted was NOERROR."""
    counts = {wire.RCODES.get(rcode, str(rcode)): count for rcode, count in outcomes.items()}
    if nxdomain:
        counts["NXDOMAIN"] = counts.get("NXDOMAIN", 0) + nxdomain
    answered = traffic.udp.responses + traffic.udp.unsent + traffic.tcp.responses
    counts["NOERROR"] = counts.get("NOERROR", 0) + max(0, answered - sum(counts.values()))
    return counts
