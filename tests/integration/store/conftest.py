"""A client of the shared etcd, and followers that end with the test."""

from collections.abc import AsyncIterator, Callable

import pytest

from isthmus_controller.store import Batch, Change, EtcdClient, Follower, Target
from isthmus_kit.tasks import own_tasks
from support.etcd import Etcd


class Seen:
    """Everything that a follower delivered, and what it adds up to."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.world: dict[str, bytes] = {}

    def deliver(self, batch: Batch) -> None:
        self.batches.append(batch)
        for change in batch.changes:
            if change.value is None:
                del self.world[change.key]  # a deletion of what was never told is a bug
            else:
                self.world[change.key] = change.value

    @property
    def changes(self) -> list[Change]:
        return [change for batch in self.batches for change in batch.changes]


Follow = Callable[..., tuple[Follower, Seen]]


@pytest.fixture
async def client(etcd: Etcd) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(Target((f"http://{etcd.address}",))) as made:
        yield made


@pytest.fixture
def prefix(federation_name: str) -> str:
    return f"/isthmus/{federation_name}/v1/"


@pytest.fixture
async def follow(client: EtcdClient, prefix: str) -> AsyncIterator[Follow]:
    """Follow the test's own prefix; `follow(client=..., audit_every=...)`."""
    async with own_tasks() as owner:

        def start(
            other: EtcdClient | None = None, audit_every: float = 60.0, progress_every: float = 0.2
        ) -> tuple[Follower, Seen]:
            seen = Seen()
            follower = Follower(
                other or client, prefix, seen.deliver, audit_every=audit_every, progress_every=progress_every
            )
            owner.start("follower", follower.run())
            return follower, seen

        yield start
