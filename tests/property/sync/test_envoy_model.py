"""Against a model of Envoy: make before break, warming, refusals without names, and coming back with what it has."""

from collections import deque

import hypothesis.strategies as st
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from google.rpc import status_pb2
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from isthmus_sync import ENVOY, PublisherStream, ResourceCache
from isthmus_sync.order import CLUSTERS, ENDPOINTS, LISTENERS
from isthmus_sync.wire import Request, Response

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
BAD = "bad"


class Envoy:
    """What Envoy does with clusters, endpoints and listeners (a listener's body is the name of its cluster).

    Legacy wildcards for clusters and listeners, endpoints by name. It applies the good clusters of a response and
    refuses the whole of it when one is bad. A changed cluster replaces the old one only when endpoints arrive after it.
    """

    def __init__(self) -> None:
        self.clusters: dict[str, str] = {}  # name -> version
        self.endpoints: dict[str, str] = {}
        self.listeners: dict[str, str] = {}
        self.routes: dict[str, str] = {}  # listener -> cluster
        self.warming: set[str] = set()
        self.subscribed: set[str] = set()

    def connect(self) -> list[Request]:
        first = [Request(type_url=CLUSTERS, initial_resource_versions=self.clusters)]
        if self.subscribed:
            first.append(
                Request(
                    type_url=ENDPOINTS,
                    resource_names_subscribe=sorted(self.subscribed),
                    initial_resource_versions=self.endpoints,
                )
            )
        return [*first, Request(type_url=LISTENERS, initial_resource_versions=self.listeners)]

    def read(self, response: Response) -> list[Request]:
        answer = Request(type_url=response.type_url, response_nonce=response.nonce)
        match response.type_url:
            case url if url == CLUSTERS:
                bad, more = self._read_clusters(response)
            case url if url == ENDPOINTS:
                bad, more = self._read_endpoints(response), []
            case _:
                bad, more = self._read_listeners(response), []
        if bad:
            answer.error_detail.CopyFrom(status_pb2.Status(code=13, message="something in it is bad"))
        return [answer, *more]

    def _read_clusters(self, response: Response) -> tuple[bool, list[Request]]:
        bad = False
        added: set[str] = set()
        dropped: set[str] = set()
        for resource in response.resources:
            cluster = cluster_pb2.Cluster.FromString(resource.resource.value)
            if cluster.alt_stat_name == BAD:
                bad = True
                continue
            if self.clusters.get(resource.name) != resource.version:
                self.warming.add(resource.name)
            self.clusters[resource.name] = resource.version
            if resource.name not in self.subscribed:
                added.add(resource.name)
        for name in response.removed_resources:
            assert name not in self.routes.values(), "a cluster was removed while a listener still used it"
            self.clusters.pop(name, None)
            self.warming.discard(name)
            self.endpoints.pop(name, None)
            dropped |= {name} & self.subscribed
        self.subscribed = (self.subscribed | added) - dropped
        if not added and not dropped:
            return bad, []
        change = Request(
            type_url=ENDPOINTS, resource_names_subscribe=sorted(added), resource_names_unsubscribe=sorted(dropped)
        )
        return bad, [change]

    def _read_endpoints(self, response: Response) -> bool:
        parsed = {r.name: endpoint_pb2.ClusterLoadAssignment.FromString(r.resource.value) for r in response.resources}
        if any(assignment.policy.overprovisioning_factor.value for assignment in parsed.values()):
            return True  # Envoy throws at the first bad assignment; what came before it may have been applied
        for resource in response.resources:
            if resource.name in self.subscribed:
                self.endpoints[resource.name] = resource.version
                self.warming.discard(resource.name)
        for name in response.removed_resources:
            self.endpoints.pop(name, None)
        return False

    def _read_listeners(self, response: Response) -> bool:
        for resource in response.resources:
            cluster = resource.resource.value.decode()
            assert cluster in self.clusters, "a listener came before its cluster"
            self.listeners[resource.name] = resource.version
            self.routes[resource.name] = cluster
        for name in response.removed_resources:
            self.listeners.pop(name, None)
            self.routes.pop(name, None)
        return False


