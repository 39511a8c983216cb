"""What other programs, strangers and the disk do to a running federation: it says what is wrong, and goes on."""

import re
import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path

import dns.message
import pytest

from e2e.refusals import GOOD, exchange, http_get, refused, token_for, warnings
from support.addresses import free_port
from support.command import isthmus
from support.federation import DNS_PORT, Federation, Member, RunningController
from support.process import Process
from support.waiting import wait_until

pytestmark = pytest.mark.slow

EXPORT = """\
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {namespace: shop, name: extra}
"""

GIVEN_UP = re.compile(
    r"Traceback \(most recent call last\):\n"
    r'  File "src/python/grpcio/[^"]*/server.pyx.pxi", line \d+, in grpc._cython.cygrpc._schedule_rpc_coro\n'
    r"asyncio.exceptions.CancelledError\n"
)
"""gRPC itself prints this when a client gives a call up in the moment in which it comes."""


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
        assert "Traceback" not in GIVEN_UP.sub("", log.read_text(errors="replace")), log


def test_dns_packets_that_are_no_queries_do_no_harm(two: Federation) -> None:
    west = two["west"]
    wait_until(lambda: west.vip(), within=10)
    where = (west.net.address(53), DNS_PORT)
    query = dns.message.make_query("echo.shop.svc.clusterset.local", "A").to_wire()
    looped = query[:12] + b"\xc0\x0c" + b"\0\1\0\1"
    oversized = query + b"\0" * 60_000
    answer = bytes([query[0], query[1], query[2] | 0x80]) + query[3:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(where)
        for packet, replied in ((b"", 0), (query[:5], 0), (answer, 0), (looped, 1), (query[:-3], 1), (oversized, 1)):
            client.settimeout(10 if replied else 0.3)
            client.send(packet)
            try:
                reply = client.recv(65535)
            except TimeoutError:
                reply = b""
            assert bool(reply) == bool(replied), packet[:40]
            if reply:
                assert reply[:2] == packet[:2] and reply[3] & 0x0F == 1  # FORMERR
    with socket.create_connection(where, 10) as stream:
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
        wait_until((small / "snapshot").exists, within=10)
        fill_up(small / "filler")
        snapshot = (small / "snapshot").read_bytes()  # after this nothing is written any more
        try:
            west.describe(GOOD + "---\n" + EXPORT, "extra.yaml")
            said = "cannot be written: No space left on device. The old one stays; free space or mend the folder."
            wait_until(lambda: said in http_get(web, "/readyz"), within=10, every=0.1)
            assert '"ready":true' in http_get(web, "/readyz")
            assert (small / "snapshot").read_bytes() == snapshot
            (small / "filler").unlink()
            wait_until(lambda: (small / "snapshot").read_bytes() != snapshot, within=10, every=0.1)
            wait_until(lambda: mended(web, said), within=10, every=0.1)
        finally:
            (west.folder / "services" / "extra.yaml").unlink()
        gateway.stop()


def mended(web: str, trouble: str) -> bool:
    """Whether the gateway answers, and does not name this any more."""
    told = http_get(web, "/readyz")
    return bool(told) and trouble not in told


def fill_up(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


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
