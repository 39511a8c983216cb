"""Fixtures that every kind of test may use: real parts, addresses of one's own, and the check that nothing is left."""

import isthmus_kit.tls13  # isort: skip  # noqa: F401 - before gRPC, whichever test is collected first

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import iscoroutinefunction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import binaries, leaks
from support.addresses import LoopbackNet
from support.etcd import Etcd
from support.process import Process
from support.waiting import wait_until

# A busy machine is no counterexample: time limits belong to tests that say so.
settings.register_profile("isthmus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("isthmus"), max_examples=5000)
settings.load_profile("fuzz" if os.environ.get("ISTHMUS_FUZZ") else "isthmus")


@pytest.fixture(scope="session")
def anyio_backend() -> str | tuple[str, dict[str, object]]:
    """asyncio, in real time. For virtual time a module overrides this fixture: see support/clock.py."""
    return "asyncio"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ordinary_user = os.geteuid() != 0
    for item in items:
        if item.get_closest_marker("root") and ordinary_user:
            item.add_marker(pytest.mark.skip(reason="needs root for network namespaces; CI runs it"))
        if isinstance(item, pytest.Function) and item.get_closest_marker("anyio") and iscoroutinefunction(item.obj):
            # After the fixtures that outlive a test and before its own: the check comes when those have ended.
            place = item.fixturenames.index("no_leaked_threads_or_processes") + 1
            item.fixturenames.insert(place, "no_leaked_tasks")


@pytest.fixture(autouse=True)
def no_leaked_threads_or_processes() -> Iterator[None]:
    threads, children = leaks.threads(), leaks.children()
    yield

    def left() -> list[str]:
        extra = [f"thread {thread.name}" for thread in leaks.threads() - threads if thread.is_alive()]
        return extra + [f"process {leaks.name_of(pid)}" for pid in leaks.children() - children - Process.owned]

    try:
        wait_until(lambda: not left(), within=1.0)
    except AssertionError:
        pytest.fail(f"the test left behind: {', '.join(left())}", pytrace=False)


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    # A fixture that outlives the test (a federation for a whole module) makes tasks of its own whenever it likes.
    shared = leaks.tasks()
    yield
    if not shared and (extra := await leaks.leaked_tasks()):
        pytest.fail(f"the test left tasks behind: {', '.join(extra)}", pytrace=False)


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One etcd for the whole run. Do not stop it; use a federation name of your own (`federation_name`)."""
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def new_etcd(tmp_path: Path) -> Iterator[Callable[..., Etcd]]:
    """Make etcds that the test may stop, freeze, kill and restart: `new_etcd(*arguments)`."""
    made: list[Etcd] = []

    def make(*arguments: str) -> Etcd:
        made.append(Etcd(tmp_path / f"etcd-{len(made)}", arguments))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def federation_name() -> str:
    """A federation that no other test uses, so that tests share an etcd."""
    return f"fed-{uuid.uuid4().hex[:10]}.example"


@pytest.fixture(scope="session")
def envoy_binary() -> Path:
    return binaries.envoy()


@pytest.fixture(scope="session")
def loopback_net() -> Iterator[LoopbackNet]:
    """127.x.y.0/24 of this test process: `loopback_net.next()` is an address nobody else uses."""
    net = LoopbackNet()
    yield net
    net.close()
