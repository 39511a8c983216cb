"""Keep a line to etcd: several addresses, mutual TLS, user and token, and over to the next address when one fails."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import grpc
import msgspec
from aetcd import rpc

from isthmus_controller.store.errors import (
    Untrusted,
    WrongCluster,
    never_sent,
    token_expired,
    translate,
    worth_another_address,
)
from isthmus_core.errors import InvalidInput, IsthmusError, Unavailable
from isthmus_kit.calls import end_call

log = logging.getLogger(__name__)

_CLOSED = "the client of etcd was closed"

Request = TypeVar("Request")
Metadata = tuple[tuple[str, str], ...]


class _Answer(Protocol):
    @property
    def header(self) -> rpc.ResponseHeader: ...


Answer = TypeVar("Answer", bound=_Answer)

# etcd closes connections that ping more often than every 5 s (--grpc-keepalive-min-time), or without a call.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class TlsFiles(msgspec.Struct, frozen=True):
    """Where the CA for etcd stands, and our own certificate and key when etcd asks for one (PEM)."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


class Target(msgspec.Struct, frozen=True):
    """Which etcd to use: `https://host:port`, `http://host:port` or `unix:///path` of one or more members."""

    addresses: tuple[str, ...]
    tls: TlsFiles | None = None
    user: str = ""
    password: str = ""


def grpc_target(address: str) -> tuple[str, bool]:
    """An etcd address as gRPC wants it, and whether it is TLS; raises InvalidInput."""
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "unix" and rest:
        return f"unix:{rest}", False
    host, colon, port = rest.rstrip("/").rpartition(":")
    if scheme in ("http", "https") and colon and host and port.isdigit() and 0 < int(port) < 65536:
        return f"{host}:{port}", scheme == "https"
    raise InvalidInput(f"etcd address {address!r} is not usable", "Write it as https://host:2379.")


Watch = grpc.aio.StreamStreamCall[rpc.WatchRequest, rpc.WatchResponse]


class Line:
    """One address with its channel and stubs."""

    def __init__(self, address: str, tls: TlsFiles | None) -> None:
        self.address = address
        target, secure = grpc_target(address)
        self.stamp = _stamp(tls) if secure else ()
        if secure:
            self.channel = grpc.aio.secure_channel(target, _credentials(address, tls), options=_OPTIONS)
        else:
            self.channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self.kv = rpc.KVStub(self.channel)
        self.watch = rpc.WatchStub(self.channel)
        self.lease = rpc.LeaseStub(self.channel)
        self.cluster = rpc.ClusterStub(self.channel)
        self.maintenance = rpc.MaintenanceStub(self.channel)
        self.auth = rpc.AuthStub(self.channel)
        self.good = False
        self.watches: set[Watch] = set()
        """What is watched here; ended when the line is left, for a frozen member would stay silent for ever."""


Method = Callable[[Line], grpc.aio.UnaryUnaryMultiCallable[Request, Answer]]


