"""What a real controller refuses reaches the log of the real gateway's streams, in one sentence and once."""

import isthmus_kit.tls13  # isort: skip  # noqa: F401 - before gRPC

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from integration.controller.test_refusals import two_names
from integration.controller.world import ECHO, FakeGateway, controller, enrol, make_federation, soon
from isthmus_core.names import ClusterId
from isthmus_core.spiffe import controller_name
from isthmus_gateway.controllers import Controllers
from isthmus_gateway.fleet import FleetTable
from isthmus_kit.latest import Latest
from isthmus_kit.pki import Identity
from isthmus_kit.tasks import own_tasks
from isthmus_sync import EXPORT
from support.etcd import Etcd

pytestmark = pytest.mark.anyio


def streams(gateway: FakeGateway, identity: Identity) -> Controllers:
    """The streams of a gateway that offers what `gateway` offers."""
    return Controllers(
        tuple(gateway.controllers),
        controller_name(gateway.domain),
        Latest(identity),
        FleetTable(),
        gateway.offers,
        lambda touched: None,
        lambda: None,
    )


def said(caplog: pytest.LogCaptureFixture, message: str) -> Sequence[str]:
    return [
        record.reason  # type: ignore[attr-defined]
        for record in caplog.records
        if record.name == "isthmus_gateway.controllers" and record.getMessage() == message
    ]


async def test_why_a_gateway_and_why_an_export_was_refused(
    etcd: Etcd, federation_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        identity = await enrol(federation, replica.admin, "a", tmp_path / "a")
        _, _, forged = two_names(tmp_path / "a", federation.domain)
        gateway = FakeGateway(ClusterId("a"), federation.domain, identity, [replica.grpc])
        gateway.introduce()

        async with own_tasks() as owner:
            refused = streams(gateway, forged)
            following, offering = owner.start("imports", refused.follow()), owner.start("exports", refused.offer())
            message = "the controllers refuse this gateway"
            await soon(lambda: said(caplog, message) and all(link.why for link in refused.links.values()))
            sentence = (
                "the peer's certificate has 2 URI names and not exactly one. Connect with a certificate that this"
            )
            assert [reason.startswith(sentence) for reason in said(caplog, message)] == [True]
            assert sentence in refused.trouble
            following.cancel()
            offering.cancel()

        with gateway.offers.change() as caches:
            for name in ("shop/one", "shop/two"):
                caches[EXPORT].put(name, b"\xff")
        gateway.export(ECHO)
        async with own_tasks() as owner:
            taken = streams(gateway, identity)
            offering = owner.start("exports", taken.offer())
            message = "a controller does not accept what this gateway offers"
            await soon(lambda: said(caplog, message))
            assert [reason.startswith("it cannot be decoded") for reason in said(caplog, message)] == [True]
            assert "shop/one" in taken.refusals and "shop/two" in taken.refusals and str(ECHO) not in taken.refusals
            offering.cancel()
