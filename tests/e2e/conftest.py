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


@pytest.fixture
def three(new_federation: Callable[..., Federation]) -> Federation:
    """West, its neighbour in the same region, and east at another provider; each offers shop/echo with one backend."""
    federation = new_federation(west="aws/eu-west-1/a", neighbour="aws/eu-west-1/b", east="gcp/europe-west1/b")
    for member in federation.members.values():
        member.start_backend()
        member.offer()
    return federation
