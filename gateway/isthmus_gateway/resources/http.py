"""How requests to an HTTP service are routed, retried and left as they are."""

from functools import cache

from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.route.v3.route_components_pb2 import (
    HeaderMatcher,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    VirtualHost,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.extensions.http.header_formatters.preserve_case.v3.preserve_case_pb2 import PreserveCaseFormatterConfig
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2 import (
    PreviousPrioritiesConfig,
)
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from isthmus_core.names import ServiceName
from isthmus_gateway.hedging import LONGEST_MS, START_MS, STEPS_MS
from isthmus_gateway.resources.encode import extension, milliseconds, no, number, packed
from isthmus_gateway.resources.flow import without_guards
from isthmus_gateway.resources.names import hedge_key, hedge_route
from isthmus_gateway.resources.samples import sampling

IDEMPOTENT = "GET|HEAD|OPTIONS|PUT|DELETE|TRACE"
"""Methods that may be sent twice (RFC 9110, section 9.2.2)."""

ALWAYS = "connect-failure,refused-stream,reset-before-request"
"""Nothing of the request has been seen by anybody: any method may be tried again."""

WHEN_IDEMPOTENT = ALWAYS + ",reset,gateway-error"
RETRIES = 3
CHOICES = 40
"""How often a retry chooses again when the choice falls on a host that it has tried.

An endpoint that refuses at once has the fewest requests under way, so a least-request choice of two prefers it three
times in four: with a handful of choices one request in two hundred met it at every retry.
"""

STREAM_IDLE_MS = 3_600_000

STREAMS_A_CLIENT = 100_000
"""With Envoy's own 1,024 a client's next gRPC stream waits until another has ended; gRPC servers have no limit."""

MAX_HEADERS = 1_000
"""Envoy's own limit is a hundred fields, where servers take what fits into their limit in bytes."""


def router() -> HttpFilter:
    """The last HTTP filter; it adds no headers of its own."""
    return HttpFilter(name="envoy.filters.http.router", typed_config=packed(Router(suppress_envoy_headers=True)))


def http1() -> Http1ProtocolOptions:
    """HTTP/1.1 as it was said: the case of names and the reason phrase stay, and so do trailers."""
    options = Http1ProtocolOptions(enable_trailers=True)
    formatter = PreserveCaseFormatterConfig(forward_reason_phrase=True)
    options.header_key_format.stateful_formatter.CopyFrom(
        extension("envoy.http.stateful_header_formatters.preserve_case", formatter)
    )
    return options


def http_connections(service: ServiceName, cluster: str, sticky: bool) -> Filter:
    """The HTTP connection manager of one service port: transparent, with retries that leave what has failed."""
    manager = HttpConnectionManager(
        stat_prefix="egress",
        route_config=RouteConfiguration(
            name=cluster,
            virtual_hosts=[
                VirtualHost(
                    name=service.host(),
                    domains=["*"],
                    routes=_routes(cluster, sticky),
                )
            ],
            validate_clusters=no(),
        ),
        http_filters=[router()],
        access_log=[sampling()],
        upgrade_configs=[HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        # A server that dies resets all its streams at once, and its clients would lose those with other servers, too.
        http2_protocol_options=without_guards(
            Http2ProtocolOptions(allow_connect=True, max_concurrent_streams=number(STREAMS_A_CLIENT))
        ),
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=milliseconds(STREAM_IDLE_MS), max_headers_count=number(MAX_HEADERS)
        ),
        http_protocol_options=http1(),
        stream_idle_timeout=milliseconds(STREAM_IDLE_MS),
        # The gateway is a wire: what the backend and the client say about themselves stays.
        server_header_transformation=HttpConnectionManager.PASS_THROUGH,
        skip_xff_append=True,
        generate_request_id=no(),
        # Whether the body is wanted, and what comes early, the backend says.
        proxy_100_continue=True,
    )
    manager.http_protocol_options.accept_http_10 = True
    manager.http_protocol_options.default_host_for_http_10 = service.host()
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=packed(manager))


def _routes(cluster: str, sticky: bool) -> list[Route]:
    """The first that matches counts: what may not be sent twice, what Envoy's runtime says, what holds for strangers.

    An idempotent request without an answer after the delay is sent to another host as well; the first answer wins. A
    failed health check does not close HTTP connections (envoy#2295), so a request that is with a frozen backend would
    wait for ever; new requests leave such a backend as soon as its check fails. What honestly takes longer is sent
    again too, so the delay follows how long answers take (hedging.py). The
    delay of a route is fixed, but Envoy's runtime chooses between routes, and that drains no connection.
    """
    routes = [_route(cluster, sticky, _unhedged())]
    for delay_ms in sorted({*STEPS_MS, LONGEST_MS} - {START_MS}):
        quick = _route(cluster, sticky, _hedged(delay_ms))
        quick.match.runtime_fraction.runtime_key = hedge_key(cluster, delay_ms)
        quick.match.runtime_fraction.default_value.SetInParent()  # nought of a hundred
        if delay_ms < START_MS:
            # Somebody may notice that a DELETE came twice: the second finds nothing. A GET changes nothing at all.
            quick.match.headers.append(HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET")))
        routes.append(quick)
    return [*routes, _route(cluster, sticky, _hedged(START_MS))]


def _route(cluster: str, sticky: bool, prototype: Route) -> Route:
    route = Route()
    route.CopyFrom(prototype)
    route.route.cluster = cluster
    if sticky:
        route.route.hash_policy.append(
            RouteAction.HashPolicy(connection_properties=RouteAction.HashPolicy.ConnectionProperties(source_ip=True))
        )
    return route


@cache
def _hedged(delay_ms: int) -> Route:
    action = RouteAction(timeout=milliseconds(0), retry_policy=_retries(WHEN_IDEMPOTENT))
    action.hedge_policy.hedge_on_per_try_timeout = True
    action.retry_policy.per_try_timeout.CopyFrom(milliseconds(delay_ms))
    return Route(name=hedge_route(delay_ms), match=RouteMatch(prefix="/"), route=action)


@cache
def _unhedged() -> Route:
    # One regular expression a service, whatever the number of delays: a compiled one takes kilobytes.
    methods = StringMatcher(safe_regex=RegexMatcher(regex=IDEMPOTENT))
    match = RouteMatch(prefix="/", headers=[HeaderMatcher(name=":method", string_match=methods, invert_match=True)])
    return Route(match=match, route=RouteAction(timeout=milliseconds(0), retry_policy=_retries(ALWAYS)))


def _retries(retry_on: str) -> RetryPolicy:
    """Every retry leaves the tier that has just failed; after the last tier the first has its turn again."""
    return RetryPolicy(
        retry_on=retry_on,
        num_retries=number(RETRIES),
        retry_back_off=RetryPolicy.RetryBackOff(base_interval=milliseconds(2), max_interval=milliseconds(50)),
        retry_priority=RetryPolicy.RetryPriority(
            name="envoy.retry_priorities.previous_priorities",
            typed_config=packed(PreviousPrioritiesConfig(update_frequency=1)),
        ),
        retry_host_predicate=[
            RetryPolicy.RetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=packed(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=CHOICES,
    )
