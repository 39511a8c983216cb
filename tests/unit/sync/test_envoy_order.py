"""What is special about Envoy: endpoints follow changed clusters, and removals go from the outside in."""

from envoy.config.cluster.v3 import cluster_pb2

from isthmus_sync import ENVOY
from isthmus_sync.order import CLUSTERS, ENDPOINTS, LISTENERS, ROUTES, endpoints_of
from unit.sync.playbook import Play, gone, told


def put_cluster(play: Play, name: str, service_name: str, version: str) -> None:
    cluster = cluster_pb2.Cluster(name=name)
    cluster.eds_cluster_config.service_name = service_name
    play.caches[CLUSTERS].put(name, cluster.SerializeToString(), version)


def envoy() -> Play:
    """An Envoy that has cluster `web` with endpoints `web-endpoints`."""
    play = Play(ENVOY, (ROUTES, LISTENERS, ENDPOINTS, CLUSTERS))
    put_cluster(play, "web", "web-endpoints", "1")
    play.put(ENDPOINTS, **{"web-endpoints": "1"})
    play.says(CLUSTERS)
    play.says(ENDPOINTS, subscribe=["web-endpoints"])
    for response in play.hears():
        play.acks(response)
    return play


def test_the_endpoints_of_a_changed_cluster_follow_it_although_unchanged() -> None:
    play = envoy()
    put_cluster(play, "web", "web-endpoints", "2")
    clusters, endpoints = play.hears()
    assert told(clusters) == {"web": "2"}
    assert told(endpoints) == {"web-endpoints": "1"}


def test_endpoints_of_a_changed_cluster_follow_also_when_the_subscription_arrives_later() -> None:
    play = envoy()
    put_cluster(play, "web", "web-endpoints", "2")
    play.reconnect()
    play.says(CLUSTERS, has={"web": "1"})
    assert told(play.hears_one()) == {"web": "2"}
    play.says(ENDPOINTS, subscribe=["web-endpoints"], has={"web-endpoints": "1"})
    assert told(play.hears_one()) == {"web-endpoints": "1"}


def test_endpoints_alone_never_touch_clusters() -> None:
    play = envoy()
    play.put(ENDPOINTS, **{"web-endpoints": "2"})
    assert play.hears_one().type_url == ENDPOINTS


def test_refused_endpoints_do_not_follow_their_cluster() -> None:
    play = envoy()
    play.put(ENDPOINTS, **{"web-endpoints": "bad"})
    play.nacks(play.hears_one())
    put_cluster(play, "web", "web-endpoints", "2")
    assert play.hears_one().type_url == CLUSTERS


def test_the_name_of_the_endpoints_is_the_clusters_unless_it_says_otherwise() -> None:
    assert endpoints_of("web", cluster_pb2.Cluster(name="web").SerializeToString()) == "web"


def test_removals_go_listeners_routes_clusters_endpoints_each_after_the_ack_before() -> None:
    play = envoy()
    play.put(LISTENERS, front="1")
    play.put(ROUTES, route="1")
    play.says(LISTENERS)
    play.says(ROUTES, subscribe=["route"])
    for response in play.hears():
        play.acks(response)
    play.remove("web", type_url=CLUSTERS)
    play.remove("web-endpoints", type_url=ENDPOINTS)
    play.remove("front", type_url=LISTENERS)
    play.remove("route", type_url=ROUTES)
    order: list[tuple[str, ...]] = []
    while responses := play.hears():
        order.extend((response.type_url, *gone(response)) for response in responses)
        for response in responses:
            play.acks(response)
    assert order == [(LISTENERS, "front"), (ROUTES, "route"), (CLUSTERS, "web"), (ENDPOINTS, "web-endpoints")]


def test_who_comes_back_loses_no_cluster_before_its_listeners_are_known() -> None:
    play = envoy()
    play.remove("web", type_url=CLUSTERS)
    play.reconnect()
    play.says(CLUSTERS, has={"web": "1"})
    assert not any(gone(response) for response in play.hears())
    play.says(LISTENERS, has={"front": "1"})
    listeners = play.hears_one()
    assert listeners.type_url == LISTENERS and gone(listeners) == {"front"}


def test_additions_go_clusters_endpoints_listeners_routes() -> None:
    play = Play(ENVOY, (ROUTES, LISTENERS, ENDPOINTS, CLUSTERS))
    put_cluster(play, "web", "web", "1")
    for type_url in (ROUTES, LISTENERS, ENDPOINTS):
        play.put(type_url, web="1")
    for type_url in (ROUTES, LISTENERS, ENDPOINTS, CLUSTERS):
        play.says(type_url, subscribe=["*"])
    assert [r.type_url for r in play.hears()] == [CLUSTERS, ENDPOINTS, LISTENERS, ROUTES]
