"""Ask a running Envoy over its admin socket: is it ready, what does it count, whom does it think healthy."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import msgspec

from isthmus_core.errors import Unavailable

TIMEOUT_S = 5.0
KEYS_A_CALL = 100  # a request line and headers of 60 KiB are the most that Envoy takes


class Verdict(msgspec.Struct, frozen=True):
    """Envoy's opinion of one endpoint of one of its clusters."""

    cluster: str
    address: str
    port: int
    healthy: bool


class SocketAddress(msgspec.Struct, frozen=True):
    """An IP address and port in Envoy's JSON."""

    address: str = ""
    port_value: int = 0


class HostAddress(msgspec.Struct, frozen=True):
    """The address of a host in Envoy's JSON; internal addresses have no socket address."""

    socket_address: SocketAddress | None = None


class _HostHealth(msgspec.Struct, frozen=True):
    failed_active_health_check: bool = False
    pending_active_hc: bool = False


class _Host(msgspec.Struct, frozen=True):
    address: HostAddress
    health_status: _HostHealth = _HostHealth()


class _ClusterStatus(msgspec.Struct, frozen=True):
    name: str
    host_statuses: tuple[_Host, ...] = ()


class _Clusters(msgspec.Struct, frozen=True):
    cluster_statuses: tuple[_ClusterStatus, ...] = ()


class _RuntimeEntry(msgspec.Struct, frozen=True):
    final_value: str = ""


class _Runtime(msgspec.Struct, frozen=True):
    entries: dict[str, _RuntimeEntry] = {}


_RUNTIME = msgspec.json.Decoder(_Runtime)
_CLUSTERS = msgspec.json.Decoder(_Clusters)


class Admin:
    """Every call opens its own connection and raises Unavailable when Envoy does not answer within five seconds."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def ready(self) -> bool:
        """Whether Envoy has its configuration and serves."""
        try:
            status, _ = await self._ask("GET", "/ready")
        except Unavailable:
            return False
        return status == 200

    async def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match the regular expression."""
        body = await self._good("GET", "/stats", filter=pattern)
        answer: dict[str, int] = {}
        for line in body.decode().splitlines():
            name, _, value = line.rpartition(": ")
            if name and value.lstrip("-").isdigit():
                answer[name] = int(value)
        return answer

    async def clusters(self) -> tuple[Verdict, ...]:
        """The verdicts on all endpoints that were checked at least once."""
        try:
            found = _CLUSTERS.decode(await self._good("GET", "/clusters", format="json"))
        except msgspec.DecodeError as error:
            raise Unavailable("Envoy's list of clusters cannot be read") from error
        return tuple(
            Verdict(cluster.name, host.address.socket_address.address, host.address.socket_address.port_value,
                    not host.health_status.failed_active_health_check)
            for cluster in found.cluster_statuses
            for host in cluster.host_statuses
            if host.address.socket_address is not None and not host.health_status.pending_active_hc
        )  # fmt: skip

    async def runtime(self) -> dict[str, str]:
        """The runtime keys that are set, with what counts for each."""
        try:
            entries = _RUNTIME.decode(await self._good("GET", "/runtime")).entries
        except msgspec.DecodeError as error:
            raise Unavailable("Envoy's runtime cannot be read") from error
        return {name: entry.final_value for name, entry in entries.items()}

    async def set_runtime(self, values: Mapping[str, str]) -> None:
        """Set runtime keys, effective at once; an empty value takes a key away."""
        names = list(values)
        for start in range(0, len(names), KEYS_A_CALL):
            await self._good("POST", "/runtime_modify", **{n: values[n] for n in names[start : start + KEYS_A_CALL]})

    async def drain(self) -> None:
        """Ask clients to leave with their next answer; Envoy goes on serving."""
        await self._good("POST", "/drain_listeners", graceful="")

    async def _good(self, method: str, path: str, **query: str) -> bytes:
        status, body = await self._ask(method, path, **query)
        if status != 200:
            raise Unavailable(f"Envoy answered {path} with status {status}")
        return body

    async def _ask(self, method: str, path: str, **query: str) -> tuple[int, bytes]:
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket), force_close=True)) as session,
                session.request(method, f"http://envoy{path}", params=query) as answer,
            ):
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"Envoy does not answer on {self._socket.name}") from error
