"""The real etcd of the tests keeps its data over a kill and a restart."""

import base64
import http.client
import json
from collections.abc import Callable

from support.etcd import Etcd


def ask(etcd: Etcd, path: str, body: dict[str, str]) -> dict[str, object]:
    connection = http.client.HTTPConnection(etcd.host, etcd.port, timeout=5.0)
    try:
        connection.request("POST", path, json.dumps(body))
        answer: dict[str, object] = json.load(connection.getresponse())
        return answer
    finally:
        connection.close()


def test_etcd_keeps_its_data_over_a_kill(new_etcd: Callable[..., Etcd]) -> None:
    etcd = new_etcd()
    key, value = (base64.b64encode(part).decode() for part in (b"name", b"isthmus"))
    ask(etcd, "/v3/kv/put", {"key": key, "value": value})
    etcd.kill()
    etcd.restart()
    answer = ask(etcd, "/v3/kv/range", {"key": key})
    assert answer["count"] == "1"
    assert value in json.dumps(answer)


def test_the_shared_etcd_runs(etcd: Etcd) -> None:
    assert ask(etcd, "/v3/maintenance/status", {})["version"]
