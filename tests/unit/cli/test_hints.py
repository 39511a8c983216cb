"""What a command prints for a person to go on with can be pasted as it is, and says what is true."""

import shlex
import socket
from pathlib import Path

import pytest

from isthmus_cli.api import _parse as parse_answer
from isthmus_cli.api import listen_flags
from isthmus_cli.commands.cluster import _running as running_gateway
from isthmus_cli.commands.explain import _as_text as explained
from isthmus_cli.commands.status import as_text
from isthmus_cli.values import gateway_name
from isthmus_controller.admin.values import CandidateView, Explanation, PortRouteView, ReplicaView, Status, TargetView
from isthmus_core.names import parse_cluster_id
from support.command import isthmus


def next_words(text: str) -> list[str]:
    """The words of the first command that stands between quotes after `run`."""
    return shlex.split(text.partition("run '")[2].rsplit("',", 1)[0])


def test_the_controller_that_init_tells_to_run_serves_where_it_is_looked_for(tmp_path: Path) -> None:
    done = isthmus("init", "--domain", "fed.example", "--controller", "127.9.0.1:16014", home=tmp_path / "home")
    said = next(line for line in done.stdout.splitlines() if line.startswith("Next:"))
    words = ["isthmus", "controller", "--listen", "127.9.0.1:15010", "--admin-listen", "127.9.0.1:16014"]
    assert next_words(said) == words


def test_the_usual_controller_needs_no_flags(tmp_path: Path) -> None:
    done = isthmus("init", "--domain", "fed.example", home=tmp_path / "home")
    assert "Next: run 'isthmus controller'," in done.stdout


def test_who_asks_the_port_of_the_gateways_is_not_told_to_serve_both_there() -> None:
    assert listen_flags(("127.9.0.1:15014",)) == " --listen 127.9.0.1:15010 --admin-listen 127.9.0.1:15014"
    assert listen_flags(("127.9.0.1:15010",)) == ""


def test_no_dns_server_to_ask_is_said_without_an_error_number(tmp_path: Path) -> None:
    done = isthmus("dns", "top", "--web", "127.0.0.1:1", home=tmp_path)
    assert "no DNS server answers at 127.0.0.1:1 (connection refused)." in done.stderr


def test_a_home_with_a_space_is_named_so_that_it_can_be_pasted(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    done = isthmus("init", "--domain", "fed.example", "--home", str(home), home=tmp_path)
    said = next(line for line in done.stdout.splitlines() if line.startswith("Next:"))
    assert next_words(said) == ["isthmus", "--home", str(home), "controller"]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web-1", "web-1"),
        ("ip-10-0-0-7.eu-west-1.compute.internal", "ip-10-0-0-7"),
        ("BUILD_BOX.example", "build-box"),
        ("-", "gateway"),
        ("x" * 80, "x" * 63),
    ],
)
def test_a_gateway_is_named_after_its_host_in_a_way_that_controllers_take(host: str, name: str) -> None:
    assert gateway_name(host) == name
    assert parse_cluster_id(name) == name


def test_a_token_in_the_command_line_is_refused_and_never_repeated(tmp_path: Path) -> None:
    done = isthmus("cluster", "join", "isthmus-join-v1.secret", home=tmp_path)
    assert done.returncode == 2
    assert "secret" not in done.stderr
    assert "--token-file FILE or ISTHMUS_TOKEN" in done.stderr


def test_the_commands_of_cluster_are_told_in_whole_sentences(tmp_path: Path) -> None:
    done = isthmus("cluster", "--help", home=tmp_path, env={"COLUMNS": "80"})
    commands = done.stdout.partition("Commands:")[2]
    assert "join" in commands and "..." not in commands


def test_a_controller_that_was_started_again_at_its_address_is_shown_once() -> None:
    replicas = [
        ReplicaView("old", "", "127.0.0.1:15014", "1", 0, leader=False, self=False, place="h 127.0.0.1:15014"),
        ReplicaView("new", "", "127.0.0.1:15014", "1", 0, leader=True, self=True, place="h 127.0.0.1:15014"),
        ReplicaView("other", "", "127.0.0.2:15014", "1", 0, leader=False, self=False),
    ]
    now = Status("fed", "fed.example", "1", 1, 0, True, {}, {}, [], 0, 0, [], [], [], replicas)
    shown = [line for line in as_text(now).splitlines() if line.startswith("controller ")]
    assert shown == ["controller new at 127.0.0.1:15014 (this one)", "controller other at 127.0.0.2:15014"]


