"""What people and peers get wrong against a running federation: one sentence with the mend, and everything goes on."""

import json
import os
import socket
import ssl
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import dns.message
import dns.query
import msgspec
import pytest

from isthmus_kit.pki import JoinToken, read_token
from support.addresses import free_port
from support.command import isthmus
from support.federation import DNS_PORT, Federation, Member, RunningController
from support.process import Process
from support.waiting import wait_until

pytestmark = pytest.mark.slow

GOOD = """\
apiVersion: isthmus.dev/v1alpha1
kind: Service
metadata: {namespace: shop, name: extra}
spec:
  ports:
  - {name: http, port: 8088}
  endpoints:
  - address: 127.0.0.1
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("two"), west="aws/eu-west-1/a", east="gcp/europe-west1/b") as federation:
        federation["west"].start_backend()
        federation["west"].offer()
        yield federation


def refused(federation: RunningController, *words: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """Run a command that must fail: status 1, and one sentence behind its log lines. Gives the sentence."""
    parts = {name: federation.environment[name] for name in ("ISTHMUS_ENVOY", "ISTHMUS_ETCD")}
    done = isthmus(*words, home=federation.home, stdin=stdin, env={**parts, **(env or {})})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1 and said[0].startswith("Error: "), done.stderr
    return said[0].removeprefix("Error: ")


def token_for(federation: RunningController, cluster: str) -> JoinToken:
    return read_token(federation.cli("cluster", "register", cluster, "--locality", "aws/eu-west-1/a"))


def warnings(member: Member) -> str:
    """What `doctor` shows of the member's gateway, the mend included."""
    found = isthmus("doctor", "--output", "json", home=member.federation.home)
    return "".join(
        f"{finding['seen']} {finding['mend']}"
        for finding in json.loads(found.stdout)
        if finding["check"].startswith(f"{member.name}: gateway: ")
    )


# -- tokens and names ----------------------------------------------------------------------------------------------


def test_a_token_works_once(two: Federation, tmp_path: Path) -> None:
    token = two.home / "west.token"
    said = refused(two, "cluster", "join", "--token-file", str(token), "--data-dir", str(tmp_path / "again"))
    assert said == "the join token for west was used already. Make a new one with 'isthmus cluster register'."


def test_a_token_may_come_through_windows_and_an_editor(two: Federation, tmp_path: Path) -> None:
    text = token_for(two, "windows").text()
    folder = ("--data-dir", str(tmp_path / "windows"))
    done = isthmus("cluster", "join", *folder, home=two.home, stdin=f"\ufeff {text} \r\n\r\n")
    assert done.returncode == 0, done.stderr
    two.cli("cluster", "remove", "windows", "--yes")


def test_a_token_whose_time_is_over_is_refused_and_the_clock_is_named(two: Federation, tmp_path: Path) -> None:
    late = msgspec.structs.replace(token_for(two, "late"), expires_at_ms=1)
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "late"), stdin=late.text())
    assert said.startswith("the join token for late has expired. Make a new token")
    assert "clock" in said
    assert not (tmp_path / "late").exists()


def test_a_token_with_its_time_prolonged_is_judged_by_the_controller(two: Federation, tmp_path: Path) -> None:
    absurd = msgspec.structs.replace(token_for(two, "future"), expires_at_ms=2**53, secret=b"x" * 32)
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "future"), stdin=absurd.text())
    assert said.startswith("the join token for future is not the one that was issued. Make a new one")


def test_a_token_changed_to_another_cluster_is_refused(two: Federation, tmp_path: Path) -> None:
    changed = msgspec.structs.replace(token_for(two, "mine"), cluster="yours")
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "yours"), stdin=changed.text())
    assert said.startswith("the join token is for the cluster mine, not for yours. Make a new one")


def test_a_token_with_another_root_sends_nothing(two: Federation, tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(token_for(two, "trusting"), root_sha256="0" * 64)
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "trusting"), stdin=wrong.text())
    assert "shows a root that is not the token's" in said and "so nothing was sent" in said


