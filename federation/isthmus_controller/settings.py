"""What a controller must be told; read once, by the command line."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from isthmus_core.errors import InvalidInput


class Listen(msgspec.Struct, frozen=True):
    """Where to listen; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


WILDCARDS = frozenset({"0.0.0.0", "::", ""})


class EtcdSettings(msgspec.Struct, frozen=True):
    """An etcd of one's own: `https://host:port` of one or more members, TLS files (PEM), user and password."""

    addresses: tuple[str, ...]
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"EtcdSettings(addresses={self.addresses}, user={self.user!r})"


class ControllerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One controller replica. `data_dir` is the folder that `isthmus init` made."""

    data_dir: Path
    grpc: Listen = Listen("127.0.0.1", 15010)
    admin: Listen = Listen("127.0.0.1", 15014)
    etcd: EtcdSettings | None = None
    """None: an etcd of its own, with its data in `data_dir`, ended with the controller."""
    advertise_grpc: tuple[str, ...] = ()
    """HOST:PORT under which gateways reach the controllers; empty: where this one listens."""
    advertise_admin: tuple[str, ...] = ()
    """HOST:PORT of the admin API for join tokens; empty: where this one listens."""
    session_ttl_seconds: int = 5
    """A gateway that is silent for longer is shown as not connected; nothing of what it offered is withdrawn."""
    log_level: str = "info"

    def check(self) -> None:
        """Raise InvalidInput where others would be sent to an address that is none."""
        for listen, advertised, flag in (
            (self.grpc, self.advertise_grpc, "--advertise-grpc"),
            (self.admin, self.advertise_admin, "--advertise"),
        ):
            if listen.host in WILDCARDS and not advertised:
                raise InvalidInput(
                    f"the controller listens on every address ({listen}), and clusters cannot be sent there",
                    f"Say with {flag} HOST:PORT under which address they reach it.",
                )


def own_address(listen: Listen, advertised: Sequence[str]) -> str:
    """Under which of the `advertised` addresses of all replicas this one is reached: where it listens, if that is one.

    Else it is the first (an address of its own behind NAT, or one for all of them).
    """
    own = str(listen)
    return own if own in advertised or not advertised else advertised[0]


class Addresses(msgspec.Struct, frozen=True):
    """Where a running controller listens, with the ports that the system chose."""

    grpc: str
    admin: str
