"""When a leaf is renewed, and what happens when it cannot be."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from isthmus_core.errors import InvalidInput
from isthmus_core.spiffe import SpiffeId
from isthmus_kit.pki import Identity, IdentitySource, Step, Subject, issue_identity, make_root, next_step
from isthmus_kit.tasks import own_tasks
from support.clock import VIRTUAL_TIME

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL_TIME


LEAF = Identity(SpiffeId("fed.example", "/controller"), b"", b"", b"", NOW, NOW + HOUR)


@pytest.mark.parametrize(
    ("age", "jitter", "step"),
    [
        (timedelta(0), 0.0, Step.KEEP),
        (timedelta(minutes=29, seconds=59), 0.0, Step.KEEP),
        (timedelta(minutes=30), 0.0, Step.RENEW),
        (timedelta(minutes=26, seconds=59), 1.0, Step.KEEP),
        (timedelta(minutes=27), 1.0, Step.RENEW),
        (timedelta(hours=5), 0.0, Step.RENEW),
        (timedelta(seconds=-1), 0.0, Step.RENEW),
    ],
)
def test_a_leaf_is_renewed_at_half_of_its_life(age: timedelta, jitter: float, step: Step) -> None:
    assert next_step(LEAF, NOW + age, jitter) is step


class World:
    """A clock that follows the loop's, and an issuer that may fail."""

    def __init__(self) -> None:
        self.began = asyncio.get_running_loop().time()
        self.fails = ""
        self.issued: list[timedelta] = []
        self.root = make_root("root", NOW)

    def clock(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time() - self.began)

    def issue(self, now: datetime) -> Identity:
        if self.fails:
            raise InvalidInput(self.fails)
        self.issued.append(now - NOW)
        return issue_identity(self.root, b"roots", Subject("x", "spiffe://fed.example/controller"), now, HOUR)


@pytest.mark.anyio
async def test_a_day_of_renewals_leaves_no_gap() -> None:
    world = World()
    source = IdentitySource(world.issue, lambda: 0.0, world.clock)
    async with own_tasks() as tasks:
        tasks.start("identity", source.run())
        for _ in range(24 * 60):
            await asyncio.sleep(60)
            assert source.value.not_after - world.clock() >= timedelta(minutes=29)
    assert 47 <= len(world.issued) <= 49


@pytest.mark.anyio
async def test_every_new_leaf_is_published() -> None:
    world = World()
    source = IdentitySource(world.issue, lambda: 0.5, world.clock)
    seen: list[Identity] = []
    async with own_tasks() as tasks:
        tasks.start("identity", source.run())
        async for identity in source.latest.follow():
            seen.append(identity)
            if len(seen) == 3:
                break
    assert len({identity.chain for identity in seen}) == 3
    assert world.issued[1] - world.issued[0] == pytest.approx(timedelta(minutes=28.5), abs=timedelta(seconds=31))


@pytest.mark.anyio
async def test_a_failed_renewal_keeps_the_old_leaf_says_why_and_is_tried_again() -> None:
    world = World()
    source = IdentitySource(world.issue, lambda: 0.0, world.clock)
    first = source.value
    async with own_tasks() as tasks:
        tasks.start("identity", source.run())
        world.fails = "the disk is gone"
        await asyncio.sleep(35 * 60)
        assert (source.value, source.trouble) == (first, "the disk is gone")
        world.fails = ""
        await asyncio.sleep(31)
        assert source.value != first and not source.trouble


@pytest.mark.anyio
async def test_the_first_leaf_is_there_at_once_or_the_reason_why_not() -> None:
    world = World()
    world.fails = "no authority"
    with pytest.raises(InvalidInput, match="no authority"):
        IdentitySource(world.issue, lambda: 0.0, world.clock)


def test_a_leaf_never_outlives_its_authority() -> None:
    root = make_root("root", NOW, timedelta(minutes=10))
    subject = Subject("x", "spiffe://fed.example/controller")
    assert issue_identity(root, b"", subject, NOW, HOUR).not_after == NOW + timedelta(minutes=10)
    with pytest.raises(InvalidInput, match="expired on 2030-01-01"):
        issue_identity(root, b"", subject, NOW + HOUR, HOUR)
