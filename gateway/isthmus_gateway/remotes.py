"""Know which clusters can be reached from here: Envoy's verdicts on their gateways, one cluster at a time."""

from collections.abc import Mapping

from isthmus_core.model import Cluster
from isthmus_core.names import ClusterId

FIRST_PROBE_MS = 250
LONGEST_PROBE_MS = 2000
ROUND_TRIPS = 4
"""Of a first probe, with one to spare: TCP, TLS, the request."""
LOOKS_BEFORE_MORE = 3
"""So often a near cluster may be looked at without success before its probes get more time anyway."""


class Remotes:
    """The verdicts on other clusters' gateways. A cluster is unreachable when all its gateways were found dead."""

    def __init__(self) -> None:
        self._verdicts: dict[ClusterId, dict[tuple[str, int], bool]] = {}
        self._reached: set[ClusterId] = set()
        self._probe_ms: dict[ClusterId, int] = {}
        self._looks: dict[ClusterId, int] = {}

    def note(self, cluster: ClusterId, address: str, port: int, healthy: bool) -> None:
        """Record a verdict."""
        self._verdicts.setdefault(cluster, {})[(address, port)] = healthy
        if healthy:
            self._reached.add(cluster)

    def retain(self, cluster: ClusterId, known: Cluster | None) -> None:
        """Forget gateways that are gone; a cluster that is gone entirely."""
        if known is None:
            self._verdicts.pop(cluster, None)
            self._reached.discard(cluster)
            self._probe_ms.pop(cluster, None)
            self._looks.pop(cluster, None)
            return
        kept = {(gateway.address, gateway.port) for gateway in known.gateways}
        verdicts = self._verdicts.get(cluster, {})
        self._verdicts[cluster] = {where: healthy for where, healthy in verdicts.items() if where in kept}

    def unreachable(self, cluster: ClusterId) -> bool:
        """Whether every gateway that was looked at is dead; before the first look nobody is."""
        verdicts = self._verdicts.get(cluster, {})
        return bool(verdicts) and not any(verdicts.values())

    def verdicts(self, cluster: ClusterId) -> Mapping[str, bool]:
        """For people: address and port, and whether it is healthy."""
        found = self._verdicts.get(cluster, {})
        return {f"{address}:{port}": healthy for (address, port), healthy in sorted(found.items())}

    def probe_ms(self, cluster: ClusterId) -> int:
        """How long a probe may take."""
        return self._probe_ms.get(cluster, FIRST_PROBE_MS)

    def doubtful(self) -> Mapping[ClusterId, tuple[tuple[str, int], ...]]:
        """The gateways of the clusters that were probed and do not answer."""
        return {cluster: tuple(verdicts) for cluster, verdicts in self._verdicts.items() if self.unreachable(cluster)}

    def patience(self, round_trips_ms: Mapping[ClusterId, float]) -> list[ClusterId]:
        """Give the probes of doubtful clusters the time that the distance asks for; those whose time has grown.

        Only a cluster whose gateway accepts connections is in `round_trips_ms`: one that was down when it was first
        looked at must not be probed patiently for ever. Where a proxy stands in front of a gateway the distance to it
        says too little, so that looking in vain counts too, until it was reached once (the kernel of a frozen gateway
        accepts connections as well).
        """
        grown = []
        for cluster in self.doubtful():
            if cluster not in round_trips_ms:
                continue
            before = now = self.probe_ms(cluster)
            needed = round_trips_ms[cluster] * ROUND_TRIPS
            if cluster not in self._reached:
                looks = self._looks[cluster] = self._looks.get(cluster, 0) + 1
                needed = before * 2 if looks % LOOKS_BEFORE_MORE == 0 else needed
            while now < min(needed, LONGEST_PROBE_MS):
                now = min(LONGEST_PROBE_MS, now * 2)
            if now != before:
                self._probe_ms[cluster] = now
                grown.append(cluster)
        return grown
