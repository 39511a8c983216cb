"""How a running federation refuses: the sentence of a command, what `doctor` shows, what a port answers."""

import json
import socket
import time
from collections.abc import Mapping

from isthmus_kit.pki import JoinToken, read_token
from support.command import isthmus
from support.federation import Member, RunningController

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


def exchange(place: str, payload: bytes, within: float = 0.5) -> bytes:
    """What a port answers to these bytes until it closes, or for so many seconds."""
    host, port = place.rsplit(":", 1)
    answer, end = b"", time.monotonic() + within
    with socket.create_connection((host, int(port)), 2) as connection:
        connection.settimeout(within)
        try:
            connection.sendall(payload)
            while time.monotonic() < end and (more := connection.recv(4096)):
                answer += more
        except OSError:
            pass
    return answer


def http_get(place: str, path: str) -> str:
    """The whole answer; empty while nobody answers."""
    try:
        return exchange(place, f"GET {path} HTTP/1.0\r\n\r\n".encode(), within=10).decode()
    except OSError:
        return ""