def test_every_controller_that_runs_behind_one_address_is_shown() -> None:
    replicas = [
        ReplicaView(host, "", "fed.example:15014", "1", 0, leader=False, self=host == "one", place=f"{host} 0.0.0.0:1")
        for host in ("one", "two", "three")
    ]
    now = Status("fed", "fed.example", "1", 1, 0, True, {}, {}, [], 0, 0, [], [], [], replicas)
    shown = [line.split()[1] for line in as_text(now).splitlines() if line.startswith("controller ")]
    assert shown == ["one", "two", "three"]


def test_services_that_only_drained_clusters_have_are_named_up_to_three() -> None:
    def shown(*unserved: str) -> str:
        now = Status("fed", "fed.example", "1", 1, 0, True, {}, {}, [], 0, 0, [], [], [], [], list(unserved))
        return as_text(now)

    why = ": every cluster that could is drained"
    assert "nobody serves" not in shown()
    assert shown("a/a", "a/b").endswith(f"nobody serves a/a, a/b{why}")
    assert shown("a/a", "a/b", "a/c", "a/d", "a/e").endswith(f"nobody serves a/a, a/b, a/c and 2 more{why}")


@pytest.mark.parametrize(
    ("ready", "used"),
    [
        ((1, 1, 1), ["first choice", "when tier 0 fails", "when tier 1 fails"]),
        ((0, 1, 1), ["nobody is ready", "now, tier 0 failed", "when tier 1 fails"]),
        ((0, 0, 1), ["nobody is ready", "nobody is ready", "now, tier 1 failed"]),
        ((0, 0, 0), ["nobody is ready", "nobody is ready", "nobody is ready"]),
    ],
)
def test_explain_shows_which_tier_is_used_now(ready: tuple[int, ...], used: list[str]) -> None:
    places = [
        CandidateView(name, "a/b/c", "", tier == 0, ready[tier], 1, tier, chosen=True, why="")
        for tier, name in enumerate(("own", "near", "far"))
    ]
    rows = explained(Explanation("shop/echo", "own", places, [])).splitlines()[3:]
    assert [row.partition("/1")[2].strip() for row in rows] == used


def test_explain_names_the_last_resort() -> None:
    doubted = CandidateView("far", "a/b/c", "", False, 0, 1, None, chosen=False, why="", last_resort=True)
    shown = explained(Explanation("shop/echo", "own", [doubted], [PortRouteView("http", 80, [])]))
    assert "when nobody else answers" in shown and shown.endswith("port http: nobody but the last resort")


def candidate(name: str, tier: int, ready: int = 1) -> CandidateView:
    return CandidateView(name, "a/b/c", "", tier == 0, ready, 1, tier, chosen=True, why="anywhere, 1 of 1 ready")


def port(name: str, *tiers: str) -> PortRouteView:
    return PortRouteView(name, 80, [[TargetView(cluster, "a/b/c", 1, local=False)] for cluster in tiers])


def test_explain_tells_each_port_where_they_go_different_ways() -> None:
    places = [candidate("own", 0), candidate("near", 1), candidate("far", 2)]
    shown = explained(
        Explanation("shop/echo", "own", places, [port("http", "own", "near"), port("admin", "own", "far")])
    )
    assert "port http: own (weight 1), then near (weight 1)" in shown
    assert "port admin: own (weight 1), then far (weight 1)" in shown
    alike = explained(
        Explanation("shop/echo", "own", places[:2], [port("http", "own", "near"), port("rpc", "own", "near")])
    )
    assert "port http" not in alike


def test_a_cluster_that_joins_again_is_told_that_its_gateway_still_runs(tmp_path: Path) -> None:
    assert not running_gateway(tmp_path)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent.sock"))
        assert not running_gateway(tmp_path), "what a killed one left"
        agent.listen()
        assert running_gateway(tmp_path)


def test_a_controller_that_is_just_ending_is_not_called_a_stranger() -> None:
    with pytest.raises(OSError, match="without an answer: it is no admin API, or is just stopping"):
        parse_answer(b"")
    with pytest.raises(OSError, match="what listens there is no admin API"):
        parse_answer(b"SSH-2.0\r\n")


def test_no_summary_of_a_command_is_cut_off(tmp_path: Path) -> None:
    for group in ("services", "dns"):
        commands = isthmus(group, "--help", home=tmp_path, env={"COLUMNS": "80"}).stdout.partition("Commands:")[2]
        assert commands and "..." not in commands


def test_descriptions_in_fish_keep_their_commas(tmp_path: Path) -> None:
    assert 'string split --max 1 ","' in isthmus("completion", "fish", home=tmp_path).stdout
