"""The file format: what is understood, and the sentence for everything that is not."""

import textwrap

import pytest

from isthmus_core.model import AppProtocol, CheckKind, Protocol, ServiceType
from isthmus_core.names import Locality, ServiceName
from isthmus_gateway.sources.documents import MAX_BYTES, FileError
from isthmus_gateway.sources.services import FileContent, parse_file

HERE = Locality("onprem", "berlin", "rack-1")

ECHO = """
    apiVersion: isthmus.dev/v1alpha1
    kind: Service
    metadata:
      name: echo
      namespace: shop
    spec:
      ports:
      - name: http
        port: 80
        targetPort: 8080
      endpoints:
      - address: 127.0.0.1
        locality: aws/eu-west-1/a
        weight: 3
      - address: 127.0.0.2
        locality: {zone: rack-2}
      healthCheck:
        http: {path: /healthz, port: http}
        interval: 200ms
        timeout: 1.5s
        unhealthyThreshold: 2
    ---
    apiVersion: multicluster.x-k8s.io/v1beta1
    kind: ServiceExport
    metadata: {name: echo, namespace: shop}
    spec:
      exportedLabels: {team: cart}
"""


def read(text: str) -> FileContent:
    return parse_file("shop.yaml", textwrap.dedent(text).encode(), HERE)


def refused(text: str) -> FileError:
    with pytest.raises(FileError) as caught:
        read(text)
    return caught.value


def service(spec: str) -> str:
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: Service\nmetadata: {name: echo, namespace: shop}\nspec:\n"
    return head + textwrap.indent(textwrap.dedent(spec).strip("\n"), "  ")


def test_a_service_and_its_export_are_understood() -> None:
    content = read(ECHO)
    echo = content.services[0].service
    assert echo.service == ServiceName("shop", "echo")
    assert echo.ports[0].app_protocol is AppProtocol.HTTP
    assert [(e.address, dict(e.ports), str(e.locality), e.weight) for e in echo.endpoints] == [
        ("127.0.0.1", {"http": 8080}, "aws/eu-west-1/a", 3),
        ("127.0.0.2", {"http": 8080}, "onprem/berlin/rack-2", 1),
    ]
    check = echo.health_check
    assert (check.kind, check.path, check.port_name) == (CheckKind.HTTP, "/healthz", "http")
    assert (check.interval_ms, check.timeout_ms, check.unhealthy_threshold) == (200, 1500, 2)
    assert content.exports[0].service == echo.service
    assert content.exports[0].spec.labels == {"team": "cart"}


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ("{port: 80}", AppProtocol.TCP),
        ("{name: http, port: 80}", AppProtocol.HTTP),
        ("{name: http-admin, port: 80}", AppProtocol.HTTP),
        ("{name: httpx, port: 80}", AppProtocol.TCP),
        ("{name: http2, port: 80}", AppProtocol.HTTP2),
        ("{name: grpc-api, port: 80}", AppProtocol.GRPC),
        ("{name: https, port: 443}", AppProtocol.TCP),
        ("{name: tcp-db, port: 80, appProtocol: http}", AppProtocol.HTTP),
        ("{name: http, port: 80, appProtocol: tcp}", AppProtocol.TCP),
        ("{name: web, port: 80, appProtocol: kubernetes.io/h2c}", AppProtocol.HTTP2),
        ("{name: web, port: 80, appProtocol: kubernetes.io/ws}", AppProtocol.HTTP),
        ("{name: web, port: 80, appProtocol: example.com/own}", AppProtocol.TCP),
    ],
)
def test_what_is_spoken_in_a_port_comes_from_app_protocol_or_its_name(port: str, expected: AppProtocol) -> None:
    content = read(service(f"ports: [{port}]"))
    assert content.services[0].service.ports[0].app_protocol is expected


def test_a_service_without_cluster_ip_is_headless_and_may_speak_udp() -> None:
    content = read(service("clusterIP: None\nports: [{name: dns, port: 53, protocol: UDP}]"))
    assert content.services[0].service.type is ServiceType.HEADLESS
    assert content.services[0].service.ports[0].protocol is Protocol.UDP


def test_endpoints_may_listen_elsewhere_than_the_service_says() -> None:
    spec = "ports: [{name: http, port: 80}]\nendpoints: [{address: 10.0.0.7, ports: {http: 9000}, hostname: web-0}]"
    endpoint = read(service(spec)).services[0].service.endpoints[0]
    assert (dict(endpoint.ports), endpoint.hostname, endpoint.locality) == ({"http": 9000}, "web-0", HERE)


