"""Tunnels share a connection, so what one client does must not end those of others."""

from pathlib import Path

import pytest

from integration.envoy.far_service import TCP_CHECK, healthy_at_b, publish_far
from integration.envoy.ingress_frames import PREFACE, ask_ingress, connect_frame, reset_frame, status_of
from isthmus_core.model import AppProtocol
from support.addresses import LoopbackNet
from support.envoy_gateway import Pair

CLIENTS = 1_500
"""Envoy's own limits are 250 streams reset before they were answered, and 1,000 reset at all."""


@pytest.mark.anyio
async def test_many_clients_that_go_away_at_once_leave_the_shared_connection_open(
    tmp_path: Path, loopback_net: LoopbackNet
) -> None:
    pair = Pair(tmp_path, loopback_net)
    backend, where = pair.backend("far")
    with backend:
        async with pair.running():
            publish_far(pair, "lines", where, AppProtocol.TCP, TCP_CHECK)
            await healthy_at_b(pair, "lines")
            authority = "lines.shop.svc.clusterset.local:8080"
            gone = range(1, 2 * CLIENTS, 2)
            request = PREFACE + b"".join(connect_frame(authority, n) + reset_frame(n) for n in gone)
            last = 2 * CLIENTS + 1
            answer = await ask_ingress(pair, pair.world.identity("a"), request + connect_frame(authority, last), last)
            assert status_of(answer, last) == 200
            counts = await pair.b.admin.stats(r"^http\.ingress\.downstream_rq_rx_reset$")
            assert counts["http.ingress.downstream_rq_rx_reset"] >= CLIENTS
