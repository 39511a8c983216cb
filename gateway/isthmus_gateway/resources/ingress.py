"""What other clusters meet: one mutual-TLS listener, behind which only exported services can be reached."""

from collections.abc import Iterable

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation
from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3 import rbac_pb2 as rbac
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteAction,
    RouteMatch,
    VirtualHost,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy.extensions.matching.common_inputs.ssl.v3.ssl_inputs_pb2 import UriSanInput
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from xds.core.v3.extension_pb2 import TypedExtensionConfig
from xds.type.matcher.v3 import matcher_pb2 as xds_matcher
from xds.type.matcher.v3 import regex_pb2 as xds_regex
from xds.type.matcher.v3 import string_pb2 as xds_string

from isthmus_core.model import LocalService, Protocol, ServicePort
from isthmus_core.names import CLUSTERSET_ZONE, ClusterId
from isthmus_gateway.resources import names
from isthmus_gateway.resources.assignments import build_export_assignments
from isthmus_gateway.resources.bootstrap import HTTP_OPTIONS
from isthmus_gateway.resources.callers import PATIENCE_MS, doors, reads_callers
from isthmus_gateway.resources.checks import active_checks, balancing, circuit_breakers
from isthmus_gateway.resources.encode import Resources, ads, encoded, extension, milliseconds, no, number, packed
from isthmus_gateway.resources.flow import LINE, TURN, short_line, tunnels
from isthmus_gateway.resources.http import router
from isthmus_gateway.resources.services import upstream_http

IDLE_MS = 3_600_000
# Anything else cannot name a service port, so it never becomes part of an Envoy cluster's name.
# (No counted repetitions: Envoy refuses regular expressions whose program is longer than 100.)
AUTHORITY = r"[a-z0-9-]+\.[a-z0-9-]+\.svc\." + CLUSTERSET_ZONE.replace(".", r"\.") + r":[0-9]+"


def build_ingress(address: str, port: int, callers: Iterable[ClusterId]) -> dict[str, bytes]:
    """The ingress listener, with a door for each of the other members.

    No export changes it: a CONNECT authority names its Envoy cluster by itself. The cluster exists exactly as long as
    the service is exported, so that an export costs two resources and no route (docs/decisions/0001).
    """
    manager = HttpConnectionManager(
        stat_prefix="ingress",
        route_config=RouteConfiguration(
            name=names.INGRESS,
            virtual_hosts=[VirtualHost(name="exported", domains=["*"], routes=[_health(), _tunnels()])],
            validate_clusters=no(),
        ),
        http_filters=[router()],
        codec_type=HttpConnectionManager.HTTP2,
        http2_protocol_options=tunnels(ping_ms=5_000, patience_ms=5_000),
        upgrade_configs=[HttpConnectionManager.UpgradeConfig(upgrade_type="CONNECT")],
        stream_idle_timeout=milliseconds(IDLE_MS),
        early_header_mutation_extensions=[extension("envoy.http.early_header_mutation.header_mutation", _local_name())],
        generate_request_id=no(),
    )
    listener = Listener(
        name=names.INGRESS,
        address=Address(socket_address=SocketAddress(address=address, port_value=port)),
        listener_filters=[reads_callers()],
        listener_filters_timeout=milliseconds(PATIENCE_MS),
        filter_chains=doors(
            callers,
            [
                Filter(name="envoy.filters.network.rbac", typed_config=packed(_one_name())),
                Filter(name="envoy.filters.network.http_connection_manager", typed_config=packed(manager)),
            ],
        ),
        per_connection_buffer_limit_bytes=number(LINE),
        socket_options=[short_line()],  # those who are accepted have it, too
        stat_prefix=names.INGRESS,
    )
    return {names.INGRESS: encoded(listener)}


