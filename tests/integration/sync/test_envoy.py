"""A real Envoy as the judge: it takes what is published, keeps it while the agent restarts, and refuses what is bad."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as http_pb2
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
from support.addresses import free_port
from support.process import Process
from support.waiting import eventually

pytestmark = pytest.mark.anyio
TYPES = (CLUSTERS, ENDPOINTS, LISTENERS, ROUTES)


def cluster(name: str, timeout: float = 1.0) -> cluster_pb2.Cluster:
    made = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
    made.eds_cluster_config.eds_config.ads.SetInParent()
    made.eds_cluster_config.eds_config.resource_api_version = config_source_pb2.V3
    made.connect_timeout.FromNanoseconds(int(timeout * 1e9))
    return made


def endpoints(name: str, *ports: int) -> endpoint_pb2.ClusterLoadAssignment:
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = made.endpoints.add()
    for port in ports:
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return made


def routes(name: str, answer: str) -> route_pb2.RouteConfiguration:
    made = route_pb2.RouteConfiguration(name=name)
    route = made.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.prefix = "/"
    route.direct_response.status = 200
    route.direct_response.body.inline_string = answer
    return made


def listener(name: str, port: int, route: str, prefix: str = "http") -> listener_pb2.Listener:
    manager = http_pb2.HttpConnectionManager(stat_prefix=prefix)
    manager.rds.route_config_name = route
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = config_source_pb2.V3
    manager.http_filters.add(name="router").typed_config.Pack(router_pb2.Router())
    made = listener_pb2.Listener(name=name)
    made.address.socket_address.address, made.address.socket_address.port_value = "127.0.0.1", port
    made.filter_chains.add().filters.add(name="http").typed_config.Pack(manager)
    return made


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


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def put_service(agent: Agent, port: int) -> None:
    agent.put(CLUSTERS, cluster("web"))
    agent.put(ENDPOINTS, endpoints("web", 1001))
    agent.put(LISTENERS, listener("front", port, "main"))
    agent.put(ROUTES, routes("main", "one"))


async def answers(port: int, expected: str) -> bool:
    try:
        return await get(port) == expected
    except aiohttp.ClientError:
        return False


async def test_envoy_takes_and_acknowledges_clusters_endpoints_listeners_and_routes(
    agent: Agent, tmp_path: Path, envoy_binary: Path
) -> None:
    port = free_port()
    put_service(agent, port)
    async with agent.serving(), envoy_of(tmp_path, envoy_binary) as envoy:
        await eventually(lambda: answers(port, "one"), within=20)
        await eventually(lambda: all(agent.accepted(type_url) for type_url in TYPES))
        assert await envoy.hosts("web") == {1001}
        agent.put(ROUTES, routes("main", "two"))
        await eventually(lambda: answers(port, "two"))
        before = await envoy.stat("cluster_manager.cds.update_success")
        agent.put(ENDPOINTS, endpoints("web", 1001, 1002))
        await eventually(lambda: hosts_are(envoy, {1001, 1002}))
        assert await envoy.stat("cluster_manager.cds.update_success") == before, "endpoints never touch clusters"
        assert not agent.nacked


async def hosts_are(envoy: Envoy, ports: set[int], name: str = "web") -> bool:
    return await envoy.hosts(name) == ports


async def test_a_changed_cluster_and_a_changed_listener_become_active_at_once(
    agent: Agent, tmp_path: Path, envoy_binary: Path
) -> None:
    port = free_port()
    put_service(agent, port)
    async with agent.serving(), envoy_of(tmp_path, envoy_binary) as envoy:
        await eventually(lambda: answers(port, "one"), within=20)
        agent.put(CLUSTERS, cluster("web", timeout=2.0))
        resource = agent.publication[CLUSTERS].get("web")
        assert resource is not None

        async def active() -> bool:
            return (await envoy.clusters())["web"] == resource.version

        # Without its endpoints it would warm up for the 15 s of Envoy's initial_fetch_timeout.
        await eventually(active, within=5)
        assert await envoy.hosts("web") == {1001}
        agent.put(LISTENERS, listener("front", port, "main", prefix="changed"))
        await eventually(lambda: has_stat(envoy, "http.changed.downstream_rq_total"), within=5)
        await eventually(lambda: answers(port, "one"), within=5)


async def has_stat(envoy: Envoy, name: str) -> bool:
    return name in await envoy.ask(f"stats?filter={name}")


async def test_envoy_keeps_everything_while_the_agent_restarts_and_is_sent_only_differences(
    agent: Agent, tmp_path: Path, envoy_binary: Path
) -> None:
    port = free_port()
    async with envoy_of(tmp_path, envoy_binary) as envoy:
        put_service(agent, port)
        agent.put(CLUSTERS, cluster("old"))
        agent.put(ENDPOINTS, endpoints("old", 1003))
        async with agent.serving():
            await eventually(lambda: answers(port, "one"), within=20)
            await eventually(lambda: hosts_are(envoy, {1003}, "old"))
        assert await answers(port, "one") and await envoy.hosts("web") == {1001}, "nobody is there to take it away"
        agent.forget()
        put_service(agent, port)
        agent.put(ENDPOINTS, endpoints("web", 1004))
        async with agent.serving():
            await eventually(lambda: hosts_are(envoy, {1004}), within=10)
            await eventually(lambda: hosts_are(envoy, set(), "old"))
            assert agent.connected == 1
            assert {type_url: agent.accepted(type_url) for type_url in TYPES} == {
                CLUSTERS: set(),
                ENDPOINTS: {"web"},
                LISTENERS: set(),
                ROUTES: set(),
            }
            assert await answers(port, "one") and not agent.nacked


async def test_one_bad_resource_is_refused_and_the_rest_goes_on(
    agent: Agent, tmp_path: Path, envoy_binary: Path
) -> None:
    port = free_port()
    put_service(agent, port)
    async with agent.serving(), envoy_of(tmp_path, envoy_binary) as envoy:
        await eventually(lambda: answers(port, "one"), within=20)
        good = [f"good-{number}" for number in range(10)]
        agent.put(ENDPOINTS, *(endpoints(name, 1001) for name in good))
        # One that Envoy refuses while parsing, with all that came beside it, and one that it refuses when it uses it.
        unparsed, unused = cluster("unparsed", timeout=-1.0), cluster("unused")
        unused.eds_cluster_config.ClearField("eds_config")
        agent.put(CLUSTERS, *(cluster(name) for name in good[:5]), unparsed, unused, *(cluster(n) for n in good[5:]))

        async def all_good() -> bool:
            return set(good) <= set(await envoy.clusters())

        await eventually(all_good, within=10)
        await eventually(lambda: refused(agent) == {"unparsed", "unused"}, within=10)
        assert set(await envoy.clusters()) == {*good, "web"}
        count = len(agent.nacked)
        agent.put(CLUSTERS, cluster("unparsed"))
        agent.put(ENDPOINTS, endpoints("unparsed", 1001))
        await eventually(lambda: hosts_are(envoy, {1001}, "unparsed"))
        assert len(agent.nacked) == count, "a refused version is not sent again"


def refused(agent: Agent) -> set[str]:
    return {name for nacked in agent.nacked for name in nacked.rejected}


async def test_a_service_that_goes_is_taken_away_from_the_listener_inwards(
    agent: Agent, tmp_path: Path, envoy_binary: Path
) -> None:
    port = free_port()
    put_service(agent, port)
    async with agent.serving(), envoy_of(tmp_path, envoy_binary) as envoy:
        await eventually(lambda: answers(port, "one"), within=20)
        agent.remove(clusters="web", endpoints="web", listeners="front", routes="main")

        async def gone() -> bool:
            return not await envoy.clusters() and "front" not in await envoy.ask("listeners")

        def removals() -> list[str]:
            return [acked.type_url for acked in agent.acked if acked.removed]

        await eventually(gone)
        await eventually(lambda: {LISTENERS, CLUSTERS} <= set(removals()))  # Envoy acts before it says so
        assert removals().index(LISTENERS) < removals().index(CLUSTERS)
        assert not agent.nacked
