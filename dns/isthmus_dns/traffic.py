"""Count queries and answers cheaply, a batch at a time, and tell them as Prometheus metrics with CoreDNS-like names."""

import bisect
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from isthmus_dns import wire
from isthmus_dns.sketch import Hitter

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
    responses: int = 0
    unsent: int = 0
    seconds: Tally = msgspec.field(default_factory=lambda: Tally([0] * (len(SECONDS) + 1)))
    sizes: Tally = msgspec.field(default_factory=lambda: Tally([0] * (len(SIZES) + 1)))


class Traffic(msgspec.Struct):
    """All counters of one worker."""

    udp: Proto = msgspec.field(default_factory=Proto)
    tcp: Proto = msgspec.field(default_factory=Proto)
    connections: int = 0
    connections_refused: int = 0

    def batch(self, proto: str, requests: int, answered: int, unsent: int, octets: int, seconds: float) -> None:
        """Count a batch; every query of it is said to have taken the batch's mean time, the answers its mean size."""
        counts = self.udp if proto == "udp" else self.tcp
        counts.requests += requests
        counts.responses += answered
        counts.unsent += unsent
        counts.seconds.add(SECONDS, seconds / requests, requests)
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
    top: tuple[Hitter, ...] = ()
    withheld: int = 0
    slipped: int = 0
    untapped: int = 0
    """Queries that dnstap's receiver was too slow for."""


def rcode_counts(traffic: Traffic, nxdomain: int, outcomes: Mapping[int, int]) -> dict[str, int]:
    """Answers by response code. The fast way counts only NXDOMAIN; what nobody else counted was NOERROR."""
    counts = {wire.RCODES.get(rcode, str(rcode)): count for rcode, count in outcomes.items()}
    if nxdomain:
        counts["NXDOMAIN"] = counts.get("NXDOMAIN", 0) + nxdomain
    answered = traffic.udp.responses + traffic.udp.unsent + traffic.tcp.responses
    counts["NOERROR"] = counts.get("NOERROR", 0) + max(0, answered - sum(counts.values()))
    return counts


def metrics(reports: Mapping[str, Report], restarts: int) -> Iterable[Metric]:
    """The metrics of all workers, one label `worker` apart, so that a restart looks like any counter's reset."""
    requests = CounterMetricFamily("isthmus_dns_requests", "Queries received.", labels=["worker", "proto"])
    responses = CounterMetricFamily("isthmus_dns_responses", "Answers by response code.", labels=["worker", "rcode"])
    unsent = CounterMetricFamily("isthmus_dns_unsent", "Answers that could not be sent.", labels=["worker"])
    seconds = HistogramMetricFamily(
        "isthmus_dns_request_duration_seconds", "Time to answer, the mean of each batch.", labels=["worker", "proto"]
    )
    sizes = HistogramMetricFamily(
        "isthmus_dns_response_size_bytes", "Size of answers, the mean of each batch.", labels=["worker", "proto"]
    )
    synced = GaugeMetricFamily("isthmus_dns_synced", "1 once the zone is fully known.", labels=["worker"])
    stale = GaugeMetricFamily("isthmus_dns_stale", "1 while answers are marked as stale.", labels=["worker"])
    connected = GaugeMetricFamily("isthmus_dns_feed_connected", "1 while the feed is there.", labels=["worker"])
    services = GaugeMetricFamily("isthmus_dns_services", "Services in the zone.", labels=["worker"])
    serial = GaugeMetricFamily("isthmus_dns_serial", "Serial of the SOA record.", labels=["worker"])
    connections = GaugeMetricFamily("isthmus_dns_tcp_connections", "Open TCP connections.", labels=["worker"])
    over = CounterMetricFamily("isthmus_dns_tcp_connections_refused", "Connections over a limit.", labels=["worker"])
    limited = CounterMetricFamily("isthmus_dns_rate_limited", "Answers over the rate.", labels=["worker", "action"])
    again = CounterMetricFamily("isthmus_dns_worker_restarts", "Workers that had to be started again.")
    again.add_metric([], restarts)
    for worker, report in reports.items():
        for proto, counts in (("udp", report.traffic.udp), ("tcp", report.traffic.tcp)):
            requests.add_metric([worker, proto], counts.requests)
            seconds.add_metric([worker, proto], _buckets(SECONDS, counts.seconds), counts.seconds.total)
            sizes.add_metric([worker, proto], _buckets(SIZES, counts.sizes), counts.sizes.total)
        for rcode, count in sorted(report.rcodes.items()):
            responses.add_metric([worker, rcode], count)
        unsent.add_metric([worker], report.traffic.udp.unsent)
        synced.add_metric([worker], report.synced)
        stale.add_metric([worker], report.stale)
        connected.add_metric([worker], report.connected)
        services.add_metric([worker], report.services)
        serial.add_metric([worker], report.serial)
        connections.add_metric([worker], report.traffic.connections)
        limited.add_metric([worker, "drop"], report.withheld)
        limited.add_metric([worker, "slip"], report.slipped)
        over.add_metric([worker], report.traffic.connections_refused)
    return (
        *(requests, responses, unsent, seconds, sizes, synced, stale),
        *(connected, services, serial, connections, over, limited, again),
    )


def _buckets(bounds: Sequence[float], tally: Tally) -> list[tuple[str, float]]:
    found = []
    running = 0
    for bound, count in zip((*map(repr, map(float, bounds)), "+Inf"), tally.counts, strict=True):
        running += count
        found.append((bound, float(running)))
    return found