class Connection:
    """Calls etcd through the first address that answers and stays with it until it fails.

    `timeout` bounds a whole call in seconds, `attempt` one try at one address.
    """

    def __init__(self, target: Target, *, timeout: float = 5.0, attempt: float = 2.0) -> None:
        if not target.addresses:
            raise InvalidInput("no etcd address is given", "Give at least one, such as https://127.0.0.1:2379.")
        self._target = target
        self._timeout = timeout
        self._attempt = attempt
        self._lines = [Line(address, target.tls) for address in target.addresses]
        self._retired: list[Line] = []
        self._current = 0
        self._token = ""
        self._connecting = asyncio.Lock()
        self._closed = False
        self.cluster_id = 0
        """The id of etcd's cluster, 0 before the first answer; every later answer must carry the same."""

    async def close(self) -> None:
        """Close all channels; calls under way and later ones raise Unavailable."""
        self._closed = True
        for line in (*self._lines, *self._retired):
            await line.channel.close()

    @property
    def address(self) -> str:
        """The address in use."""
        return self._lines[self._current].address

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses."""
        return self._target.addresses

    def metadata(self) -> Metadata:
        """What goes with every call: the token, and the wish to hear at once when the member has no leader."""
        return (("hasleader", "true"), *((("token", self._token),) if self._token else ()))

    async def unary(
        self, method: Method[Request, Answer], request: Request, *, write: bool = False, timeout: float | None = None
    ) -> Answer:
        """One request and its answer. Reads go on to the next address; writes only if they were certainly not sent."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + (self._timeout if timeout is None else timeout)
        tries = len(self._lines) + 1
        while True:
            tries -= 1
            line = await self.line(deadline)
            left = max(deadline - clock(), 0.001)
            try:
                # A write waits out the whole deadline: giving up earlier would only make its outcome unknown.
                answer = await method(line)(
                    request, timeout=left if write else min(left, self._attempt), metadata=self.metadata()
                )
            except grpc.aio.AioRpcError as error:
                again = self.failed(line, error) and (not write or never_sent(error) or token_expired(error))
                if again and tries > 0 and clock() < deadline:
                    continue
                raise translate(error, line.address, write=write) from error
            except asyncio.CancelledError as error:
                if asked_to_stop():
                    raise
                raise Unavailable(_CLOSED) from error
            self.check(line, answer.header)
            return answer

    async def line(self, deadline: float | None = None) -> Line:
        """The line in use, once it has answered; walks all addresses once and raises Unavailable when none does."""
        if self._closed:
            raise Unavailable(_CLOSED)
        line = self._lines[self._current]
        if line.good and (self._token or not self._target.user):
            return line
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self._timeout
        async with self._connecting:
            return await self._connect(deadline)

    def failed(self, line: Line, error: grpc.aio.AioRpcError) -> bool:
        """Note that a call failed on `line`; says whether trying again can help."""
        if token_expired(error) and self._target.user:
            self._token = ""
            return True
        if worth_another_address(error):
            self.leave(line)
            return True
        return False

    def forget_token(self) -> None:
        """Authenticate again before the next call."""
        self._token = ""

    def leave(self, line: Line) -> None:
        """Trust `line` no longer: the next call begins with the next address, and so do its watches."""
        line.good = False
        for call in line.watches:
            end_call(call)
        if self._lines[self._current] is line:
            self._current = (self._current + 1) % len(self._lines)

    def check(self, line: Line, header: rpc.ResponseHeader) -> None:
        """Compare the cluster id of an answer with the one that is known; raises WrongCluster."""
        if not self.cluster_id:
            self.cluster_id = header.cluster_id
        if header.cluster_id != self.cluster_id:
            self.leave(line)
            raise WrongCluster(line.address, self.cluster_id, header.cluster_id)

    async def _connect(self, deadline: float) -> Line:
        clock = asyncio.get_running_loop().time
        problem: IsthmusError = Unavailable("etcd does not answer in time")
        trusted = False
        for _ in self._lines:
            if self._closed:
                raise Unavailable(_CLOSED)
            line = self._fresh(self._current)
            if line.good and (self._token or not self._target.user):
                return line  # somebody else connected while we waited for the lock
            left = min(deadline - clock(), self._attempt)
            if left <= 0:
                break
            try:
                await self._greet(line, left)
            except grpc.aio.AioRpcError as error:
                problem = translate(error, line.address, write=False)
                if isinstance(problem, InvalidInput):
                    raise problem from error
                self._token = "" if token_expired(error) else self._token
                self.leave(line)
                trusted = trusted or not isinstance(problem, Untrusted)
            except WrongCluster as error:
                problem, trusted = error, True
            except asyncio.CancelledError as error:
                if asked_to_stop():
                    raise
                raise Unavailable(_CLOSED) from error
            else:
                return line
        if isinstance(problem, Untrusted) and trusted:
            # Not all of them say so: another one may be back soon.
            raise Unavailable(problem.sentence, problem.mend)
        raise problem

    async def _greet(self, line: Line, timeout: float) -> None:
        """Authenticate where needed, and see that this is the right etcd, before anything is sent to it."""
        if self._target.user and not self._token:
            credentials = rpc.AuthenticateRequest(name=self._target.user, password=self._target.password)
            self._token = (await line.auth.Authenticate(credentials, timeout=timeout)).token
        # Local to the member, and open to every user; the status is not: etcd 3.6 (seen with 3.6.5) tells it to root.
        members = rpc.MemberListRequest(linearizable=False)
        answer = await line.cluster.MemberList(members, timeout=timeout, metadata=self.metadata())
        self.check(line, answer.header)
        line.good = True

    def _fresh(self, index: int) -> Line:
        """The line, opened anew when its certificate files have changed since."""
        line = self._lines[index]
        if line.stamp and not line.good and line.stamp != _stamp(self._target.tls):
            # The old channel stays open for the calls that are still on it; close() ends it.
            self._retired.append(line)
            line = self._lines[index] = Line(line.address, self._target.tls)
        return line


def asked_to_stop() -> bool:
    """Whether a CancelledError is meant for this task: gRPC raises it too when somebody else ended the call."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _stamp(tls: TlsFiles | None) -> tuple[tuple[int, int], ...]:
    files = [] if tls is None else [path for path in (tls.ca, tls.certificate, tls.key) if path is not None]
    stamps = []
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            stamps.append((0, 0))
        else:
            stamps.append((status.st_mtime_ns, status.st_ino))
    return tuple(stamps)


def _credentials(address: str, tls: TlsFiles | None) -> grpc.ChannelCredentials:
    if tls is None:
        raise InvalidInput(f"etcd address {address} is https but no CA file is given", "Give the CA file for etcd.")
    if (tls.certificate is None) != (tls.key is None):
        raise InvalidInput("a client certificate for etcd needs its key and the other way round", "Give both files.")
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(tls.ca, b"-----BEGIN CERTIFICATE-----"),
        private_key=_pem(tls.key, b"PRIVATE KEY-----") if tls.key else None,
        certificate_chain=_pem(tls.certificate, b"-----BEGIN CERTIFICATE-----") if tls.certificate else None,
    )


def _pem(path: Path, mark: bytes) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"cannot read {path} for etcd: {error.strerror}", "Check the path and its permissions."
        ) from error
    if mark not in content:
        raise InvalidInput(f"{path} is not in PEM form", "Give a file that holds PEM blocks.")
    return content
