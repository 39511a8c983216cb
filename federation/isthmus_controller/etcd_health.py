"""Ask every member of etcd how it is, so that the status can name the one that is not well."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from isthmus_controller.admin.values import EtcdView
from isthmus_controller.store import EtcdClient, Target
from isthmus_core.errors import IsthmusError, Refused
from isthmus_kit.readiness import Readiness

_EVERY = 5.0


class EtcdHealth:
    """The state of each configured address of etcd, asked now and then."""

    def __init__(self, target: Target, readiness: Readiness) -> None:
        self._target = target
        self._readiness = readiness
        self._views = [EtcdView(address, False, "", False, 0, 0, "not asked yet") for address in target.addresses]

    def views(self) -> Sequence[EtcdView]:
        """The last answers; whoever follows etcd may have met with trouble since."""
        return in_trouble(self._views, self._readiness.warnings().get("etcd", ""))

    async def run(self) -> None:
        """Ask until cancelled."""
        async with AsyncExitStack() as stack:
            lines = [msgspec.structs.replace(self._target, addresses=(a,)) for a in self._target.addresses]
            clients = [await stack.enter_async_context(EtcdClient(line, timeout=2.0)) for line in lines]
            while True:
                pairs = zip(self._target.addresses, clients, strict=True)
                self._views = [await _ask(address, client) for address, client in pairs]
                troubles = [f"{view.address}: {view.problem}" for view in self._views if not view.healthy]
                self._readiness.warn("etcd members", "; ".join(troubles))
                await asyncio.sleep(_EVERY)


def in_trouble(views: Sequence[EtcdView], trouble: str) -> Sequence[EtcdView]:
    """No member is healthy that `trouble` (a sentence, or nothing) names, and none at all when it names nobody."""
    if not trouble:
        return views
    words = trouble.split()
    named = [view.address for view in views if view.address in words]
    return [
        msgspec.structs.replace(view, healthy=False, leader=False, problem=trouble)
        if view.healthy and (not named or view.address in named)
        else view
        for view in views
    ]


async def _ask(address: str, client: EtcdClient) -> EtcdView:
    try:
        problem = await client.health()
        try:
            status = await client.status()
        except Refused:  # healthy or not: etcd 3.6 tells its version and size to root only
            return EtcdView(address, not problem, "", False, 0, 0, problem)
    except IsthmusError as error:
        return EtcdView(address, False, "", False, 0, 0, str(error))
    leader = status.leader_id == status.member_id
    return EtcdView(address, not problem, status.version, leader, status.revision, status.size_bytes, problem)
