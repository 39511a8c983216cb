"""Show the state of the DNS server over HTTP: health, metrics, and what is asked for."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp.web import Request, StreamResponse
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from isthmus_dns.listening.addresses import Address
from isthmus_dns.watching.missing import merge_wanted
from isthmus_dns.watching.sketch import merge_top
from isthmus_dns.watching.traffic import Report
from isthmus_kit.readiness import Readiness
from isthmus_kit.telemetry import new_registry
from isthmus_kit.web import json_response, make_app, serving


@asynccontextmanager
async def serving_state(
    where: Address,
    readiness: Readiness,
    numbers: Callable[[], Iterable[Metric]],
    reports: Callable[[], Iterable[Report]],
) -> AsyncIterator[int]:
    """Serve /healthz, /readyz, /metrics, /top and /missing as long as the block runs; gives the port.

    `reports` are what the workers said last. Raises InvalidInput when nothing can listen there.
    """
    registry = new_registry()
    registry.register(Numbers(numbers))
    app = make_app(readiness, registry)

    async def top(_: Request) -> StreamResponse:
        return json_response(merge_top(report.top for report in reports()))

    async def missing(_: Request) -> StreamResponse:
        return json_response(merge_wanted(report.missing for report in reports()))

    app.router.add_get("/top", top)
    app.router.add_get("/missing", missing)
    async with serving(app, where.host, where.port) as port:
        yield port


class Numbers(Collector):
    """Metrics as Prometheus wants them, from a function that tells them."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """What they are now."""
        return self._collect()
