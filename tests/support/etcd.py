"""A real etcd for a test: free ports, data in a folder of its own, fast because nothing is synced to disk."""

import http.client
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support import binaries
from support.addresses import free_port
from support.process import Process
from support.waiting import wait_until


class Etcd:
    """One etcd member. `address` is host:port for clients; it survives `restart`, as do the data."""

    def __init__(self, folder: Path, arguments: Sequence[str] = (), host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = host
        self.port = free_port(host)
        peer = f"http://{host}:{free_port(host)}"
        client = f"http://{host}:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.process = Process(
            [
                binaries.etcd(),
                "--name=test",
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=test={peer}",
                "--log-level=warn",
                "--unsafe-no-fsync",
                *arguments,
            ],
            folder / "etcd.log",
        )

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> Self:
        self.process.start()
        wait_until(self._healthy, within=30.0)
        return self

    def _healthy(self) -> bool:
        if not self.process.running:
            raise self.process.ended()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=1.0)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def restart(self) -> None:
        """End it if it runs and start it again on the same ports with the same data."""
        self.process.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