def test_a_file_of_comments_describes_nothing() -> None:
    assert read("# nothing yet\n---\n") == FileContent()


def test_anchors_may_be_used_where_they_are_small() -> None:
    first, second = "{address: 10.0.0.1, locality: &here aws/eu/a}", "{address: 10.0.0.2, locality: *here}"
    spec = f"ports: [{{port: 80}}]\nendpoints:\n- {first}\n- {second}"
    assert {str(e.locality) for e in read(service(spec)).services[0].service.endpoints} == {"aws/eu/a"}


@pytest.mark.parametrize(("word", "ready"), [("True", True), ("FALSE", False), ("true", True)])
def test_true_and_false_may_be_written_in_each_way_that_yaml_knows(word: str, ready: bool) -> None:
    text = service(f"ports: [{{port: 80}}]\nendpoints: [{{address: 10.0.0.1, ready: {word}}}]")
    assert read(text).services[0].service.endpoints[0].ready is ready


EXPORT = "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {name: echo}\n"
REFUSED = [
    ("kind: Service\n\tname: x", 2, "tab stands in the indentation", "spaces"),
    ("a: [1, 2", None, "this is not YAML", "indentation"),
    ("a: b: c", 1, "mapping values are not allowed", "quote"),
    ("- a\n- b", 1, "a document must be a mapping", ""),
    ("kind: Deployment\napiVersion: apps/v1", 1, "kind 'Deployment' is not known", "Service, ServiceExport"),
    ("kind: Sevice\napiVersion: isthmus.dev/v1alpha1", 1, "kind 'Sevice' is not known", "Did you mean 'Service'"),
    (
        "apiVersion: isthmus.dev/v1\nkind: Service",
        1,
        "a Service's apiVersion 'isthmus.dev/v1'",
        "isthmus.dev/v1alpha1",
    ),
    ("kind: Service\nkind: Service", 2, "field 'kind' stands here and in line 1", "Keep one"),
    ("kind: *nowhere", 1, "alias *nowhere has no anchor", ""),
    ("? [a]\n: b", 1, "the name of a field must be text", ""),
    (service("port: []"), 5, "has no field 'port'", "Did you mean 'ports'"),
    (service("ports: [{port: 80}]\nselector: {app: echo}"), 6, "has no field 'selector'", "under 'endpoints'"),
    (service("ports: []"), 5, "at least one port", ""),
    (service("endpoints: []"), 5, "needs the field 'ports'", ""),
    (service("ports: [{port: 70000}]"), 5, "port 70000 is out of range", "1 to 65535"),
    (service("ports: [{port: eighty}]"), 5, "'eighty', not a whole number", ""),
    (service("ports: [{port: 80, targetPort: web}]"), 5, "targetPort is 'web'", ""),
    (service("ports: [{port: 80}, {port: 81}]"), 5, "has no name", ""),
    (service("ports:\n- {name: a, port: 80}\n- {name: b, port: 80}"), 7, "a second port 80/TCP", ""),
    (service("ports:\n- {name: a, port: 80}\n- {name: a, port: 81}"), 7, "a second port named 'a'", ""),
    (service("ports: [{name: HTTP, port: 80}]"), 5, "port name 'HTTP' is not valid", ""),
    (service("ports: [{port: 80, protocol: UDP}]"), 5, "a gateway cannot carry UDP", "headless"),
    (service("ports: [{port: 80, appProtocol: htpp}]"), 5, "appProtocol 'htpp'", "Did you mean 'http'"),
    (service("type: ExternalName\nports: [{port: 80}]"), 5, "ExternalName", "endpoints"),
    (service("ports: [{port: 80}]\nendpoints: [{address: web.example}]"), 6, "'web.example' is no IP address", ""),
    (service("ports: [{port: 80}]\nendpoints: [{address: 0.0.0.0}]"), 6, "belongs to no machine", ""),
    (service("ports: [{port: 80}]\nendpoints: [{address: 255.255.255.255}]"), 6, "'255.255.255.255' belongs to no", ""),
    (service("ports: [{port: 80}]\nendpoints: [{address: fe80::1%eth0}]"), 6, "holds only on one link", "without '%'"),
    (
        service("ports: [{port: 80}]\nendpoints: [{address: 10.0.0.1, ports: {http: 8}}]"),
        6,
        "has no name",
        "name: http",
    ),
    (service("ports: [{port: 80}]\nendpoints: [{address: 10.0.0.1, ready: yes}]"), 6, "neither true nor false", ""),
    (service("ports: [{port: 80, protocol: tcp}]"), 5, "protocol 'tcp' is not known", "Did you mean 'TCP'"),
    (service("ports: [{port: 80}]\n<<: {}"), 6, "no field '<<'", "Merge keys do not work here"),
    (service('ports: [{port: 80}]\ntype: "Head\nless'), 6, "the text that begins here has no closing quote", "Add it"),
    (service("ports: [{port: 80}]\nendpoints:\n- address: 10.0.0.1\n- address: 10.0.0.1"), 8, "and in line 7", ""),
    (service("ports: [{port: 80}]\nendpoints: [{address: 10.0.0.1, weight: 0}]"), 6, "weight 0 is out of range", ""),
    (service("ports: [{port: 80}]\nendpoints: [{address: 10.0.0.1, locality: eu}]"), 6, "'eu' is not provider", ""),
    (service("ports: [{port: 80}]\nendpoints: [{address: 10.0.0.1, adress: x}]"), 6, "no field 'adress'", "'address'"),
    (service("ports: [{port: 80}]\nhealthCheck: {http: {path: status}}"), 6, "not the path of a URL", ""),
    (service('ports: [{port: 80}]\nhealthCheck: {http: {path: "/\\x01"}}'), 6, "path '/\\x01' is not the path", "%20"),
    (service("ports: [{port: 80}]\nhealthCheck: {http: {path: /grüße}}"), 6, "path '/grüße' is not", "outside ASCII"),
    (service("ports: [{port: 80}]\nhealthCheck: {http: {host: a b}}"), 6, "host 'a b' is not the name", "echo.example"),
    (service("ports: [{port: 80}]\nhealthCheck: {http: {port: web}}"), 6, "no port 'web'", "Use one of: 80"),
    (service("ports: [{port: 80}]\nhealthCheck: {http: {}, tcp: {}}"), 6, "both http and tcp", ""),
    (service("ports: [{port: 80}]\nhealthCheck: {interval: 5}"), 6, "'5' is no duration", "100ms"),
    (service("ports: [{port: 80}]\nhealthCheck: {interval: 0ms}"), 6, "out of range", ""),
    (service("ports: [{port: 80}]").replace("echo", "Echo"), 3, "service name 'Echo' is not a DNS label", ""),
    (service("ports: [{port: 80}]\nmergekey: {<<: x}"), 6, "no field 'mergekey'", ""),
    (
        EXPORT + "spec: {exportedAnnotations: {isthmus.dev/dns: endpoint}}",
        4,
        "annotation isthmus.dev/dns 'endpoint' is not known",
        "Did you mean 'endpoints'",
    ),
]