def test_a_cluster_id_that_is_taken_is_named_with_both_ways_out(two: Federation) -> None:
    said = refused(two, "cluster", "register", "west", "--locality", "aws/eu-west-1/a")
    assert said.startswith("cluster id 'west' is taken")
    assert "isthmus cluster remove west" in said


def test_a_token_that_cannot_be_written_voids_no_other(two: Federation, tmp_path: Path) -> None:
    before = token_for(two, "careful")
    nowhere = str(tmp_path / "nowhere" / "token")
    said = refused(two, "cluster", "register", "careful", "--locality", "a/b/c", "--token-file", nowhere)
    assert said == f"{nowhere} cannot be written: no such file or directory. Make the folder first, or choose another."
    isthmus("cluster", "join", "--data-dir", str(tmp_path / "careful"), home=two.home, stdin=before.text())
    assert (tmp_path / "careful" / "cluster.json").exists()
    two.cli("cluster", "remove", "careful", "--yes")


def test_a_controller_that_is_not_there_or_not_ours_is_named(two: Federation, tmp_path: Path) -> None:
    nobody = f"{two.address}:{free_port(two.address)}"
    said = refused(two, "status", "--controller", nobody)
    assert said.startswith(f"no controller answers ({nobody}: connection refused). Start one with 'isthmus controller'")
    lost = msgspec.structs.replace(token_for(two, "lost"), controllers=(nobody,))
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "lost"), stdin=lost.text())
    assert said.startswith(f"no controller answers ({nobody}: nothing listens there). See that a controller runs")


# -- ports and folders ---------------------------------------------------------------------------------------------


