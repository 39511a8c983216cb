"""What people get wrong with a running federation: one sentence with the mend, and everything goes on."""

import os
import shlex
import stat
from pathlib import Path

import msgspec
import pytest

from e2e.refusals import GOOD, http_get, refused, token_for, warnings
from support.addresses import free_port
from support.command import completed, isthmus
from support.federation import DNS_PORT, Federation, Member
from support.process import Process
from support.waiting import wait_until

pytestmark = pytest.mark.slow


# -- tokens and names ----------------------------------------------------------------------------------------------


def test_a_token_works_once(two: Federation, tmp_path: Path) -> None:
    token = two.home / "west.token"
    said = refused(two, "cluster", "join", "--token-file", str(token), "--data-dir", str(tmp_path / "again"))
    assert said == "the join token for west was used already. Make a new one with 'isthmus cluster register'."


def test_a_token_may_come_through_windows_and_an_editor(two: Federation, tmp_path: Path) -> None:
    text = token_for(two, "windows").text()
    folder = ("--data-dir", str(tmp_path / "windows"))
    done = isthmus("cluster", "join", *folder, home=two.home, stdin=f"\ufeff {text} \r\n\r\n")
    assert done.returncode == 0, done.stderr
    two.cli("cluster", "remove", "windows", "--yes")


def test_a_token_whose_time_is_over_is_refused_and_the_clock_is_named(two: Federation, tmp_path: Path) -> None:
    late = msgspec.structs.replace(token_for(two, "late"), expires_at_ms=1)
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "late"), stdin=late.text())
    assert said.startswith("the join token for late has expired. Make a new token")
    assert "clock" in said
    assert not (tmp_path / "late").exists()


def test_a_token_with_its_time_prolonged_is_judged_by_the_controller(two: Federation, tmp_path: Path) -> None:
    absurd = msgspec.structs.replace(token_for(two, "future"), expires_at_ms=2**53, secret=b"x" * 32)
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "future"), stdin=absurd.text())
    assert said.startswith("the join token for future is not the one that was issued. Make a new one")


def test_a_token_changed_to_another_cluster_is_refused(two: Federation, tmp_path: Path) -> None:
    changed = msgspec.structs.replace(token_for(two, "mine"), cluster="yours")
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "yours"), stdin=changed.text())
    assert said.startswith("the join token is for the cluster mine, not for yours. Make a new one")


def test_a_token_with_another_root_sends_nothing(two: Federation, tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(token_for(two, "trusting"), root_sha256="0" * 64)
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "trusting"), stdin=wrong.text())
    assert "shows a root that is not the token's" in said and "so nothing was sent" in said


def test_a_cluster_id_that_is_taken_is_named_with_both_ways_out(two: Federation) -> None:
    said = refused(two, "cluster", "register", "west", "--locality", "aws/eu-west-1/a")
    assert said.startswith("cluster id 'west' is taken")
    assert "isthmus cluster remove west" in said


def test_a_token_that_cannot_be_written_voids_no_other(two: Federation, tmp_path: Path) -> None:
    before = token_for(two, "careful")
    nowhere = str(tmp_path / "nowhere" / "token")
    said = refused(two, "cluster", "register", "careful", "--locality", "a/b/c", "--token-file", nowhere)
    assert said == f"{nowhere} cannot be written: no such file or directory. Make the folder first, or choose another."
    isthmus("cluster", "join", "--data-dir", str(tmp_path / "careful"), home=two.home, stdin=before.text())
    assert (tmp_path / "careful" / "cluster.json").exists()
    two.cli("cluster", "remove", "careful", "--yes")


def test_what_register_and_join_print_can_be_pasted(two: Federation, tmp_path: Path) -> None:
    token, folder = tmp_path / "a token", tmp_path / "a folder"
    place = ("--locality", "a/b/c", "--ttl", "1", "--token-file", str(token))
    done = isthmus("cluster", "register", "pasted", *place, home=two.home)
    promise, command = done.stderr.strip().splitlines()
    assert promise.endswith("within 1 minute:")
    done = isthmus(*shlex.split(command)[1:], "--data-dir", str(folder), home=two.home)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1].partition("run ")[2]
    assert said == f"'isthmus gateway --data-dir {shlex.quote(str(folder))}'."
    two.cli("cluster", "remove", "pasted", "--yes")


