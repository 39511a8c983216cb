"""What a command prints for a person to go on with can be pasted as it is, and says what is true."""

import shlex
from pathlib import Path

import pytest

from isthmus_cli.commands.explain import _as_text as explained
from isthmus_cli.commands.status import as_text
from isthmus_cli.values import gateway_name
from isthmus_controller.admin.values import CandidateView, Explanation, PortRouteView, ReplicaView, Status
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
        ReplicaView("old", "", "127.0.0.1:15014", "1", 0, leader=False, self=False),
        ReplicaView("new", "", "127.0.0.1:15014", "1", 0, leader=True, self=True),
        ReplicaView("other", "", "127.0.0.2:15014", "1", 0, leader=False, self=False),
    ]
    now = Status("fed", "fed.example", "1", 1, 0, True, {}, {}, [], 0, 0, [], [], [], replicas)
    shown = [line for line in as_text(now).splitlines() if line.startswith("controller ")]
    assert shown == ["controller new at 127.0.0.1:15014 (this one)", "controller other at 127.0.0.2:15014"]


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


def test_descriptions_in_fish_keep_their_commas(tmp_path: Path) -> None:
    assert 'string split --max 1 ","' in isthmus("completion", "fish", home=tmp_path).stdout
