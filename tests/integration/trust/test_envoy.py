"""Envoy (all traffic): who gets into an ingress, and to whom an egress speaks."""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from integration.trust.world import DOMAIN, World, attacks
from isthmus_core.spiffe import gateway_name
from isthmus_kit.pki import Identity
from isthmus_kit.tls import ClientCertificates, client_context, server_context
from support.addresses import free_port
from support.process import Process

WORLD = World()
ATTACKS = attacks(WORLD)
GOOD = {"a gateway of the cluster": WORLD.gateway("b")}


class TlsServers:
    """Answers every request on every port with 200, each port with an identity of its own."""

    def __init__(self, identities: dict[str, Identity]) -> None:
        self._open = True
        self._sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in identities}
        self._threads = [
            threading.Thread(
                target=self._serve, args=(listener, server_context(identities[name], ClientCertificates.REQUIRED))
            )
            for name, listener in self._sockets.items()
        ]

    def port(self, name: str) -> int:
        return int(self._sockets[name].getsockname()[1])

    def _serve(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            raw, _ = listener.accept()
            if not self._open:
                raw.close()
                return
            raw.settimeout(5.0)
            try:
                with context.wrap_socket(raw, server_side=True) as wrapped:
                    wrapped.recv(65536)
                    wrapped.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            except OSError:
                raw.close()  # Envoy hung up: the test looks at what Envoy says

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        for listener in self._sockets.values():
            socket.create_connection(listener.getsockname(), 5.0).close()  # wakes accept()
        for thread, listener in zip(self._threads, self._sockets.values(), strict=True):
            thread.join()
            listener.close()


def tls_context(kind: str, folder: Path, **more: object) -> dict[str, object]:
    return {
        "name": "tls",
        "typed_config": {
            "@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}",
            **more,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(folder / "a.pem")},
                        "private_key": {"filename": str(folder / "a.key")},
                    }
                ],
                "validation_context": {
                    "trusted_ca": {"filename": str(folder / "root.pem")},
                    **(
                        {
                            "match_typed_subject_alt_names": [
                                {"san_type": "URI", "matcher": {"exact": f"spiffe://b.{DOMAIN}/gateway"}}
                            ]
                        }
                        if kind.startswith("Upstream")
                        else {}
                    ),
                },
            },
        },
    }


def listener(name: str, port: int, routes: list[dict[str, object]], socket_: dict[str, object] | None = None) -> object:
    hcm = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    chain: dict[str, object] = {
        "filters": [
            {
                "name": "http",
                "typed_config": {
                    "@type": f"type.googleapis.com/{hcm}",
                    "stat_prefix": name,
                    # An answer of Envoy's own says what was wrong with the TLS of the upstream.
                    "local_reply_config": {
                        "body_format": {"text_format_source": {"inline_string": "%UPSTREAM_TRANSPORT_FAILURE_REASON%"}}
                    },
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
                    "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
                },
            }
        ]
    }
    if socket_:
        chain["transport_socket"] = socket_
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }


def configuration(folder: Path, ingress: int, egress: int, upstream: Callable[[str], int]) -> dict[str, object]:
    names = [*ATTACKS, *GOOD]
    clusters = [
        {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {
                                "endpoint": {
                                    "address": {
                                        "socket_address": {"address": "127.0.0.1", "port_value": upstream(name)}
                                    }
                                }
                            }
                        ]
                    }
                ],
            },
            "transport_socket": tls_context("UpstreamTlsContext", folder, sni=gateway_name("b", DOMAIN)),
        }
        for name in names
    ]
    routes: list[dict[str, object]] = [
        {"match": {"path": f"/{number}"}, "route": {"cluster": name}} for number, name in enumerate(names)
    ]
    answer: list[dict[str, object]] = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]
    secured = tls_context("DownstreamTlsContext", folder, require_client_certificate=True)
    listeners = [listener("ingress", ingress, answer, secured), listener("egress", egress, routes)]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


class Ports:
    ingress: int
    egress: int


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory, envoy_binary: Path) -> Iterator[Ports]:
    folder, member, ports = tmp_path_factory.mktemp("envoy"), WORLD.gateway("a"), Ports()
    (folder / "root.pem").write_bytes(WORLD.roots)
    (folder / "a.pem").write_bytes(member.chain)
    (folder / "a.key").write_bytes(member.key)
    ports.ingress, ports.egress = free_port(), free_port()
    with TlsServers(ATTACKS | GOOD) as upstreams:
        content = configuration(folder, ports.ingress, ports.egress, upstreams.port)
        (folder / "envoy.json").write_text(json.dumps(content))
        command: list[str | Path] = [envoy_binary, "-c", folder / "envoy.json", "-l", "warning"]
        command += ["--concurrency", "1", "--use-dynamic-base-id"]
        with Process(command, folder / "log") as process:
            process.wait_for_port("127.0.0.1", ports.egress)
            process.wait_for_port("127.0.0.1", ports.ingress)
            yield ports


def enter(port: int, identity: Identity | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> int:
    context = client_context(WORLD.roots, identity)
    context.minimum_version = context.maximum_version = version
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    raw = socket.create_connection(("127.0.0.1", port), 5.0)
    with raw, context.wrap_socket(raw, server_hostname=gateway_name("a", DOMAIN)) as wrapped:
        connection.sock = wrapped
        connection.request("GET", "/")
        return connection.getresponse().status


def test_a_gateway_of_the_federation_gets_in(envoy: Ports) -> None:
    assert enter(envoy.ingress, WORLD.gateway("b")) == 200


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_ingress_refuses(envoy: Ports, attack: str) -> None:
    with pytest.raises(OSError, match=r"(?i)alert|reset|eof"):
        enter(envoy.ingress, ATTACKS[attack])


def test_an_ingress_refuses_who_shows_nothing_or_speaks_tls_1_2(envoy: Ports) -> None:
    with pytest.raises(OSError, match=r"(?i)alert|reset|eof"):
        enter(envoy.ingress, None)
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        enter(envoy.ingress, WORLD.gateway("b"), ssl.TLSVersion.TLSv1_2)


def send(port: int, name: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    try:
        connection.request("GET", f"/{[*ATTACKS, *GOOD].index(name)}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_an_egress_speaks_to_a_gateway_of_the_cluster(envoy: Ports) -> None:
    assert send(envoy.egress, next(iter(GOOD)))[0] == 200


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_egress_refuses(envoy: Ports, attack: str) -> None:
    status, reason = send(envoy.egress, attack)
    assert status == 503 and "CERTIFICATE_VERIFY_FAILED" in reason