class Agent(RuleBasedStateMachine):
    """Services come, change and go as one change each: a cluster, its endpoints, and a listener that uses it."""

    @initialize(limit=st.sampled_from([1 << 20, 60]))
    def start(self, limit: int) -> None:
        self.caches = {url: ResourceCache(url) for url in (LISTENERS, ENDPOINTS, CLUSTERS)}
        for cache in self.caches.values():
            cache.mark_synced()
        self.limit = limit
        self.version = 0
        self.envoy = Envoy()
        self.refused: dict[tuple[str, str], str] = {}
        self.restart()

    @rule()
    def restart(self) -> None:
        """The agent restarts, or the stream breaks; Envoy comes back with what it has."""
        self.stream = PublisherStream(self.caches, ENVOY, limit=self.limit)
        self.requests: deque[Request] = deque(self.envoy.connect())
        self.responses: deque[bytes] = deque()
        self.refused.clear()
        # A break between a changed cluster and its endpoints: it warms up until Envoy's initial_fetch_timeout.
        self.envoy.warming.clear()

    @rule(name=NAMES, bad=st.sampled_from([False, False, False, True]))
    def cluster_changes(self, name: str, bad: bool) -> None:
        self.version += 1
        # A listener of a cluster that Envoy refused would be without one, whatever the publisher does.
        bad = bad and name not in self.caches[LISTENERS]
        cluster = cluster_pb2.Cluster(name=name, alt_stat_name=BAD if bad else f"v{self.version}")
        self.caches[CLUSTERS].put(name, cluster.SerializeToString())
        if name not in self.caches[ENDPOINTS]:
            self.endpoints_change(name, False)

    @rule(name=NAMES, bad=st.sampled_from([False, False, True]))
    def endpoints_change(self, name: str, bad: bool) -> None:
        self.version += 1
        assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=f"{name} {self.version}")
        if bad:
            assignment.policy.overprovisioning_factor.value = 1
        self.caches[ENDPOINTS].put(name, assignment.SerializeToString())

    @rule(name=NAMES)
    def listener_comes(self, name: str) -> None:
        """Only for clusters that Envoy has or will take."""
        resource = self.caches[CLUSTERS].get(name)
        if resource is not None and cluster_pb2.Cluster.FromString(resource.body).alt_stat_name != BAD:
            self.caches[LISTENERS].put(name, name.encode())

    @rule(name=NAMES)
    def service_goes(self, name: str) -> None:
        for cache in self.caches.values():
            cache.remove(name)

    @rule(times=st.integers(1, 3))
    def publisher_wakes(self, times: int) -> None:
        self.responses.extend(self.stream.next())
        for _ in range(times):
            if self.requests:
                self.publisher_reads()

    @precondition(lambda self: self.requests)
    @rule()
    def publisher_reads(self) -> None:
        self.stream.receive(self.requests.popleft())

    @precondition(lambda self: self.responses)
    @rule()
    def envoy_reads(self) -> None:
        response = Response.FromString(self.responses.popleft())
        answers = self.envoy.read(response)
        for name in response.removed_resources:
            self.refused.pop((response.type_url, name), None)  # what is created anew may be sent anew
        alone = len(response.resources) == 1
        for resource in response.resources if alone else ():
            key = (response.type_url, resource.name)
            if answers[0].HasField("error_detail"):
                # A cluster that comes anew asks for its endpoints anew: only then a refused one may come again.
                if response.type_url == CLUSTERS:
                    assert self.refused.get(key) != resource.version, "refused alone, and sent again unasked"
                self.refused[key] = resource.version
        self.requests.extend(answers)

    @rule()
    def everything_arrives(self) -> None:
        for _ in range(300):
            while self.requests:
                self.publisher_reads()
            self.responses.extend(self.stream.next())
            if not self.responses:
                break
            while self.responses:
                self.envoy_reads()
        assert not self.responses and not self.requests, "it goes on for ever"

    def teardown(self) -> None:
        if not hasattr(self, "stream"):
            return
        self.everything_arrives()
        clusters, endpoints = self.caches[CLUSTERS], self.caches[ENDPOINTS]
        assert set(self.envoy.clusters) <= clusters.names()
        for resource in clusters:
            if cluster_pb2.Cluster.FromString(resource.body).alt_stat_name != BAD:
                assert self.envoy.clusters[resource.name] == resource.version, "a good cluster did not arrive"
        for name in self.envoy.clusters:
            assignment = endpoints.get(name)
            assert assignment is not None
            if not endpoint_pb2.ClusterLoadAssignment.FromString(assignment.body).HasField("policy"):
                assert self.envoy.endpoints.get(name) == assignment.version
                assert name not in self.envoy.warming, "a changed cluster waits for endpoints that never come"
        assert set(self.envoy.listeners) == self.caches[LISTENERS].names()


def test_envoy_ends_with_every_good_resource_and_warms_every_cluster() -> None:
    run_state_machine_as_test(Agent, settings=settings(max_examples=80, stateful_step_count=40, deadline=None))
