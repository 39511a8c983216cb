"""An island: a network without a way out, where port 53 is free for everybody, and files of its own in /etc."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from support.netns import inside_network
from support.process import Process

NETWORK = "192.0.2"
_ADDRESSES = [f"{NETWORK}.{n}" for n in range(1, 30)]

_SETUP = """
set -e
ip link set lo up
ip link add eth0 type veth peer name cable
ip link set cable up
ip link set eth0 up
for address in {addresses}; do ip address add $address/24 dev eth0; done
ip address add 2001:db8::2/64 dev eth0 nodad
mount -t tmpfs none /run
{mounts}
echo ready
exec sleep 3600
"""


class NoNamespace(Exception):
    """This machine cannot make such a network; the sentence says what is missing."""


class Island:
    """A network and mount namespace, held by one sleeping process; leaving it ends what still runs inside."""

    def __init__(self, folder: Path, files: Mapping[str, str] = MappingProxyType({})) -> None:
        """`files`: what all programs inside see at these paths, which must exist on the machine."""
        self.folder = folder
        mounts = []
        for path, text in files.items():
            mine = folder / path.strip("/").replace("/", "-")
            mine.write_text(text)
            mounts.append(f"mount --bind '{mine}' '{path}'")
        script = _SETUP.format(addresses=" ".join(_ADDRESSES), mounts="\n".join(mounts))
        command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script]
        self._holder = Process(command, folder / "island.log", shared=True)

    def __enter__(self) -> Self:
        self._holder.start()
        try:
            self._holder.wait_for_line("^ready$", within=10.0)
        except Exception as error:
            self._holder.kill()
            raise NoNamespace(f"no network namespaces here (a container without CAP_SYS_ADMIN?): {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holder.kill()

    def command(self, *words: str | Path, files: Mapping[str, Path] | None = None) -> Sequence[str | Path]:
        """The command line that runs a program inside; it sees these files at these paths."""
        enter: list[str | Path] = ["nsenter", f"--target={self._holder.pid}", "--net", "--mount"]
        if not files:
            return [*enter, *words]
        binds = " && ".join(f"mount --bind '{mine}' '{path}'" for path, mine in files.items())
        return [*enter, "unshare", "--mount", "sh", "-c", f'{binds} && exec "$@"', "sh", *words]

    def run(
        self,
        *words: str | Path,
        files: Mapping[str, Path] | None = None,
        env: Mapping[str, str] = MappingProxyType({}),
        within: float = 10.0,
    ) -> str:
        """What a program says inside, both streams."""
        command = list(self.command(*words, files=files))
        done = subprocess.run(
            command, env={**os.environ, **env}, capture_output=True, text=True, timeout=within, check=False
        )
        return done.stdout + done.stderr

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets opened in the block belong to this network for life; nothing may be awaited in it."""
        with inside_network(Path(f"/proc/{self._holder.pid}/ns/net")):
            yield
