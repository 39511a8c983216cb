"""Run one etcd beside the controller, for a try-out or a small federation: started, watched over and ended with us."""

import asyncio
import fcntl
import logging
import os
import random
import secrets
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from isthmus_controller.etcd_binary import BINARY_MEND, find_etcd
from isthmus_controller.store import EtcdClient, Target, TlsFiles
from isthmus_controller.store.local_tls import LocalTls, make_local_tls
from isthmus_core.errors import InvalidInput, IsthmusError, Unavailable
from isthmus_kit.backoff import Backoff
from isthmus_kit.children import end
from isthmus_kit.files import make_folder, unwritable
from isthmus_kit.listening import usable_port

log = logging.getLogger(__name__)

_QUOTA_BYTES = 2 * 1024**3
_LOG_BYTES = 10_000_000

# Run by a tiny Python that becomes etcd: the kernel kills etcd when we end, however we end (prctl(2),
# PR_SET_PDEATHSIG, kept across execve). `preexec_fn` would run Python between fork and exec of a process that has
# gRPC's threads, which may deadlock. The parent is asked for again, because it may be gone before the kernel is told.
_BECOME = (
    "import ctypes, os, sys\n"
    f"ctypes.CDLL(None).prctl(1, {int(signal.SIGKILL)})\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class EtcdProcess:
    """A single etcd with its data in `<folder>/etcd`, reachable on loopback and only with our own certificate.

        async with EtcdProcess(folder) as etcd:                      # serves when the block begins
            group.create_task(etcd.supervise(), name="etcd")         # starts it again when it dies
            async with EtcdClient(etcd.target) as client: ...

    Belongs to the thread of the event loop: the kernel ends etcd when that thread ends.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        binary: Path | None = None,
        patience: float = 30.0,
    ) -> None:
        self._folder = folder.absolute()
        self._data = self._folder / "etcd"
        self.log_file = self._folder / "etcd.log"
        self._host = host
        self._port = port
        self._log_start = 0
        self._peer_port = 0
        self._binary = binary
        self._patience = patience
        self._tls: LocalTls | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def target(self) -> Target:
        """How to reach it."""
        if self._tls is None:
            raise RuntimeError("etcd was not started")
        files = TlsFiles(self._tls.ca, self._tls.client_certificate, self._tls.client_key)
        return Target((f"https://{self._host}:{self._port}",), files)

    @property
    def pid(self) -> int:
        """The process id of etcd; raises RuntimeError before the start."""
        if self._child is None:
            raise RuntimeError("etcd was not started")
        return self._child.pid

    async def start(self) -> None:
        """Start etcd and return when it serves.

        Raises InvalidInput for what a person must mend: no binary, a folder that cannot be written or is in use, a
        port in use; Unavailable when etcd dies at once or does not serve in time, with the last line of its log.
        """
        self._binary = self._binary or find_etcd()
        make_folder(self._folder)
        make_folder(self._data)
        await self._wait_for_data()
        self._port = usable_port(self._host, self._port)
        self._peer_port = usable_port(self._host, 0)
        self._tls = make_local_tls(self._folder / "etcd-tls", self._host)
        await self._spawn()

    async def supervise(self) -> None:
        """Start etcd again whenever it ends, until `stop`; its data and its address stay."""
        backoff = Backoff(initial=0.1)
        attempt = 0
        while not self._stopping:
            child = self._child
            status = await child.wait() if child is not None else -1
            if self._stopping:
                return
            log.error("etcd ended, starting it again", extra={"status": status, "last_line": self._last_line()})
            await asyncio.sleep(backoff.delay(attempt, random.random))
            attempt += 1
            try:
                await self._wait_for_data()
                if not self._stopping:
                    await self._spawn()
                attempt = 0
            except IsthmusError as error:
                log.error("etcd does not start", extra={"why": str(error)})

    async def stop(self, grace: float = 3.0) -> None:
        """Ask etcd to stop, and end it after `grace` seconds; committed data are safe either way."""
        self._stopping = True
        if self._child is not None:
            await end(self._child, grace)

    async def _spawn(self) -> None:
        binary = str(self._binary)
        with self._open_log() as output:
            try:
                self._child = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), binary, *self._arguments()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # etcd refuses to start when an ETCD_ variable stands beside the flag of the same name.
                    env={name: value for name, value in os.environ.items() if not name.startswith("ETCD_")},
                    cwd=self._folder,
                    start_new_session=True,  # a Ctrl-C on the terminal is for us; we end etcd in order
                )
            except OSError as error:
                raise InvalidInput(f"etcd cannot be started: {binary}: {error.strerror}", BINARY_MEND) from error
        await self._wait_until_it_serves(self._child)

    async def _wait_until_it_serves(self, child: asyncio.subprocess.Process) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience
        why = ""
        # etcd listens before it serves: a connection that is made early waits inside the TLS handshake, so the
        # first answer comes as soon as there is one.
        while clock() < deadline:
            if child.returncode is not None:
                raise Unavailable(f"etcd ended at once: {self._last_line()}", f"Its log is {self.log_file}.")
            if not await _accepts(self._host, self._port):
                await asyncio.sleep(0.01)
                continue
            async with EtcdClient(self.target, timeout=2.0) as client:
                try:
                    await client.get("/isthmus/ready")  # linearizable: it has a leader and may write
                    return
                except Unavailable as error:
                    why = error.sentence
            await asyncio.sleep(0.02)
        await end(child, 0.5)
        raise Unavailable(f"etcd does not serve after {self._patience:g} s: {why or 'it does not listen'}")

    async def _wait_for_data(self) -> None:
        """An etcd that is just ending keeps its lock for a moment; one that lives on is an error."""
        database = self._data / "member" / "snap" / "db"
        for attempt in range(50):
            if not _locked(database):
                return
            if attempt == 0:
                log.info("waiting for another etcd to leave the data", extra={"folder": str(self._data)})
            await asyncio.sleep(0.1)
        raise InvalidInput(
            f"another etcd is running with the data in {self._data}",
            "End the controller that started it, or choose another data directory.",
        )

    def _arguments(self) -> list[str]:
        assert self._tls is not None
        client = f"https://{self._host}:{self._port}"
        peer = f"https://{self._host}:{self._peer_port}"
        tls = self._tls
        flags = {
            "name": "isthmus",
            "data-dir": self._data,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"isthmus={peer}",
            # Random, used for an empty data directory only: a registry that was lost is then another cluster, which
            # every follower notices, instead of the same one with nothing in it.
            "initial-cluster-token": secrets.token_hex(16),
            "client-cert-auth": "true",
            "trusted-ca-file": tls.ca,
            "cert-file": tls.server_certificate,
            "key-file": tls.server_key,
            "peer-client-cert-auth": "true",
            "peer-trusted-ca-file": tls.ca,
            "peer-cert-file": tls.server_certificate,
            "peer-key-file": tls.server_key,
            "tls-min-version": "TLS1.3",
            "quota-backend-bytes": _QUOTA_BYTES,
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": "10m",
            "log-level": "warn",
            "logger": "zap",
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def _open_log(self) -> "_LogFile":
        try:
            if self.log_file.exists() and self.log_file.stat().st_size > _LOG_BYTES:
                self.log_file.replace(self.log_file.with_suffix(".log.1"))
            self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
            return _LogFile(os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise unwritable(self.log_file, error) from error

    def _last_line(self) -> str:
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(self._log_start, self.log_file.stat().st_size - 50_000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return "it left no log"
        entries = [entry for entry in map(_parse, reversed(lines)) if entry is not None]
        # The trace of a panic comes after the line that says what it was about.
        worst = next((entry for entry in entries if entry.level in ("panic", "fatal", "error")), None)
        if worst is not None:
            return f"{worst.msg}: {worst.error}" if worst.error else worst.msg
        if not lines:
            return "it said nothing"
        panic = next((line for line in lines if line.startswith(("panic: ", "fatal error: "))), "")
        if panic:
            return f"{panic[:300]}" + (f" (before that: {entries[0].msg})" if entries else "")
        return entries[0].msg if entries else lines[-1][:300]


class _LogLine(msgspec.Struct):
    msg: str
    level: str = ""
    error: str = ""


class _LogFile:
    """A file descriptor that the child inherits and we close."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _parse(line: str) -> _LogLine | None:
    try:
        return msgspec.json.decode(line, type=_LogLine)
    except msgspec.MsgspecError:
        return None


def _locked(database: Path) -> bool:
    """Whether a living etcd holds the database (bbolt takes flock(2) on it)."""
    try:
        with database.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise unwritable(database, error) from error
    return False


async def _accepts(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