def test_a_shell_proposes_the_names_that_the_federation_knows(two: Federation) -> None:
    def proposed(line: str) -> list[str]:
        done = completed(f"isthmus {line}", two.home)
        assert done.stderr == ""
        return done.stdout.split()

    # Who gets no answer in time is proposed nothing, which on a busy machine is right once in a while.
    for line in ("cluster show ", "cluster remove ", "explain shop/echo --from "):
        wait_until(lambda: proposed(line) == ["plain,east", "plain,west"], within=15)  # noqa: B023  (called at once)
    for line in ("services show ", "endpoints sh", "explain shop/"):
        wait_until(lambda: proposed(line) == ["plain,shop/echo"], within=15)  # noqa: B023
    wait_until(lambda: proposed("dns check e") == ["plain,echo.shop"], within=15)
    assert proposed("cluster undrain ") == []


def test_a_port_that_is_no_admin_api_is_named(two: Federation) -> None:
    said = refused(two, "status", "--controller", two.grpc)
    wrong = f"{two.grpc}: it ended the connection without an answer: it is no admin API"
    assert said.startswith(f"no controller answers ({wrong}")


def test_a_controller_that_is_not_there_or_not_ours_is_named(two: Federation, tmp_path: Path) -> None:
    nobody = f"{two.address}:{free_port(two.address)}"
    said = refused(two, "status", "--controller", nobody)
    start = f"Start one with 'isthmus controller --listen {two.address}:15010 --admin-listen {nobody}'"
    assert said.startswith(f"no controller answers ({nobody}: connection refused). {start}")
    lost = msgspec.structs.replace(token_for(two, "lost"), controllers=(nobody,))
    said = refused(two, "cluster", "join", "--data-dir", str(tmp_path / "lost"), stdin=lost.text())
    assert said.startswith(f"no controller answers ({nobody}: nothing listens there). See that a controller runs")


def test_who_drains_the_last_cluster_that_serves_something_is_told(two: Federation) -> None:
    def said(*words: str) -> str:
        done = isthmus(*words, home=two.home)
        return done.stderr or done.stdout

    warned = "Nobody else serves shop/echo: what other clusters ask of that fails meanwhile."
    named = "nobody serves shop/echo: every cluster that could is drained"
    try:
        assert said("cluster", "drain", "east").startswith("east is draining")
        # On a busy machine a check may fail now and then.
        wait_until(lambda: said("cluster", "drain", "west").strip() == warned, within=15)
        wait_until(lambda: named in said("status"), within=15)
        wait_until(lambda: "nobody serves it to other clusters; drained: west" in said("doctor"), within=15)
    finally:
        for name in ("east", "west"):
            two.cli("cluster", "undrain", name)
    assert named not in said("status")


# -- ports and folders ---------------------------------------------------------------------------------------------


def test_ports_that_are_taken_are_named_before_anything_is_started(two: Federation, spare: Path) -> None:
    west, mine = two["west"], two.net.address(9)
    free = f"{mine}:{free_port(mine)}"
    gateway = ("gateway", "--data-dir", str(spare), "--vip-range", f"{two.net.prefix}.128/25")
    ingress, web, nameserver = f"{west.gateway_address}:15443", f"{west.gateway_address}:15020", west.net.address(53)
    for taken, words in (
        (two.grpc, ("controller", "--listen", two.grpc, "--admin-listen", free)),
        (two.admin, ("controller", "--listen", free, "--admin-listen", two.admin)),
        (ingress, (*gateway, "--listen", ingress, "--web-listen", free)),
        (web, (*gateway, "--listen", free, "--web-listen", web)),
        (f"{nameserver}:{DNS_PORT}", ("dns", "--data-dir", str(spare), "--listen", f"{nameserver}:{DNS_PORT}")),
    ):
        assert refused(two, *words) == (
            f"cannot listen on {taken}: Address already in use. "
            "Another process listens there: end it, or choose another port."
        )


