"""Three members of a real etcd over mutual TLS, with users and roles; each may be frozen, killed or restarted."""

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from aetcd import rpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus_controller.settings import EtcdSettings
from isthmus_controller.store import EtcdClient, Target, TlsFiles
from isthmus_core.errors import IsthmusError
from isthmus_kit.files import write_file
from isthmus_kit.pki import Authority, encode, encode_key, make_key, make_root
from support import binaries
from support.addresses import free_port
from support.process import Process
from support.waiting import eventually, wait_until

USER, PASSWORD = "isthmus", "correct horse"
STRANGER, ROOT = "stranger", "root"
PREFIX = b"/isthmus/"


class Pair(msgspec.Struct, frozen=True):
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class EtcdMember:
    """One member. Its addresses and its data survive `restart`."""

    def __init__(self, folder: Path, name: str, host: str, extra: Iterable[str], shared: bool) -> None:
        self.name, self.host, self.folder, self._shared = name, host, folder, shared
        self.port, self.peer_port = free_port(host), free_port(host)
        self._extra = tuple(extra)
        self.process: Process | None = None
        self.shown: Pair | None = None
        """What it shows to clients in place of the right certificate, from its next start on."""
        self.trusted: Path | None = None
        """Whose clients it takes in place of the right ones, from its next start on."""

    @property
    def address(self) -> str:
        return f"https://{self.host}:{self.port}"

    @property
    def peer(self) -> str:
        return f"https://{self.host}:{self.peer_port}"

    def start(self, ca: Path, server: Pair, peers: str) -> None:
        shown = self.shown or server
        tls = [f"--trusted-ca-file={self.trusted or ca}", f"--cert-file={shown.certificate}", f"--key-file={shown.key}"]
        peer_tls = [
            f"--peer-trusted-ca-file={ca}",
            f"--peer-cert-file={server.certificate}",
            f"--peer-key-file={server.key}",
        ]
        self.process = Process(
            [
                binaries.etcd(),
                f"--name={self.name}",
                f"--data-dir={self.folder / 'data'}",
                f"--listen-client-urls={self.address}",
                f"--advertise-client-urls={self.address}",
                f"--listen-peer-urls={self.peer}",
                f"--initial-advertise-peer-urls={self.peer}",
                f"--initial-cluster={peers}",
                *tls,
                "--client-cert-auth",
                *peer_tls,
                "--peer-client-cert-auth",
                "--log-level=warn",
                "--unsafe-no-fsync",
                "--bcrypt-cost=4",
                *self._extra,
            ],
            self.folder / "etcd.log",
            shared=self._shared,
        ).start()

    def running(self) -> Process:
        assert self.process is not None, "not started"
        return self.process

    def freeze(self) -> None:
        """Stop it, and return when every thread has stopped: the signal takes a moment."""
        process = self.running()
        process.freeze()
        tasks = Path(f"/proc/{process.pid}/task")
        wait_until(lambda: all(") T" in (task / "stat").read_text() for task in tasks.iterdir()))

    def thaw(self) -> None:
        self.running().thaw()

    def kill(self) -> None:
        self.running().kill()

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()


