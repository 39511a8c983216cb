"""Know which clusters can be reached from here: Envoy's verdicts on their gateways, one cluster at a time."""

from collections.abc import Mapping

from isthmus_core.model import Cluster
from isthmus_core.names import ClusterId

FIRST_PROBE_MS = 250
LONGEST_PROBE_MS = 2000


class Remotes:
    """The verdicts on other clusters' gateways. A cluster is unreachable when all its gateways were found dead."""

    def __init__(self) -> None:
        self._verdicts: dict[ClusterId, dict[tuple[str, int], bool]] = {}
        self._reached: set[ClusterId] = set()
        self._probe_ms: dict[ClusterId, int] = {}

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

    def patience(self) -> list[ClusterId]:
        """Clusters that were probed and never reached get twice the time: a first probe needs three round trips."""
        grown = []
        for cluster, verdicts in self._verdicts.items():
            now = self.probe_ms(cluster)
            if verdicts and cluster not in self._reached and now < LONGEST_PROBE_MS:
                self._probe_ms[cluster] = min(LONGEST_PROBE_MS, now * 2)
                grown.append(cluster)
        return grown
