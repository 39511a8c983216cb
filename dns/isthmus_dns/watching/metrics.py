"""Tell the counters of all workers as Prometheus metrics with CoreDNS-like names."""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from isthmus_dns.watching.traffic import SECONDS, SIZES, Report, Tally


def metrics(reports: Mapping[str, Report], restarts: int) -> Iterable[Metric]:
    """The metrics of all workers, one label `worker` apart, so that a restart looks like any counter's reset."""
    requests = CounterMetricFamily(
        "isthmus_dns_requests", "Queries received; family 1 is IPv4, 2 IPv6.", labels=["worker", "proto", "family"]
    )
    types = CounterMetricFamily(
        "isthmus_dns_requests_by_type", "Queries for our names by type, from samples.", labels=["worker", "type"]
    )
    responses = CounterMetricFamily("isthmus_dns_responses", "Answers by response code.", labels=["worker", "rcode"])
    unsent = CounterMetricFamily("isthmus_dns_unsent", "Answers that could not be sent.", labels=["worker"])
    seconds = HistogramMetricFamily(
        "isthmus_dns_request_duration_seconds", "Time to answer, the mean of each batch.", labels=["worker", "proto"]
    )
    sizes = HistogramMetricFamily(
        "isthmus_dns_response_size_bytes", "Size of answers, the mean of each batch.", labels=["worker", "proto"]
    )
    request_sizes = HistogramMetricFamily(
        "isthmus_dns_request_size_bytes", "Size of queries, the mean of each batch.", labels=["worker", "proto"]
    )
    synced = GaugeMetricFamily("isthmus_dns_synced", "1 once the zone is fully known.", labels=["worker"])
    stale = GaugeMetricFamily("isthmus_dns_stale", "1 while answers are marked as stale.", labels=["worker"])
    connected = GaugeMetricFamily("isthmus_dns_feed_connected", "1 while the feed is there.", labels=["worker"])
    services = GaugeMetricFamily("isthmus_dns_services", "Services in the zone.", labels=["worker"])
    serial = GaugeMetricFamily("isthmus_dns_serial", "Serial of the SOA record.", labels=["worker"])
    connections = GaugeMetricFamily("isthmus_dns_tcp_connections", "Open TCP connections.", labels=["worker"])
    over = CounterMetricFamily("isthmus_dns_tcp_connections_refused", "Connections over a limit.", labels=["worker"])
    limited = CounterMetricFamily("isthmus_dns_rate_limited", "Answers over the rate.", labels=["worker", "action"])
    untapped = CounterMetricFamily("isthmus_dns_dnstap_dropped", "Queries dnstap was too slow for.", labels=["worker"])
    again = CounterMetricFamily("isthmus_dns_worker_restarts", "Workers that had to be started again.")
    again.add_metric([], restarts)
    for worker, report in reports.items():
        for proto, counts in (("udp", report.traffic.udp), ("tcp", report.traffic.tcp)):
            requests.add_metric([worker, proto, "1"], counts.requests - counts.requests_six)
            requests.add_metric([worker, proto, "2"], counts.requests_six)
            request_sizes.add_metric([worker, proto], _buckets(SIZES, counts.request_sizes), counts.request_sizes.total)
            seconds.add_metric([worker, proto], _buckets(SECONDS, counts.seconds), counts.seconds.total)
            sizes.add_metric([worker, proto], _buckets(SIZES, counts.sizes), counts.sizes.total)
        for rtype, times in sorted(report.types.items()):
            types.add_metric([worker, rtype], round(times))
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
        untapped.add_metric([worker], report.untapped)
    return (
        *(requests, types, request_sizes, responses, unsent, seconds, sizes, synced, stale),
        *(connected, services, serial, connections, over, limited, untapped, again),
    )


def _buckets(bounds: Sequence[float], tally: Tally) -> list[tuple[str, float]]:
    found = []
    running = 0
    for bound, count in zip((*map(repr, map(float, bounds)), "+Inf"), tally.counts, strict=True):
        running += count
        found.append((bound, float(running)))
    return found
