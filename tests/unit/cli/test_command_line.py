"""The shape of the command: help, completion, settings, output."""

import json
import os
from pathlib import Path

import click
import pytest

from isthmus_cli import output, settings
from isthmus_cli.lazy import LazyGroup
from isthmus_cli.parts import part_version
from isthmus_cli.reference import reference
from isthmus_cli.root import root
from isthmus_controller.etcd_binary import find_etcd
from support.command import isthmus

REPOSITORY = Path(__file__).parents[3]


def test_the_summary_of_every_command_is_the_first_sentence_of_its_help_or_says_the_same() -> None:
    context = click.Context(root, info_name="isthmus")
    assert isinstance(root, LazyGroup)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help


def test_help_lists_all_commands_without_importing_them(tmp_path: Path) -> None:
    done = isthmus("--help", home=tmp_path)
    assert done.returncode == 0
    for name in ("demo", "init", "cluster", "gateway", "explain", "doctor"):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str, tmp_path: Path) -> None:
    done = isthmus("completion", shell, home=tmp_path)
    assert done.returncode == 0
    assert "_ISTHMUS_COMPLETE" in done.stdout


def test_completion_completes_commands(tmp_path: Path) -> None:
    variables = {"_ISTHMUS_COMPLETE": "bash_complete", "COMP_WORDS": "isthmus clu", "COMP_CWORD": "1"}
    done = isthmus(home=tmp_path, env=variables)
    assert done.stdout.strip() == "plain,cluster"


def test_completion_says_what_commands_do_in_whole_sentences(tmp_path: Path) -> None:
    variables = {"_ISTHMUS_COMPLETE": "fish_complete", "COMP_WORDS": "isthmus", "COMP_CWORD": ""}
    said = isthmus(home=tmp_path, env=variables).stdout
    assert "plain,cluster\tRegister, join, list, drain and remove clusters." in said
    assert "..." not in said


def test_version_as_json_names_the_real_parts(tmp_path: Path) -> None:
    done = isthmus("version", "--output", "json", home=tmp_path)
    versions = json.loads(done.stdout)
    assert versions["envoy"].startswith("1.")
    assert versions["etcd"].startswith("3.")


def test_the_etcd_that_is_shown_is_the_one_that_a_controller_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "bin" / "etcd"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho etcd Version: 9.9.9\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent), prepend=os.pathsep)
    shown = json.loads(isthmus("version", "--output", "json", home=tmp_path).stdout)
    assert shown["etcd"] == part_version(find_etcd())


def test_flags_come_before_variables_before_the_file_before_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[dns]\nttl = 7\nlisten = "127.0.0.1:1"\nworkers = 2\n')
    monkeypatch.setenv("ISTHMUS_DNS_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("ISTHMUS_DNS_TTL", "8")
    loaded = settings.load(settings.DnsOptions, file, {"ttl": "9", "listen": None})
    assert (loaded.ttl, loaded.listen, loaded.workers, loaded.stale_after) == (9, "127.0.0.1:2", 2, 60.0)


def test_a_table_lines_up_whatever_the_colours() -> None:
    text = output.table(("A", "LONG"), [[click.style("x", fg="red"), "1"], ["yyy", "2"]])
    assert click.unstyle(text).splitlines() == ["A    LONG", "x    1", "yyy  2"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (-1.0, "0 s"), (5.4, "5 s"), (150.0, "2 min"), (7300.0, "2 h"), (200000.0, "2 d")],
)
def test_ages_are_short(seconds: float | None, shown: str) -> None:
    assert output.age(seconds) == shown


def test_the_reference_page_is_current() -> None:
    assert (REPOSITORY / "docs" / "reference.md").read_text() == reference(), "run 'make reference'"
