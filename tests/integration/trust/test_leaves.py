"""Every leaf that nobody should believe, at three doors: Envoy's ingress, the controller's streams, its admin API."""

import isthmus_kit.tls13  # isort: skip  # noqa: F401 - before gRPC

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from integration.controller.world import controller, enrol, make_federation
from integration.trust.leaves import Door, admin, ingress, leaves, streams
from isthmus_core.names import ClusterId
from isthmus_core.spiffe import controller_name
from isthmus_gateway.identity import read_authority
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair
from support.etcd import Etcd
from support.waiting import eventually
from support.world import DOMAIN

pytestmark = pytest.mark.anyio

OWN_AFFAIR = {"good", "below an intermediate of the same name", "RSA of 1024 bits", "signed with SHA-1"}
"""What a member's own CA says of that member alone: how well it guards its name is its own affair and harms it only."""

OURS = ("Connect with a certificate that", "Use the certificate and key that 'isthmus init' wrote")


async def answers(door: Door, shown: Mapping[str, tuple[bytes, bytes]], folder: Path) -> dict[str, str]:
    """What each leaf gets at a door, and the good one with a wrong TLS."""
    knocks: dict[str, str] = {}
    for name, leaf in shown.items():
        knocks[name] = await asyncio.to_thread(door.knock, leaf, folder)
    knocks["nothing"] = await asyncio.to_thread(door.knock, None, folder)
    knocks["TLS 1.2"] = await asyncio.to_thread(door.knock, shown["good"], folder, version=ssl.TLSVersion.TLSv1_2)
    return knocks


def of(knocks: Mapping[str, str], answer: str) -> set[str]:
    return {name for name, said in knocks.items() if said.startswith(answer)}


async def test_envoys_ingress(tmp_path: Path, loopback_net: LoopbackNet) -> None:
    pair = Pair(tmp_path, loopback_net)
    shown = leaves(pair.world.authority("a"), pair.world.authority("c"), DOMAIN)
    door = ingress((pair.b.me.gateways[0].address, pair.b.me.gateways[0].port))
    async with pair.running():
        knocks = await answers(door, shown, tmp_path)
        assert of(knocks, "in") == OWN_AFFAIR | {"an authority in name"}
        assert of(knocks, "closed") == knocks.keys() - of(knocks, "in")
        # Whoever does not say whose gateway it is, or says another's, is not let in with the best of leaves.
        for said in ((), ("h2",), ("h2", "isthmus/b"), ("h2", "isthmus/c"), ("h2", "isthmus/"), ("h2", "isthmus/A")):
            assert (await asyncio.to_thread(door.knock, shown["good"], tmp_path, protocols=said)).startswith("closed")
        # It is HTTP/2 also for who does not ask for that, and nothing else is understood.
        assert await asyncio.to_thread(door.knock, shown["good"], tmp_path, protocols=("isthmus/a",)) == "in"
        spoken = ("http/1.1", "isthmus/a")
        other = Door(door.address, b"GET /.isthmus/health HTTP/1.1\r\nHost: x\r\n\r\n", b"200", spoken)
        assert "200" not in await asyncio.to_thread(other.knock, shown["good"], tmp_path)

        del pair.world.members[ClusterId("a")]
        pair.b.admit()

        async def refused() -> bool:
            return (await asyncio.to_thread(door.knock, shown["good"], tmp_path)).startswith("closed")

        await eventually(refused, 5)


async def test_the_controllers_streams_and_its_admin_api(etcd: Etcd, federation_name: str, tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        for name in "ac":
            await enrol(federation, replica.admin, name, tmp_path / name)
        now = datetime.now(UTC)
        mine, other = (read_authority(tmp_path / name, now) for name in "ac")
        shown = leaves(mine, other, federation.domain)

        door = streams(at(replica.grpc), controller_name(federation.domain))
        knocks = await answers(door, shown, tmp_path)
        assert of(knocks, "in") == OWN_AFFAIR
        told = knocks.keys() - of(knocks, "in") - of(knocks, "closed")
        assert {"two URIs", "an authority in name", "a longer path", "an encoded path", "a port"} <= told
        assert [name for name in told if OURS[0] not in knocks[name]] == []
        for protocols in ((), ("http/1.1",)):
            assert await asyncio.to_thread(door.knock, shown["good"], tmp_path, protocols=protocols) == "closed"

        office = admin(at(replica.admin))
        knocks = await answers(office, shown, tmp_path)
        assert of(knocks, "in") == set()
        told = knocks.keys() - of(knocks, "closed")
        assert {"good", "nothing", "two URIs", "an admin's path", "the controller's path"} <= told
        assert [name for name in told if not any(words in knocks[name] for words in OURS)] == []
        keys = (federation.admin_certificate.read_bytes(), federation.admin_key.read_bytes())
        assert await asyncio.to_thread(office.knock, keys, tmp_path) == "in"


def at(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
