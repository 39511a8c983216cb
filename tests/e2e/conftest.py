"""Fixtures of the end-to-end tests: whole federations of real processes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.refusals import token_for
from support.command import isthmus
from support.federation import Federation


@pytest.fixture
def new_federation(tmp_path: Path) -> Iterator[Callable[..., Federation]]:
    """Make a federation: `new_federation(west="aws/eu-west-1/a", east="gcp/europe-west1/b")`."""
    with ExitStack() as stack:
        yield lambda **clusters: stack.enter_context(Federation(tmp_path, **clusters))


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """West, its neighbour in the same region, and east at another provider; each offers shop/echo with one backend.

    All are in one network, and west's DNS server answers for a domain of its own too, with two workers.
    """
    places = {"west": "aws/eu-west-1/a", "neighbour": "aws/eu-west-1/b", "east": "gcp/europe-west1/b"}
    federation = Federation(tmp_path_factory.mktemp("three"), **places)
    for member in federation.members.values():
        member.network = "lan"
    secret = tmp_path_factory.mktemp("secret") / "cookie"
    secret.write_text("00112233445566778899aabbccddeeff\n")
    where = federation["west"].net.address(53)
    federation["west"].dns_words = (
        *("--zone", "clusterset.local", "--zone", f"fed.example.com=ns1.fed.example.com@{where},ns2.example.net"),
        *("--contact", "dns.team@example.com", "--server-id", "west-1", "--cookie-secret-file", str(secret)),
        *("--workers", "2", "--web-listen", f"{where}:9153"),
        *("--subnet-resolver", "127.0.0.0/8", "--subnet-locality", "10.2.0.0/16=gcp/europe-west1/b"),
    )
    with federation:
        for member in federation.members.values():
            member.start_backend()
            member.offer()
        yield federation


@pytest.fixture
def three(lasting: Federation) -> Federation:
    """The lasting federation, with everything that the test before has broken running again."""
    lasting.restore()
    return lasting


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """West, which offers shop/echo with one backend, and east at another provider."""
    with Federation(tmp_path_factory.mktemp("two"), west="aws/eu-west-1/a", east="gcp/europe-west1/b") as federation:
        federation["west"].start_backend()
        federation["west"].offer()
        yield federation


@pytest.fixture
def spare(two: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a third cluster that has joined and does not run."""
    folder = tmp_path_factory.mktemp("spare")
    done = isthmus("cluster", "join", "--data-dir", str(folder), home=two.home, stdin=token_for(two, "spare").text())
    assert done.returncode == 0, done.stderr
    yield folder
    two.cli("cluster", "remove", "spare", "--yes")
