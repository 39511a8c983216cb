"""Pick the endpoints that a client should get: those of the nearest clusters, the nearest endpoint first."""

from collections.abc import Iterable

from isthmus_core.names import Locality
from isthmus_core.route import rank
from isthmus_dns.zone.service import Host


def nearest(hosts: Iterable[Host], client: Locality | None) -> tuple[Host, ...]:
    """The endpoints of the clusters that are nearest, in order; the rest waits until those are gone.

    All `hosts` are healthy. Without a `client` the gateway's own order (`tier`) decides; else how far each endpoint is
    from there, and the gateway's order among those that are equally far.
    """
    ordered = sorted(((_distance(host, client), host) for host in hosts), key=lambda pair: pair[0])
    if not ordered:
        return ()
    first = ordered[0][0]
    clusters = {host.cluster for distance, host in ordered if distance == first}
    return tuple(host for _, host in ordered if host.cluster in clusters)


def _distance(host: Host, client: Locality | None) -> tuple[int, int]:
    if client is None or host.locality is None:
        return 0, host.tier
    return int(rank(client, host.locality)), host.tier
