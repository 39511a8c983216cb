"""A stream over mutual TLS: who the caller is, and a peer that falls silent."""

from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
import pytest

from integration.sync.peers import Held, anybody, feed_of, publication, running
from isthmus_kit.pki import Authority, Subject, encode, issue_leaf, make_key, make_root, sign_authority
from isthmus_sync import (
    CLUSTER,
    IMPORTS_METHOD,
    Caller,
    Publishing,
    new_server,
    open_channel,
    publisher_handler,
    subscribe,
)
from support.relay import Relay
from support.waiting import eventually

pytestmark = pytest.mark.anyio


class Certificates:
    """One root, one cluster, and leaves for a controller and a gateway."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        root = make_root("test", now)
        key = make_key()
        authority = Authority(sign_authority(root, key.public_key(), "east.fed.test", "east.fed.test", now), key)
        self.root = encode(root.certificate)
        self.gateway = issue_leaf(authority, Subject("gateway", "spiffe://east.fed.test/gateway", ()), now)
        name = ("controller.east.fed.test",)
        self.server = issue_leaf(authority, Subject("controller", "spiffe://east.fed.test/controller", name), now)

    def listen(self, server: grpc.aio.Server) -> int:
        chain, key = self.server
        return server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)], self.root, require_client_auth=True)
        )

    def dial(self, port: int) -> grpc.aio.Channel:
        chain, key = self.gateway
        credentials = grpc.ssl_channel_credentials(self.root, key, chain)
        name = [("grpc.ssl_target_name_override", "controller.east.fed.test")]
        return open_channel(f"127.0.0.1:{port}", credentials, name)


async def test_the_callers_certificate_reaches_identify(tmp_path: Path) -> None:
    certificates, held, callers = Certificates(), Held(CLUSTER), list[Caller]()

    def identify(caller: Caller) -> Caller:
        callers.append(caller)
        return caller

    server = new_server([publisher_handler(IMPORTS_METHOD, identify, feed_of(Publishing(publication(CLUSTER))))])
    port = certificates.listen(server)
    await server.start()
    async with running(subscribe(lambda _: certificates.dial(port), IMPORTS_METHOD, held.subscribing)):
        await eventually(lambda: held.stream.all_synced)
    await server.stop(0)
    leaf = certificates.gateway[0].split(b"-----END")[0]
    assert callers[0].certificate is not None and callers[0].certificate.startswith(leaf)


async def test_a_peer_behind_a_black_hole_is_noticed_by_both_sides(tmp_path: Path) -> None:
    certificates, held, served = Certificates(), Held(CLUSTER), list[str]()
    publishing = Publishing(publication(CLUSTER), on_disconnected=served.append)
    server = new_server([publisher_handler(IMPORTS_METHOD, anybody, feed_of(publishing))], vigilant=True)
    port = certificates.listen(server)
    await server.start()
    async with (
        Relay(("127.0.0.1", port)) as relay,
        running(subscribe(lambda _: certificates.dial(relay.port), IMPORTS_METHOD, held.subscribing)),
    ):
        await eventually(lambda: held.stream.all_synced)
        relay.black_hole()
        await eventually(lambda: held.reasons and served, within=5.0)
        relay.restore()
        await eventually(lambda: held.connected >= 2, within=6.0)
    await server.stop(0)


def test_a_channel_over_the_network_needs_credentials() -> None:
    with pytest.raises(ValueError, match="needs credentials"):
        open_channel("127.0.0.1:1")
