"""The network that other tests cut: silent where it is cut, whole again when healed, and gone without a trace."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.netns import Host, Network, NoNamespaces

pytestmark = pytest.mark.root

PORT = 7000


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        made = Network().__enter__()
    except NoNamespaces as error:
        pytest.skip(str(error))
    yield made
    made.__exit__(None, None, None)


def attempt(source: Host, target: Host) -> str:
    """What happens to a connection: accepted, refused or silence."""
    with source.inside(), socket.socket() as wire:
        wire.settimeout(0.3)
        try:
            wire.connect((target.address, PORT))
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "refused"
    return "accepted"


def test_a_cut_is_silent_and_heals(network: Network) -> None:
    one, two, three = (network.host(name) for name in ("one", "two", "three"))
    with two.inside():
        listener = socket.create_server((two.address, PORT))
    with listener:
        assert (attempt(one, two), attempt(one, three)) == ("accepted", "refused")
        network.cut(one, two)
        assert (attempt(one, two), attempt(three, two), attempt(one, three)) == ("silence", "accepted", "refused")
        network.heal()
        network.cut_one_way(two, one)
        assert (attempt(one, two), attempt(three, two)) == ("silence", "accepted")
        network.heal()
        network.cut_off(two)
        assert (attempt(one, two), attempt(three, two)) == ("silence", "silence")
        network.heal()
        assert attempt(one, two) == "accepted"


def test_nothing_is_left_of_a_network_not_even_its_processes(network: Network) -> None:
    host = network.host("left")
    sleeper = subprocess.Popen(host.command("sleep", "60"))
    network.__exit__(None, None, None)
    assert sleeper.wait(5) < 0
    assert not list(Path("/run/netns").glob(f"{host.namespace.rpartition('-')[0]}-*"))


def test_what_a_killed_test_run_has_left_is_taken_away(network: Network) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    subprocess.run(["ip", "netns", "add", f"isthmus-test-{gone.pid}-left"], check=True)
    with pytest.raises(NoNamespaces, match="File exists"), Network():
        pass  # this process has one already: nothing is made, and nothing of a living one is taken away
    assert not Path(f"/run/netns/isthmus-test-{gone.pid}-left").exists()
    network.host("still")


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoNamespaces, match="ip and nft not found: apt-get install iproute2 nftables"):
        Network().__enter__()
