"""A real Envoy as the judge: it takes what is published, keeps it while the agent restarts, and refuses what is bad."""

from pathlib import Path

import aiohttp
import pytest

from integration.sync.envoy_messages import cluster, endpoints, listener, routes
from integration.sync.plain_envoy import TYPES, Agent, Envoy, envoy_of, get
from isthmus_sync.order import CLUSTERS, ENDPOINTS, LISTENERS, ROUTES
from support.addresses import free_port
from support.waiting import eventually

pytestmark = pytest.mark.anyio


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
