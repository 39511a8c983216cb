"""What a joined cluster knows about itself: cluster.json in its data directory."""

from pathlib import Path

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.names import ClusterId, Locality
from isthmus_core.spiffe import parse_domain, parse_member_id
from isthmus_kit.files import read_file, write_file

SCHEMA = 1


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster's place in its federation. `controllers` are the HOST:PORT of the controllers' gRPC.

    `token` is the id of the join token that made it a member: it says whether a token is a new one.
    """

    id: ClusterId
    federation: str
    domain: str
    locality: Locality
    network: str
    controllers: tuple[str, ...]
    token: str = ""


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    federation: str
    domain: str
    locality: str
    network: str
    controllers: tuple[str, ...]
    token: str = ""
    schema: int = SCHEMA


def read_membership(folder: Path) -> Membership:
    """The membership in `folder`; raises InvalidInput when no cluster has joined there."""
    path = folder / "cluster.json"
    raw = read_file(
        path, "the cluster's membership", "Run 'isthmus cluster join' first, or name the folder where it ran."
    )
    try:
        stored = msgspec.json.decode(raw, type=_Stored)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"{path} cannot be read: {error}", "Restore it from a backup or join again.") from error
    if stored.schema > SCHEMA:
        raise InvalidInput(f"{path} was written by a newer release (schema {stored.schema})", "Update this program.")
    return Membership(
        id=parse_member_id(stored.id),
        federation=stored.federation,
        domain=parse_domain(stored.domain),
        locality=Locality.parse(stored.locality),
        network=stored.network,
        controllers=stored.controllers,
        token=stored.token,
    )


def write_membership(folder: Path, member: Membership) -> None:
    """Write cluster.json in one step."""
    stored = _Stored(
        id=member.id,
        federation=member.federation,
        domain=member.domain,
        locality=str(member.locality),
        network=member.network,
        controllers=member.controllers,
        token=member.token,
    )
    write_file(folder / "cluster.json", msgspec.json.format(msgspec.json.encode(stored)) + b"\n")


class MembershipWatch:
    """Whether the folder says something else of the cluster than what its gateway started with."""

    def __init__(self, folder: Path, running: Membership) -> None:
        self._path = folder / "cluster.json"
        self._running = running
        self._seen: tuple[int, int] | None = None
        self._trouble = ""

    def look(self) -> str:
        """For people: what differs, and how to mend it; empty when nothing does. Reads the file when it changed."""
        try:
            told = self._path.stat()
        except OSError as error:
            self._seen = None
            return f"{self._path} cannot be read: {(error.strerror or '').lower()}. Restore it or join again."
        if (seen := (told.st_ino, told.st_mtime_ns)) != self._seen:
            self._seen, self._trouble = seen, self._compare()
        return self._trouble

    def _compare(self) -> str:
        try:
            now = read_membership(self._path.parent)
        except InvalidInput as error:
            return str(error)
        # What is listed here stands in other clusters' decisions and in every route: it changes with a fresh start.
        before = _place(self._running)
        differs = [
            f"{name} {value} (it runs with {before[name]})"
            for name, value in _place(now).items()
            if value != before[name]
        ]
        mend = f"Restart the gateway: stop it and run 'isthmus gateway --cluster {now.id}'."
        return f"the cluster has joined again with {' and '.join(differs)}. {mend}" if differs else ""


def _place(member: Membership) -> dict[str, str]:
    return {
        "the cluster id": member.id,
        "the locality": str(member.locality),
        "the network": member.network or "none",
        "the controllers": ", ".join(member.controllers),
    }
