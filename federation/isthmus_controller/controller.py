"""Compose a controller replica: etcd, the view, the gRPC services, the admin API; ready when it serves."""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

import grpc
import msgspec
from aiohttp import web

from isthmus_controller.admin.api import AdminApi
from isthmus_controller.admin.server import add_routes
from isthmus_controller.candidates import WORK, Candidate, candidates
from isthmus_controller.etcd_health import EtcdHealth
from isthmus_controller.etcd_process import EtcdProcess
from isthmus_controller.exports import Committer, Exports
from isthmus_controller.housekeeping import Housekeeping
from isthmus_controller.imports import Imports, identify_gateway, trust_bundle
from isthmus_controller.listeners import renew_certificate, serving_grpc, settled
from isthmus_controller.members import Members
from isthmus_controller.metrics import ControllerMetrics
from isthmus_controller.registry import Published
from isthmus_controller.settings import Addresses, ControllerSettings, EtcdSettings, own_address
from isthmus_controller.store import ElectionKey, EtcdClient, Keys, Target, TlsFiles
from isthmus_controller.trust import TrustAuthority
from isthmus_controller.view import View, Visitor
from isthmus_core.errors import Refused
from isthmus_kit.expiry import ExpiryWatch
from isthmus_kit.files import make_folder
from isthmus_kit.limits import raise_file_limit
from isthmus_kit.pki.expiry import ROOT_MEND
from isthmus_kit.readiness import Readiness
from isthmus_kit.tasks import Owner, own_tasks
from isthmus_kit.telemetry import new_registry
from isthmus_kit.tls import ClientCertificates, server_context
from isthmus_kit.web import make_app, serving
from isthmus_sync import EXPORTS_METHOD, IMPORTS_METHOD, TRUST_BUNDLE, Caller, publisher_handler, subscriber_handler
from isthmus_sync.streams import first_cause

log = logging.getLogger(__name__)


def _nobody(_: Addresses) -> None:
    return None


async def run_controller(
    settings: ControllerSettings, stop: asyncio.Event, on_ready: Callable[[Addresses], None] = _nobody
) -> None:
    """Run one replica until `stop` is set; `on_ready` is called once, when it serves what it has read from etcd.

    Raises InvalidInput for what a person must mend: no federation in the folder, a port in use, a wrong password.
    """
    settings.check()
    raise_file_limit()
    trust = TrustAuthority.load(settings.data_dir)
    make_folder(settings.data_dir)
    # Ports first: a port in use is told before an etcd is started.
    settings = msgspec.structs.replace(settings, grpc=settled(settings.grpc), admin=settled(settings.admin))
    readiness = Readiness("registry", "grpc", "admin")
    try:
        async with _etcd(settings) as target, EtcdClient(target) as client:
            replica = _Replica(settings, trust, readiness, target, client)
            async with own_tasks() as owner:
                await replica.run(owner, stop, on_ready)
    except BaseExceptionGroup as group:
        raise first_cause(group) from group