class EtcdCluster:
    """Three members on loopback, mutual TLS for clients and peers, authentication enabled.

    `isthmus` may read and write below /isthmus/ only, `stranger` may do nothing; both, and root, have PASSWORD.
    """

    def __init__(
        self, folder: Path, host: str = "127.52.1.1", extra: Iterable[str] = (), *, shared: bool = False
    ) -> None:
        """`shared`: it belongs to a fixture that outlives a test."""
        self.host = host
        self._authority = make_root("an etcd's own CA", datetime.now(UTC))
        self.tls = folder / "tls"
        self.tls.mkdir(parents=True)
        self.ca = self.tls / "ca.crt"
        write_file(self.ca, encode(self._authority.certificate))
        self.server = self.issue("server", host)
        self.client = self.issue("client")
        self.members = tuple(EtcdMember(folder / name, name, host, extra, shared) for name in ("m1", "m2", "m3"))
        for member in self.members:
            member.folder.mkdir()

    def issue(self, name: str, host: str = "", authority: Authority | None = None, days: int = 1) -> Pair:
        """A certificate of etcd's CA (or another one) in files; with `host` for a member, else for a client only."""
        certificate, key = _leaf(authority or self._authority, name, host, days)
        pair = Pair(self.tls / f"{name}.crt", self.tls / f"{name}.key")
        write_file(pair.certificate, certificate)
        write_file(pair.key, key)
        return pair

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(member.address for member in self.members)

    def settings(self, user: str = USER, password: str = PASSWORD, first: int = 0) -> EtcdSettings:
        """What a controller is told; `first` is the member it begins with."""
        addresses = self.addresses[first:] + self.addresses[:first]
        return EtcdSettings(addresses, self.ca, self.client.certificate, self.client.key, user, password)

    def target(self, user: str = USER, password: str = PASSWORD, addresses: tuple[str, ...] = ()) -> Target:
        tls = TlsFiles(self.ca, self.client.certificate, self.client.key)
        return Target(addresses or self.addresses, tls, user, password)

    def start(self, *members: EtcdMember) -> None:
        """Start these members, or all."""
        peers = ",".join(f"{member.name}={member.peer}" for member in self.members)
        for member in members or self.members:
            member.start(self.ca, self.server, peers)

    async def healthy(self, user: str = USER, members: Iterable[EtcdMember] = (), within: float = 30.0) -> None:
        """Wait until each of these members (or all) serves."""
        for member in members or self.members:
            async with EtcdClient(self.target(user, addresses=(member.address,)), timeout=2.0) as client:
                await eventually(lambda client=client: _serves(client), within)  # type: ignore[misc]

    async def guard(self) -> None:
        """Make users and roles, and enable authentication: what the documentation tells to do."""
        await self.healthy(user="")
        async with EtcdClient(self.target(user="")) as client:
            auth = (await client.connection.line()).auth
            # The range from "/isthmus/" to the end of that prefix.
            below = rpc.Permission(permType=rpc.Permission.READWRITE, key=PREFIX, range_end=b"/isthmus0")
            for role in (ROOT, USER):
                await auth.RoleAdd(rpc.AuthRoleAddRequest(name=role), timeout=5)
            await auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name=USER, perm=below), timeout=5)
            for user in (ROOT, USER, STRANGER):
                await auth.UserAdd(rpc.AuthUserAddRequest(name=user, password=PASSWORD), timeout=5)
            for user in (ROOT, USER):
                await auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=user, role=user), timeout=5)
            await auth.AuthEnable(rpc.AuthEnableRequest(), timeout=5)

    async def revoke(self) -> None:
        """Take the rights from the user of the controllers."""
        async with EtcdClient(self.target(ROOT)) as client:
            request = rpc.AuthUserRevokeRoleRequest(name=USER, role=USER)
            await client.connection.unary(lambda line: line.auth.UserRevokeRole, request)

    async def grant(self) -> None:
        """Give them back."""
        async with EtcdClient(self.target(ROOT)) as client:
            request = rpc.AuthUserGrantRoleRequest(user=USER, role=USER)
            await client.connection.unary(lambda line: line.auth.UserGrantRole, request)

    async def leader(self) -> EtcdMember:
        """The member that leads now."""
        by_id: dict[int, EtcdMember] = {}
        leaders: set[int] = set()
        for member in self.members:
            if not member.running().running:
                continue
            async with EtcdClient(self.target(ROOT, addresses=(member.address,)), timeout=2.0) as client:
                status = await client.status()
                by_id[status.member_id] = member
                leaders.add(status.leader_id)
        [leader] = leaders
        return by_id[leader]

    def stop(self) -> None:
        """End all of them, frozen ones too; at once, for one that is asked waits for others to take over its lead."""
        for member in self.members:
            if member.process is not None:
                member.process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


async def _serves(client: EtcdClient) -> bool:
    try:
        await client.get("/isthmus/health")
    except IsthmusError:
        return False
    return True


def _leaf(authority: Authority, name: str, host: str, days: int) -> tuple[bytes, bytes]:
    now, key = datetime.now(UTC), make_key()
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if host else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    if host:
        # Peers are checked for the address that they come from, which on loopback is 127.0.0.1 wherever they listen.
        addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in (host, "127.0.0.1")]
        builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
    return encode(builder.sign(authority.key, hashes.SHA256())), encode_key(key)