@pytest.fixture
def spare(two: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a third cluster that has joined and does not run."""
    folder = tmp_path_factory.mktemp("spare")
    done = isthmus("cluster", "join", "--data-dir", str(folder), home=two.home, stdin=token_for(two, "spare").text())
    assert done.returncode == 0, done.stderr
    yield folder
    two.cli("cluster", "remove", "spare", "--yes")


def test_ports_that_are_taken_are_named_before_anything_is_started(two: Federation, spare: Path) -> None:
    west, mine = two["west"], two.net.address(9)
    free = f"{mine}:{free_port(mine)}"
    gateway = ("gateway", "--data-dir", str(spare), "--vip-range", f"{two.net.prefix}.128/25")
    ingress, web, nameserver = f"{west.gateway_address}:15443", f"{west.gateway_address}:15020", west.net.address(53)
    for taken, words in (
        (two.grpc, ("controller", "--listen", two.grpc, "--admin-listen", free)),
        (two.admin, ("controller", "--listen", free, "--admin-listen", two.admin)),
        (ingress, (*gateway, "--listen", ingress, "--web-listen", free)),
        (web, (*gateway, "--listen", free, "--web-listen", web)),
        (f"{nameserver}:{DNS_PORT}", ("dns", "--data-dir", str(spare), "--listen", f"{nameserver}:{DNS_PORT}")),
    ):
        assert refused(two, *words) == (
            f"cannot listen on {taken}: Address already in use. "
            "Another process listens there: end it, or choose another port."
        )


def test_a_second_gateway_never_shares_a_service_address_in_silence(two: Federation, spare: Path) -> None:
    west, mine = two["west"], two.net.address(9)
    vip, web = west.vip(), f"{mine}:{free_port(mine)}"
    log = spare.parent / "second.log"
    words = ("gateway", "--data-dir", str(spare), "--listen", f"{mine}:{free_port(mine)}", "--web-listen", web)
    assert two.process is not None
    command = [*two.process.command[:3], *words, "--vip-range", f"{west.net.prefix}.128/25"]
    with Process(command, log, two.environment) as gateway:
        said = f"cannot bind '{vip}:8080': Address already in use. End what listens there; it is tried again"
        wait_until(lambda: said in http_get(web, "/readyz"), within=20, every=0.1)
        gateway.stop()
    assert west.missing() == {}


def test_folders_that_are_in_use_are_named(two: Federation) -> None:
    mine = two.net.address(9)
    free = (f"{mine}:{free_port(mine)}", f"{mine}:{free_port(mine)}")
    said = refused(two, "controller", "--listen", free[0], "--admin-listen", free[1])
    assert said.startswith("another etcd is running with the data in")
    assert "End the controller that started it" in said
    said = refused(two, "gateway", "--cluster", "west", "--listen", free[0], "--web-listen", free[1])
    assert said.startswith("another gateway runs in") and "End it first" in said
    assert two["west"].missing() == {}


def test_folders_that_cannot_be_written_are_named(two: Federation, spare: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blocked = tmp_path / "file" / "folder"
    said = refused(two, "cluster", "join", "--data-dir", str(blocked), stdin=token_for(two, "blocked").text())
    assert said.startswith(f"{blocked} cannot be written: not a directory. Choose")
    if os.geteuid() == 0:
        return  # root may write everywhere
    mine = two.net.address(9)
    spare.chmod(0o500)
    try:
        said = refused(two, "gateway", "--data-dir", str(spare), "--listen", f"{mine}:{free_port(mine)}")
        assert said.startswith(f"{spare} cannot be written: permission denied. Give this user the right")
    finally:
        spare.chmod(0o700)


def test_sockets_and_keys_are_for_their_owner_alone(two: Federation) -> None:
    secrets = [
        path
        for path in two.home.rglob("*")
        if path.is_socket() or path.suffix in (".key", ".token", ".passphrase", ".lock") or path.name == "snapshot"
    ]
    assert {"ca.key", "root.key", "admin.key", "xds.sock", "zone.sock", "envoy-admin.sock", "agent.sock"} <= {
        path.name for path in secrets
    }
    assert {str(path) for path in secrets if stat.S_IMODE(path.stat().st_mode) & 0o177} == set()
    folders = [two.home / "controller", *(member.folder for member in two.members.values())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


# -- service files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("ports:", "ports: ]"), "bad.yaml:5:10: this is not YAML"),
        (("kind: Service", "kind: Servise"), "bad.yaml:2:7: kind 'Servise' is not known. Did you mean 'Service'?"),
        (
            ("endpoints:", "endpoint:"),
            "spec of a Service has no field 'endpoint'. Did you mean 'endpoints'?",
        ),
        (("8088", "80880"), "bad.yaml:6:24: port 80880 is out of range. Use a number from 1 to 65535."),
        (("127.0.0.1", "localhost"), "bad.yaml:8:14: "),
        (("name: extra", "name: echo"), "Service shop/echo is described here and in echo.yaml:1:1"),
    ],
)
def test_a_mistake_in_a_service_file_is_named_and_traffic_goes_on(
    two: Federation, change: tuple[str, str], said: str
) -> None:
    west = two["west"]
    path = west.folder / "services" / "bad.yaml"
    assert change[0] in GOOD
    try:
        west.describe(GOOD.replace(*change), "bad.yaml")
        shown = wait_until(lambda: warnings(west), within=10, every=0.2)
        assert said in shown, shown
        assert west.missing() == {}
        assert [service["service"] for service in two.json("services")] == ["shop/echo"]
        west.describe(GOOD, "bad.yaml")
        wait_until(lambda: not warnings(west), within=10, every=0.2)
    finally:
        path.unlink(missing_ok=True)


# -- peers ---------------------------------------------------------------------------------------------------------


def test_an_envoy_that_dies_at_start_is_quoted(two: Federation, spare: Path, tmp_path: Path) -> None:
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\necho 'unable to start: the moon is full' >&2\nexit 3\n")
    program.chmod(0o755)
    mine, log = two.net.address(9), tmp_path / "gateway.log"
    web = f"{mine}:{free_port(mine)}"
    assert two.process is not None
    command = [
        *two.process.command[:3],
        *("gateway", "--data-dir", str(spare), "--listen", f"{mine}:{free_port(mine)}", "--web-listen", web),
        *("--vip-range", f"{two.net.prefix}.128/25"),
    ]
    with Process(command, log, {**two.environment, "ISTHMUS_ENVOY": str(program)}) as gateway:
        gateway.wait_for_line("the moon is full")
        ready = wait_until(lambda: http_get(web, "/readyz").partition("\r\n\r\n")[2], within=10)
        assert "Envoy ended with status 3; its last line: unable to start: the moon is full" in ready
        gateway.stop()
    assert "Traceback" not in log.read_text()


def test_a_gateway_of_another_federation_gets_nowhere_and_says_why(two: Federation, tmp_path: Path) -> None:
    with RunningController(tmp_path) as foreign:
        token = token_for(foreign, "west")
        done = isthmus("cluster", "join", home=foreign.home, stdin=token.text())
        assert done.returncode == 0, done.stderr
        mine = foreign.net.address(9)
        web = f"{mine}:{free_port(mine)}"
        gateway = foreign.spawn(
            "gateway",
            *("gateway", "--cluster", "west", "--controllers", two.grpc, "--listen", f"{mine}:{free_port(mine)}"),
            *("--web-listen", web, "--vip-range", f"{foreign.net.prefix}.128/25"),
        )
        try:
            said = "its certificate is not of this federation"
            wait_until(lambda: gateway.running and said in http_get(web, "/readyz"), within=20, every=0.1)
            assert "nothing is known from before" in http_get(web, "/readyz")
            assert refused(foreign, "status", "--controller", two.admin).count(said) == 1
        finally:
            gateway.stop()
        assert {cluster["gateways"][0]["connected"] for cluster in two.json("cluster", "list")} == {True}
        assert "Traceback" not in gateway.output()
        assert [line for line in gateway.output().splitlines() if not line.startswith("{")] == []


def test_a_gateway_whose_cluster_was_removed_says_so_and_how_it_comes_back(two: Federation) -> None:
    leaver = Member(two, "leaver", "aws/eu-west-1/a")
    leaver.join()
    leaver.start_gateway()
    try:
        leaver.wait_ready()
        two.cli("cluster", "remove", "leaver", "--yes")
        said = (
            "the controllers refuse this gateway, the last known state is served: "
            "cluster leaver is not registered in this federation any more. "
            "Register it again with 'isthmus cluster register' and join with the new token."
        )
        wait_until(lambda: said in warnings(leaver), within=10, every=0.2)
        assert "PERMISSION_DENIED" not in warnings(leaver)
        logged = [line for line in leaver.processes["gateway"].output().splitlines() if "refuse this gateway" in line]
        assert len(logged) == 1 and "is not registered in this federation any more" in logged[0]
        leaver.locality = "aws/eu-west-1/c"
        leaver.join()
        moved = (
            "the cluster has joined again with the locality aws/eu-west-1/c (it runs with aws/eu-west-1/a). "
            "Restart the gateway: stop it and run 'isthmus gateway --cluster leaver'."
        )
        wait_until(lambda: moved in warnings(leaver) and "refuse" not in warnings(leaver), within=10, every=0.2)
        leaver.processes["gateway"].stop()
        leaver.start_gateway()
        leaver.wait_ready()
        wait_until(lambda: warnings(leaver).strip() == "", within=10, every=0.2)
        assert two.json("cluster", "show", "leaver")["locality"] == "aws/eu-west-1/c"
    finally:
        leaver.stop()
        two.cli("cluster", "remove", "leaver", "--yes")


def test_rubbish_on_every_port_is_closed_or_refused_and_nobody_minds(two: Federation) -> None:
    west = two["west"]
    places = [two.grpc, two.admin, f"{west.gateway_address}:15443", f"{west.gateway_address}:15020"]
    for place in places:
        for rubbish in (b"\0\xff" * 500, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            assert b"HTTP/1.1 200" not in exchange(place, rubbish)
    for place in places[:3]:
        with pytest.raises(OSError):  # which one depends on who closes first
            handshake(place, ssl.TLSVersion.TLSv1_2).close()
    with handshake(two.admin, ssl.TLSVersion.TLSv1_3) as admin:
        admin.sendall(b"GET /v1/clusters/" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert admin.recv(4096).startswith(b"HTTP/1.0 400")
    assert two.json("status")["ready"] is True
    assert west.missing() == {}
    for log in two.home.glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log


def test_dns_packets_that_are_no_queries_do_no_harm(two: Federation) -> None:
    west = two["west"]
    wait_until(lambda: west.vip(), within=10)
    where = (west.net.address(53), DNS_PORT)
    query = dns.message.make_query("echo.shop.svc.clusterset.local", "A").to_wire()
    looped = query[:12] + b"\xc0\x0c" + b"\0\1\0\1"
    oversized = query + b"\0" * 60_000
    answer = bytes([query[0], query[1], query[2] | 0x80]) + query[3:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.3)
        client.connect(where)
        for packet, replied in ((b"", 0), (query[:5], 0), (answer, 0), (looped, 1), (query[:-3], 1), (oversized, 1)):
            client.send(packet)
            try:
                reply = client.recv(65535)
            except TimeoutError:
                reply = b""
            assert bool(reply) == bool(replied), packet[:40]
            if reply:
                assert reply[:2] == packet[:2] and reply[3] & 0x0F == 1  # FORMERR
    with socket.create_connection(where, 2) as stream:
        stream.sendall(struct.pack("!H", 65535) + b"\xff" * 100)
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(100) == b""
    assert west.resolve("echo.shop.svc.clusterset.local")
    assert west.processes["dns"].running and "Traceback" not in west.processes["dns"].output()


@pytest.mark.root
def test_a_full_disk_keeps_the_old_snapshot_and_is_named(two: Federation, spare: Path, tmp_path: Path) -> None:
    mine, west = two.net.address(9), two["west"]
    web = f"{mine}:{free_port(mine)}"
    words = ("gateway", "--data-dir", str(spare), "--listen", f"{mine}:{free_port(mine)}", "--web-listen", web)
    vips = ("--vip-range", f"{two.net.prefix}.128/25")
    inside = 'cp -a "$1" "$1.kept"; mount -t tmpfs -o size=400k tmpfs "$1"; cp -a "$1.kept/." "$1"; shift; exec "$@"'
    command = ["unshare", "-m", "sh", "-c", inside, "sh", str(spare)]
    assert two.process is not None
    with Process([*command, *two.process.command[:3], *words, *vips], tmp_path / "log", two.environment) as gateway:
        wait_until(lambda: '"ready":true' in http_get(web, "/readyz"), within=20, every=0.1)
        small = Path(f"/proc/{gateway.pid}/root{spare}")
        snapshot = wait_until(lambda: (small / "snapshot").read_bytes(), within=5)
        fill_up(small / "filler")
        try:
            west.describe(GOOD + "---\n" + EXPORT, "extra.yaml")
            said = "cannot be written: No space left on device. The old one stays; free space or mend the folder."
            wait_until(lambda: said in http_get(web, "/readyz"), within=10, every=0.1)
            assert '"ready":true' in http_get(web, "/readyz")
            assert (small / "snapshot").read_bytes() == snapshot
            (small / "filler").unlink()
            wait_until(lambda: said not in http_get(web, "/readyz"), within=10, every=0.1)
            assert (small / "snapshot").read_bytes() != snapshot
        finally:
            (west.folder / "services" / "extra.yaml").unlink()
        gateway.stop()


EXPORT = """\
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {namespace: shop, name: extra}
"""


def fill_up(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def exchange(place: str, payload: bytes) -> bytes:
    """What a port answers to these bytes until it closes, or for half a second."""
    host, port = place.rsplit(":", 1)
    answer, end = b"", time.monotonic() + 0.5
    with socket.create_connection((host, int(port)), 2) as connection:
        connection.settimeout(0.5)
        try:
            connection.sendall(payload)
            while time.monotonic() < end and (more := connection.recv(4096)):
                answer += more
        except OSError:
            pass
    return answer


def http_get(place: str, path: str) -> str:
    try:
        return exchange(place, f"GET {path} HTTP/1.0\r\n\r\n".encode()).decode()
    except OSError:
        return ""


def handshake(place: str, version: ssl.TLSVersion) -> ssl.SSLSocket:
    """A TLS connection of exactly this version that believes anybody."""
    host, port = place.rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    raw = socket.create_connection((host, int(port)), 2)
    try:
        return context.wrap_socket(raw)
    except BaseException:
        raw.close()
        raise
