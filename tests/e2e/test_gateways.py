"""Two gateways of one cluster: what one of them does not have is neither withdrawn nor asked of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.federation import Federation, Member
from support.process import Process
from support.traffic import HttpLoad, loading, serves
from support.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


def second_gateway(member: Member, folder: Path) -> Process:
    """The cluster's gateway on another host: the same keys, a services folder of its own, which is empty."""
    passed = shutil.ignore_patterns("envoy*", "*.sock", "snapshot*", "services", "vips*", "lock")
    shutil.copytree(member.folder, folder, ignore=passed)
    (folder / "services").mkdir()
    where = member.net.address(2)
    words = ("--id", "second", "--data-dir", str(folder), "--vip-range", f"{member.net.prefix}.64/26")
    listen = ("--listen", f"{where}:15443", "--web-listen", f"{where}:15020")
    return member.federation.spawn(f"{member.name}-second", "gateway", *words, *listen)


async def test_a_second_gateway_without_the_files_costs_nothing_and_with_them_takes_its_part(
    new_federation: Callable[..., Federation], tmp_path: Path
) -> None:
    federation = new_federation(west="aws/eu-west-1/a", east="gcp/europe-west1/b")
    west, east = federation["west"], federation["east"]
    west.start_backend()
    west.offer()

    def doors() -> int:
        return len(federation.json("cluster", "show", "west")["gateways"])

    with second_gateway(west, tmp_path / "second") as second:
        load = HttpLoad("echo", east.vip(), 8080, 100)
        async with loading(load, "west") as answers:
            await eventually(lambda: "do not have the same services" in second.output(), 20)
            assert doors() == 1 and federation.json("status")["exports"] == 1
            shutil.copy(west.folder / "services" / "echo.yaml", tmp_path / "second" / "services" / "echo.yaml")
            await eventually(lambda: doors() == 2, 20)
            west.processes["gateway"].stop(within=30)
            await eventually(lambda: doors() == 1, 20)
            await serves(answers, "west")
        assert answers.lost == []
        assert federation.json("status")["exports"] == 1
