"""A session whose etcd cannot even be asked ends with its lease."""

import asyncio
from pathlib import Path

import pytest

from isthmus_controller.store import EtcdClient, LeaseLost, Session, Target, TlsFiles

pytestmark = pytest.mark.anyio


async def test_a_session_that_fails_at_once_is_lost_when_its_lease_ends(tmp_path: Path) -> None:
    gone = TlsFiles(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key")
    for path, kind in ((gone.ca, "CERTIFICATE"), (gone.certificate, "CERTIFICATE"), (gone.key, "PRIVATE KEY")):
        assert path is not None
        path.write_text(f"-----BEGIN {kind}-----\n-----END {kind}-----\n")
    client = EtcdClient(Target(("https://127.0.0.1:1",), gone))
    for path in tmp_path.iterdir():
        path.unlink()
    session = Session(client, lease=1, ttl=1, granted_at=asyncio.get_running_loop().time() - 0.8)
    async with asyncio.timeout(10):
        with pytest.raises(LeaseLost):
            await session.keep()
    assert session.lost.is_set()