class _Replica:
    """The parts of one replica, each made once and handed what it needs."""

    def __init__(
        self,
        settings: ControllerSettings,
        trust: TrustAuthority,
        readiness: Readiness,
        target: Target,
        client: EtcdClient,
    ) -> None:
        self._settings = settings
        self._trust = trust
        self._readiness = readiness
        self._prometheus = new_registry()
        self._identity = trust.identity_source()
        self._keys = Keys.of(trust.domain)
        self._own = Candidate(
            id=secrets.token_hex(4),
            grpc=own_address(settings.grpc, settings.advertise_grpc),
            admin=own_address(settings.admin, settings.advertise_admin),
            version=release(),
            started_at_ms=round(time.time() * 1000),
            place=f"{socket.gethostname()} {settings.admin}",
        )
        self._metrics = ControllerMetrics(self._prometheus, asyncio.get_running_loop().time)
        self._view = view = View(client, self._keys, readiness, self._metrics.observe)
        self._committer = Committer(
            client, self._keys, view.registry.raw, lambda: view.revision, self._metrics, view.foresight
        )
        self._exports = Exports(client, view, self._committer, self._metrics, settings.session_ttl_seconds)
        self._imports = Imports(view, self._metrics)
        self._members = Members(client, view, trust, self._admin_addresses)
        self._housekeeping = Housekeeping(client, view, self._own)
        self._health = EtcdHealth(target, readiness)

    async def run(self, owner: Owner, stop: asyncio.Event, on_ready: Callable[[Addresses], None]) -> None:
        """Serve until `stop` is set."""
        view, readiness, settings = self._view, self._readiness, self._settings
        view.feeds.tell([Published(TRUST_BUNDLE, "roots", trust_bundle(self._trust))])
        self._metrics.describe(view.registry, lambda: view.changed.value, lambda: self._housekeeping.leading)
        owner.start("identity", self._identity.run())
        expiry = ExpiryWatch(readiness, self._prometheus, "the controllers' CA", ROOT_MEND)
        owner.start("expiry", expiry.run(self._identity.latest))
        owner.start("view", view.run())
        owner.start("committer", self._committer.run())
        owner.start("housekeeping", self._housekeeping.run())
        owner.start("etcd health", self._health.run())
        tls = server_context(self._identity.value, ClientCertificates.OPTIONAL)
        owner.start("admin certificate", renew_certificate(tls, self._identity))
        admin = serving(self._admin_app(), settings.admin.host, settings.admin.port, tls)
        async with admin, serving_grpc(self._grpc_handlers(), settings.grpc, self._identity):
            readiness.set("grpc", ok=True)
            readiness.set("admin", ok=True)
            where = Addresses(str(settings.grpc), str(settings.admin))
            owner.once("announce", self._announce(where, on_ready))
            await stop.wait()
            readiness.stop()
            log.info("controller stops", extra={"replica": self._own.id})

    async def _announce(self, where: Addresses, on_ready: Callable[[Addresses], None]) -> None:
        await self._view.wait_synced()
        log.info("controller is ready", extra={"grpc": where.grpc, "admin": where.admin, "replica": self._own.id})
        on_ready(where)

    def _grpc_handlers(self) -> Sequence[grpc.GenericRpcHandler]:
        def identify(caller: Caller) -> Visitor:
            try:
                return identify_gateway(caller, self._trust.domain)
            except Refused:
                self._metrics.refused.labels("grpc").inc()
                raise

        return (
            publisher_handler(IMPORTS_METHOD, identify, self._imports.open),
            subscriber_handler(EXPORTS_METHOD, identify, self._exports.open),
        )

    def _admin_app(self) -> web.Application:
        api = AdminApi(
            self._view,
            self._members,
            self._trust,
            self._readiness,
            self._health.views,
            self._replicas,
            self._own,
            self._grpc_addresses,
        )
        app = make_app(self._readiness, self._prometheus)
        refused = self._metrics.refused.labels("admin").inc
        add_routes(app, api.routes(), self._trust.domain, release(), on_refused=refused)
        return app

    def _replicas(self) -> Sequence[Candidate]:
        return candidates(self._view.held(self._keys.under(ElectionKey, WORK)))

    def _grpc_addresses(self) -> Sequence[str]:
        """Where gateways find the controllers: as told, else every replica that is alive."""
        others = (replica.grpc for replica in self._replicas())
        return self._settings.advertise_grpc or tuple(dict.fromkeys([self._own.grpc, *others]))

    def _admin_addresses(self) -> Sequence[str]:
        """Where clusters that join find the controllers."""
        others = (replica.admin for replica in self._replicas())
        return self._settings.advertise_admin or tuple(dict.fromkeys([self._own.admin, *others]))


@asynccontextmanager
async def _etcd(settings: ControllerSettings) -> AsyncIterator[Target]:
    """The etcd to use: a person's own, or one of ours that lives as long as the block."""
    if settings.etcd is not None:
        yield _target(settings.etcd)
        return
    async with EtcdProcess(settings.data_dir) as etcd, own_tasks() as owner:
        owner.once("etcd process", etcd.supervise())
        yield etcd.target


def _target(etcd: EtcdSettings) -> Target:
    tls = TlsFiles(etcd.ca, etcd.certificate, etcd.key) if etcd.ca is not None else None
    return Target(etcd.addresses, tls, etcd.user, etcd.password)


def release() -> str:
    """The version of this release."""
    try:
        return version("isthmus")
    except PackageNotFoundError:
        return "unknown"
