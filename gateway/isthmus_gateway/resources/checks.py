"""Decide how Envoy finds out that an endpoint is alive: active checks, and ejection of those that fail requests."""

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3 import health_check_pb2
from envoy.config.core.v3.base_pb2 import RoutingPriority
from envoy.extensions.health_check.event_sinks.file.v3.file_pb2 import HealthCheckEventFileSink
from envoy.type.v3.http_pb2 import HTTP2
from envoy.type.v3.percent_pb2 import Percent

from isthmus_core.model import AppProtocol, CheckKind, HealthCheck, ServicePort
from isthmus_core.names import ServiceName
from isthmus_gateway.resources.encode import extension, milliseconds, no, number
from isthmus_gateway.resources.names import HEALTH_PATH

# A cluster that never had traffic is checked this much more seldom: most services are called from few clusters.
NO_TRAFFIC_FACTOR = 10
UNLIMITED = 1_000_000
MOST_RETRIES = 10_000
"""Retries at a time of one service, or a fifth of its requests if that is more."""


def active_checks(
    service: ServiceName, port: ServicePort, check: HealthCheck, health_log: str, unused_factor: int = NO_TRAFFIC_FACTOR
) -> list[health_check_pb2.HealthCheck]:
    """The check of one service port's endpoints; verdicts go to `health_log` when it is given."""
    if check.kind is CheckKind.NONE:
        return []
    message = _timing(check, health_log, unused_factor)
    http2 = port.app_protocol in (AppProtocol.HTTP2, AppProtocol.GRPC)
    # Envoy refuses a gRPC check of a cluster that does not speak HTTP/2; what can be asked there is whether it accepts.
    if check.kind is CheckKind.TCP or (check.kind is CheckKind.GRPC and not http2):
        message.tcp_health_check.SetInParent()
    elif check.kind is CheckKind.GRPC:
        message.grpc_health_check.SetInParent()
    else:
        message.http_health_check.path = check.path
        message.http_health_check.host = check.host or service.host()
        if http2:
            message.http_health_check.codec_client_type = HTTP2
        _accept(message, 200, 400)
    return [message]


def gateway_checks(cluster_host: str, timeout_ms: int, health_log: str) -> list[health_check_pb2.HealthCheck]:
    """The probe of a remote cluster's gateways: a GET through the same mutual TLS that the tunnels use."""
    # Two in a row: this verdict moves every service at once, and a machine may well stall for longer than one probe.
    check = HealthCheck(CheckKind.HTTP, HEALTH_PATH, cluster_host, timeout_ms=timeout_ms, unhealthy_threshold=2)
    message = _timing(check, health_log, 1)
    message.http_health_check.path = check.path
    message.http_health_check.host = check.host
    message.http_health_check.codec_client_type = HTTP2
    _accept(message, 200, 201)
    return [message]


def _timing(check: HealthCheck, health_log: str, unused_factor: int) -> health_check_pb2.HealthCheck:
    message = health_check_pb2.HealthCheck(
        interval=milliseconds(check.interval_ms),
        timeout=milliseconds(check.timeout_ms),
        unhealthy_threshold=number(check.unhealthy_threshold),
        healthy_threshold=number(check.healthy_threshold),
        no_traffic_interval=milliseconds(check.interval_ms * unused_factor),
        no_traffic_healthy_interval=milliseconds(check.interval_ms * unused_factor),
    )
    if health_log:
        sink = HealthCheckEventFileSink(event_log_path=health_log)
        message.event_logger.append(extension("envoy.health_check.event_sinks.file", sink))
    return message


def _accept(message: health_check_pb2.HealthCheck, start: int, end: int) -> None:
    status = message.http_health_check.expected_statuses.add()
    status.start, status.end = start, end


def outliers(app: AppProtocol) -> OutlierDetection:
    """When requests or connections to a host fail, leave it for a second or more, but never leave the last one.

    A host goes only while `max_ejection_percent` would not be passed, so the only host of a service, or the last of
    several, always stays. HTTP requests are tried elsewhere anyway, and slow answers count as local failures (hedging),
    so only bad answers eject there. A TCP connection cannot be moved once it stands: the first refused connect ejects.
    """
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=number(1),
        enforcing_consecutive_local_origin_failure=number(0 if app.is_http else 100),
        enforcing_local_origin_success_rate=number(0),
        consecutive_gateway_failure=number(5),
        enforcing_consecutive_gateway_failure=number(100),
        enforcing_consecutive_5xx=number(0),  # a plain 500 is an answer of the application, not of a sick host
        enforcing_success_rate=number(0),
        interval=milliseconds(500),
        base_ejection_time=milliseconds(1_000),
        max_ejection_time=milliseconds(10_000),
        max_ejection_percent=number(50 if app.is_http else 90),
        # A check of "/" may well pass while requests fail: it must not take the ejection back.
        successful_active_health_check_uneject_host=no(),
    )


def gateway_outliers() -> OutlierDetection:
    """Only what happens between the gateways counts: a refused CONNECT is the fault of one service behind them."""
    return OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=number(3),
        enforcing_consecutive_local_origin_failure=number(100),
        enforcing_local_origin_success_rate=number(0),
        enforcing_consecutive_gateway_failure=number(0),
        enforcing_consecutive_5xx=number(0),
        enforcing_success_rate=number(0),
        interval=milliseconds(500),
        base_ejection_time=milliseconds(1_000),
        max_ejection_time=milliseconds(5_000),
        max_ejection_percent=number(50),
    )


def balancing(panic_percent: float, wait_for_first_check: bool) -> Cluster.CommonLbConfig:
    """When to try everybody although all look sick, and that a verdict counts at once."""
    config = Cluster.CommonLbConfig(
        healthy_panic_threshold=Percent(value=panic_percent),
        ignore_new_hosts_until_first_hc=wait_for_first_check,
    )
    # Envoy holds verdicts back for up to a second to merge them.
    config.update_merge_window.CopyFrom(milliseconds(0))
    return config


def circuit_breakers() -> CircuitBreakers:
    """Room for a failover: the defaults (1024 connections, 3 retries at a time) lose requests in one.

    All requests that are with a backend when it dies are repeated in the same moment: the budget must hold them all, or
    some are lost. It is the last bound for a service that refuses everybody; that one which takes its time is not sent
    everything twice is the matter of hedging.py.
    """
    return CircuitBreakers(
        thresholds=[
            CircuitBreakers.Thresholds(
                priority=RoutingPriority.DEFAULT,
                max_connections=number(UNLIMITED),
                max_pending_requests=number(UNLIMITED),
                max_requests=number(UNLIMITED),
                retry_budget=CircuitBreakers.Thresholds.RetryBudget(
                    budget_percent=Percent(value=20.0), min_retry_concurrency=number(MOST_RETRIES)
                ),
            )
        ]
    )
