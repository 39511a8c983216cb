"""Fixtures of the end-to-end tests: whole federations of real processes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.federation import Federation


@pytest.fixture
def new_federation(tmp_path: Path) -> Iterator[Callable[..., Federation]]:
    """Make a federation: `new_federation(west="aws/eu-west-1/a", east="gcp/europe-west1/b")`."""
    with ExitStack() as stack:
        yield lambda **clusters: stack.enter_context(Federation(tmp_path, **clusters))


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """West, its neighbour in the same region, and east at another provider; each offers shop/echo with one backend."""
    places = {"west": "aws/eu-west-1/a", "neighbour": "aws/eu-west-1/b", "east": "gcp/europe-west1/b"}
    with Federation(tmp_path_factory.mktemp("three"), **places) as federation:
        for member in federation.members.values():
            member.start_backend()
            member.offer()
        yield federation


@pytest.fixture
def three(lasting: Federation) -> Federation:
    """The lasting federation, with everything that the test before has broken running again."""
    lasting.restore()
    return lasting