def build_export(local: LocalService, health_log: str) -> Resources:
    """An exported service behind the ingress; its health verdicts are the export's capacity."""
    ports = [port for port in local.ports if port.protocol is Protocol.TCP]
    return Resources(
        clusters={
            names.local_cluster(local.service, port.port): encoded(_local(local, port, health_log)) for port in ports
        },
        endpoints=build_export_assignments(local),
    )


def _local(local: LocalService, port: ServicePort, health_log: str) -> Cluster:
    message = Cluster(
        name=names.local_cluster(local.service, port.port),
        type=Cluster.EDS,
        eds_cluster_config=Cluster.EdsClusterConfig(eds_config=ads()),
        connect_timeout=milliseconds(500),
        per_connection_buffer_limit_bytes=number(TURN),
        lb_policy=Cluster.ROUND_ROBIN,
        circuit_breakers=circuit_breakers(),
        # Other clusters must hear of a death before they send anything: no slower interval without traffic.
        health_checks=active_checks(local.service, port, local.health_check, health_log, unused_factor=1),
        close_connections_on_host_health_failure=True,
        ignore_health_on_host_removal=True,
        # When all look sick, try: callers with other tiers hear of the lost capacity and stay away by themselves.
        common_lb_config=balancing(panic_percent=1.0, wait_for_first_check=True),
    )
    if port.app_protocol.is_http:  # for the checks only: traffic comes through as bytes
        message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(packed(upstream_http(port.app_protocol)))
    return message


def _one_name() -> RBAC:
    """Close a connection whose certificate has more than one URI name, before it is read (DESIGN section 8).

    The list of peers asks for one good name and would pass over a second one. Envoy joins the names with commas, which
    no SPIFFE id has. It is looked at once for each connection, at its first byte.
    """
    names_joined = TypedExtensionConfig(name="envoy.matching.inputs.uri_san", typed_config=packed(UriSanInput()))
    one = xds_string.StringMatcher(
        safe_regex=xds_regex.RegexMatcher(google_re2=xds_regex.RegexMatcher.GoogleRE2(), regex="[^,]+")
    )
    lists = xds_matcher.Matcher.MatcherList
    allow = TypedExtensionConfig(
        name="envoy.filters.rbac.action", typed_config=packed(rbac.Action(name="one name", action=rbac.RBAC.ALLOW))
    )
    rule = lists.FieldMatcher(
        predicate=lists.Predicate(
            single_predicate=lists.Predicate.SinglePredicate(input=names_joined, value_match=one)
        ),
        on_match=xds_matcher.Matcher.OnMatch(action=allow),
    )
    # What no rule matches is denied.
    return RBAC(matcher=xds_matcher.Matcher(matcher_list=lists(matchers=[rule])), stat_prefix=f"{names.INGRESS}.")


def _health() -> Route:
    return Route(
        match=RouteMatch(path=names.HEALTH_PATH),
        direct_response=DirectResponseAction(status=200, body=DataSource(inline_string="ok\n")),
    )


def _tunnels() -> Route:
    authority = HeaderMatcher(name=":authority", string_match=StringMatcher(safe_regex=RegexMatcher(regex=AUTHORITY)))
    return Route(
        match=RouteMatch(connect_matcher=RouteMatch.ConnectMatcher(), headers=[authority]),
        route=RouteAction(
            cluster_header=names.LOCAL_HEADER,
            cluster_not_found_response_code=RouteAction.NOT_FOUND,
            timeout=milliseconds(0),
            upgrade_configs=[
                RouteAction.UpgradeConfig(
                    upgrade_type="CONNECT", connect_config=RouteAction.UpgradeConfig.ConnectConfig()
                )
            ],
        ),
    )


def _local_name() -> EarlyHeaderMutation:
    """Before routing: `local/` + authority. The prefix keeps every other Envoy cluster out of a caller's reach."""
    value = HeaderValueOption(
        header=HeaderValue(key=names.LOCAL_HEADER, value="local/%REQ(:AUTHORITY)%"),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    return EarlyHeaderMutation(mutations=[HeaderMutation(append=value)])