@pytest.mark.parametrize(("text", "line", "sentence", "mend"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_cannot_be_used_is_named_with_file_and_line(text: str, line: int | None, sentence: str, mend: str) -> None:
    error = refused(text)
    assert error.place.file == "shop.yaml"
    assert error.place.line >= 1 if line is None else error.place.line == line
    assert sentence in str(error) and mend in error.mend


def test_a_service_described_twice_in_a_file_names_both_places() -> None:
    error = refused(service("ports: [{port: 80}]") + "\n---\n" + service("ports: [{port: 81}]"))
    assert error.place.line == 7 and "in line 1" in error.reason


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    with pytest.raises(FileError, match=r"shop\.yaml:2:1: the file is not UTF-8 text"):
        parse_file("shop.yaml", b"kind: Service\n\xff\xfe", HERE)


def test_control_characters_are_refused() -> None:
    with pytest.raises(FileError, match="this is not YAML"):
        parse_file("shop.yaml", b"kind: Service\nmeta: \x00\x01", HERE)


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(FileError, match="more than"):
        parse_file("shop.yaml", b"#" * (MAX_BYTES + 1), HERE)


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    error = refused("\n".join(lines))
    assert "grows to more than" in error.reason


def test_a_deep_nest_is_refused() -> None:
    assert "nested deeper" in refused("a: " + "[" * 5000).reason


def test_a_bomb_of_depth_by_aliases_costs_what_it_stands_for() -> None:
    assert "not known" in refused("x: &x [1]\nkind: Foo\n" + "\n".join(f"y{n}: *x" for n in range(100))).reason