def test_a_second_gateway_never_shares_a_service_address_in_silence(two: Federation, spare: Path) -> None:
    west, mine = two["west"], two.net.address(9)
    vip, web = west.vip(), f"{mine}:{free_port(mine)}"
    log = spare.parent / "second.log"
    words = ("gateway", "--data-dir", str(spare), "--listen", f"{mine}:{free_port(mine)}", "--web-listen", web)
    assert two.process is not None
    command = [*two.process.command[:3], *words, "--vip-range", f"{west.net.prefix}.128/25"]
    with Process(command, log, two.environment) as gateway:
        said = f"cannot bind '{vip}:8080': Address already in use. End what listens there; it is tried again"
        wait_until(lambda: said in http_get(web, "/readyz"), within=20, every=0.1)
        gateway.stop()
    assert west.missing() == {}


def test_folders_that_are_in_use_are_named(two: Federation) -> None:
    mine = two.net.address(9)
    free = (f"{mine}:{free_port(mine)}", f"{mine}:{free_port(mine)}")
    said = refused(two, "controller", "--listen", free[0], "--admin-listen", free[1])
    assert said.startswith("another etcd is running with the data in")
    assert "End the controller that started it" in said
    said = refused(two, "gateway", "--cluster", "west", "--listen", free[0], "--web-listen", free[1])
    assert said.startswith("another gateway runs in") and "End it first" in said
    assert two["west"].missing() == {}


def test_folders_that_cannot_be_written_are_named(two: Federation, spare: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blocked = tmp_path / "file" / "folder"
    said = refused(two, "cluster", "join", "--data-dir", str(blocked), stdin=token_for(two, "blocked").text())
    assert said.startswith(f"{blocked} cannot be written: not a directory. Choose")
    if os.geteuid() == 0:
        return  # root may write everywhere
    mine = two.net.address(9)
    spare.chmod(0o500)
    try:
        said = refused(two, "gateway", "--data-dir", str(spare), "--listen", f"{mine}:{free_port(mine)}")
        assert said.startswith(f"{spare} cannot be written: permission denied. Give this user the right")
    finally:
        spare.chmod(0o700)


def test_sockets_and_keys_are_for_their_owner_alone(two: Federation) -> None:
    secrets = [
        path
        for path in two.home.rglob("*")
        if path.is_socket() or path.suffix in (".key", ".token", ".passphrase", ".lock") or path.name == "snapshot"
    ]
    assert {"ca.key", "root.key", "admin.key", "xds.sock", "zone.sock", "envoy-admin.sock", "agent.sock"} <= {
        path.name for path in secrets
    }
    assert {str(path) for path in secrets if stat.S_IMODE(path.stat().st_mode) & 0o177} == set()
    folders = [two.home / "controller", *(member.folder for member in two.members.values())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


# -- service files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("ports:", "ports: ]"), "bad.yaml:5:10: this is not YAML"),
        (("kind: Service", "kind: Servise"), "bad.yaml:2:7: kind 'Servise' is not known. Did you mean 'Service'?"),
        (
            ("endpoints:", "endpoint:"),
            "spec of a Service has no field 'endpoint'. Did you mean 'endpoints'?",
        ),
        (("8088", "80880"), "bad.yaml:6:24: port 80880 is out of range. Use a number from 1 to 65535."),
        (("127.0.0.1", "localhost"), "bad.yaml:8:14: "),
        (("name: extra", "name: echo"), "Service shop/echo is described here and in echo.yaml:1:1"),
    ],
)
def test_a_mistake_in_a_service_file_is_named_and_traffic_goes_on(
    two: Federation, change: tuple[str, str], said: str
) -> None:
    west = two["west"]
    path = west.folder / "services" / "bad.yaml"
    assert change[0] in GOOD
    try:
        west.describe(GOOD.replace(*change), "bad.yaml")
        wait_until(lambda: names(west, said), within=20, every=0.2)
        assert west.missing() == {}
        assert [service["service"] for service in two.json("services")] == ["shop/echo"]
        west.describe(GOOD, "bad.yaml")
        wait_until(lambda: not warnings(west), within=20, every=0.2)
    finally:
        path.unlink(missing_ok=True)


def names(member: Member, mistake: str) -> bool:
    shown = warnings(member)
    assert mistake in shown, shown
    return True
