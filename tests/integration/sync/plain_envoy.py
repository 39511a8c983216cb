"""A real Envoy that knows nothing of Isthmus, and the publishing half of an agent that feeds it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from google.protobuf.message import Message

from isthmus_sync import (
    ADS_METHOD,
    ENVOY,
    Acked,
    Nacked,
    Publication,
    Publishing,
    ResourceCache,
    new_server,
    publisher_handler,
)
from isthmus_sync.order import CLUSTERS, ENDPOINTS, LISTENERS, ROUTES
from support.process import Process
from support.waiting import eventually

TYPES = (CLUSTERS, ENDPOINTS, LISTENERS, ROUTES)


class Agent:
    """The publishing half of an agent; it can be restarted with the same or with other resources."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "xds.sock"
        self.forget()

    def forget(self) -> None:
        self.publication = Publication([ResourceCache(type_url) for type_url in TYPES], ENVOY)
        self.acked: list[Acked] = []
        self.nacked: list[Nacked] = []
        self.connected = 0

    def put(self, type_url: str, *messages: Message) -> None:
        with self.publication.change() as caches:
            for cache in caches.values():
                cache.mark_synced()
            for message in messages:
                name = str(getattr(message, "cluster_name" if type_url == ENDPOINTS else "name"))
                caches[type_url].put(name, message.SerializeToString(deterministic=True))

    def remove(self, **names: str) -> None:
        with self.publication.change() as caches:
            for type_url, name in names.items():
                caches[globals()[type_url.upper()]].remove(name)

    def accepted(self, type_url: str) -> set[str]:
        return {name for acked in self.acked if acked.type_url == type_url for name in acked.accepted}

    def _connect(self) -> None:
        self.connected += 1

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        @asynccontextmanager
        async def feed(_: object) -> AsyncIterator[Publishing]:
            yield Publishing(
                self.publication,
                on_connected=self._connect,
                on_acked=self.acked.append,
                on_nacked=self.nacked.append,
            )

        server = new_server([publisher_handler(ADS_METHOD, lambda caller: caller, feed)])
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)


class Envoy:
    """A running Envoy and what its admin says."""

    def __init__(self, admin: aiohttp.ClientSession) -> None:
        self._admin = admin

    async def ask(self, path: str) -> str:
        async with self._admin.get(f"http://admin/{path}") as answer:
            return await answer.text()

    async def hosts(self, name: str) -> set[int]:
        statuses = json.loads(await self.ask("clusters?format=json")).get("cluster_statuses", [])
        return {
            host["address"]["socket_address"]["port_value"]
            for status in statuses
            if status["name"] == name
            for host in status.get("host_statuses", [])
        }

    async def clusters(self, state: str = "dynamic_active_clusters") -> dict[str, str]:
        dump = json.loads(await self.ask(f"config_dump?resource={state}"))
        return {entry["cluster"]["name"]: entry["version_info"] for entry in dump.get("configs", [])}

    async def stat(self, name: str) -> int:
        (line,) = [line for line in (await self.ask(f"stats?filter=^{name}$")).splitlines() if line]
        return int(line.split(": ")[1])


def bootstrap(folder: Path) -> str:
    ads = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [
            {
                "envoy_grpc": {
                    "cluster_name": "agent",
                    "retry_policy": {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"}},
                }
            }
        ],
    }
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    agent = {
        "name": "agent",
        "load_assignment": {
            "cluster_name": "agent",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(folder / "xds.sock")}}}}]}],
        },
        "typed_extension_protocol_options": {
            options: {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
        },
    }
    source = {"ads": {}, "resource_api_version": "V3"}
    return json.dumps(
        {
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": {"pipe": {"path": str(folder / "admin.sock"), "mode": 0o600}}},
            "static_resources": {"clusters": [agent]},
            "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
        }
    )


@asynccontextmanager
async def envoy_of(folder: Path, binary: Path) -> AsyncIterator[Envoy]:
    (folder / "envoy.json").write_text(bootstrap(folder))
    command: list[str | Path] = [
        binary,
        "-c",
        folder / "envoy.json",
        "--concurrency",
        "1",
        "--base-id-path",
        folder / "id",
    ]
    command += ["--use-dynamic-base-id", "--log-level", "warn"]
    with Process(command, folder / "envoy.log"):
        connector = aiohttp.UnixConnector(str(folder / "admin.sock"))
        async with aiohttp.ClientSession(connector=connector) as session:
            await eventually(lambda: (folder / "admin.sock").exists(), within=20)
            yield Envoy(session)


async def get(port: int) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
        return await answer.text()
