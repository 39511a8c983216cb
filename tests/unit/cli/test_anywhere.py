"""Options stand before or behind the command, and every command that is printed carries those that led to it."""

import json
import os
import shlex
from pathlib import Path

import click
import pytest

from isthmus_cli.anywhere import pasted
from isthmus_cli.home import controller_option, home_option
from isthmus_cli.lazy import GuidingGroup
from isthmus_cli.output import output_option
from support.command import isthmus

NOWHERE = "127.0.0.1:1"


@click.group(cls=GuidingGroup)
@output_option
@home_option
@controller_option
def top(**_: object) -> None:
    """Like `isthmus`."""


@top.group(cls=GuidingGroup)
@home_option
def nested(**_: object) -> None:
    """Like `isthmus cluster`."""


@nested.command()
@output_option
@home_option
@controller_option
@click.option("--say", default="")
def tell(say: str, **given: object) -> None:
    """Print what was given, or a sentence with the options put into its commands."""
    click.echo(pasted(say) if say else json.dumps(given, default=str))


def told(*words: str) -> str:
    from click.testing import CliRunner

    done = CliRunner(env={"ISTHMUS_HOME": "/from/env", "ISTHMUS_OUTPUT": "yaml"}).invoke(top, words)
    assert done.exit_code == 0, done.output
    return done.output.strip()


@pytest.mark.parametrize(
    ("words", "home", "output"),
    [
        (["nested", "tell"], "/from/env", "yaml"),
        (["--home", "/a", "nested", "tell"], "/a", "yaml"),
        (["--home", "/a", "nested", "--home", "/b", "tell"], "/b", "yaml"),
        (["--home", "/a", "nested", "--home", "/b", "tell", "--home", "/c"], "/c", "yaml"),
        (["-o", "json", "nested", "tell"], "/from/env", "json"),
        (["-o", "json", "nested", "tell", "-o", "table"], "/from/env", "table"),
    ],
)
def test_the_option_nearest_to_the_command_is_used_and_any_wins_over_a_variable(
    words: list[str], home: str, output: str
) -> None:
    given = json.loads(told(*words))
    assert (given["home"], given["output"]) == (home, output)


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("Run 'isthmus gateway --cluster west'.", "Run 'isthmus --home '/my fed' gateway --cluster west'."),
        (
            "back with: isthmus cluster undrain x",
            "back with: isthmus --home '/my fed' --controller h:1 cluster undrain x",
        ),
        ("  isthmus cluster join --token-file t", "  isthmus --home '/my fed' cluster join --token-file t"),
        ("It is written by 'isthmus init'; copy it", "It is written by 'isthmus init'; copy it"),
        ("Compare 'isthmus version' here", "Compare 'isthmus version' here"),
    ],
)
def test_commands_that_are_printed_name_the_folder_and_the_controllers(said: str, printed: str) -> None:
    assert told("--home", "/my fed", "nested", "tell", "--controller", "h:1", "--say", said) == printed.strip()


def test_a_folder_that_a_variable_names_is_not_repeated() -> None:
    assert told("nested", "tell", "--say", "Run 'isthmus gateway'.") == "Run 'isthmus gateway'."


def test_home_and_output_may_stand_before_the_command(tmp_path: Path) -> None:
    home = tmp_path / "my fed"
    done = isthmus("--home", str(home), "init", "--domain", "fed.example", "--controller", NOWHERE, home=tmp_path)
    assert done.returncode == 0 and (home / "config.toml").exists()
    done = isthmus("--home", str(home), "-o", "json", "doctor", home=tmp_path)
    assert str(home / "config.toml") in [finding["seen"] for finding in json.loads(done.stdout)]


def test_an_error_proposes_the_command_with_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "my fed"
    assert isthmus("init", "--home", str(home), "--domain", "a.example", home=tmp_path).returncode == 0
    for words in (["--home", str(home), "--controller", NOWHERE, "status"], ["cluster", "--home", str(home), "list"]):
        done = isthmus(*words, home=tmp_path, env={"ISTHMUS_CONTROLLER": NOWHERE})
        said = done.stderr.partition("Start one with '")[2].partition("', or name")[0]
        assert shlex.split(said)[:4] == ["isthmus", "--home", str(home), "controller"], done.stderr


def test_an_option_that_the_command_would_not_heed_is_refused(tmp_path: Path) -> None:
    done = isthmus("--output", "json", "cluster", "drain", "west", home=tmp_path)
    assert done.returncode == 2 and "'isthmus cluster drain' takes no --output. Leave it out." in done.stderr
    done = isthmus("--controller", NOWHERE, "init", "--domain", "a.example", home=tmp_path)
    assert done.returncode == 2 and "--controller stands behind 'isthmus init'" in done.stderr
    assert isthmus("--home", str(tmp_path), "--controller", NOWHERE, "version", home=tmp_path).returncode == 0


def test_doctor_says_once_what_mends_several_things_and_says_it_so_that_it_can_be_pasted(tmp_path: Path) -> None:
    home = tmp_path / "my fed"
    assert isthmus("init", "--home", str(home), "--domain", "a.example", home=tmp_path).returncode == 0
    for name in ("west", "east"):
        place = home / "clusters" / name
        place.mkdir(parents=True)
        (place / "cluster.json").touch()
    done = isthmus("doctor", "--home", str(home), "--controller", NOWHERE, home=tmp_path)
    mends = done.stdout.partition("How to mend:\n")[2].splitlines()
    assert len(mends) == len({line.partition(": ")[2].rpartition(": ")[2] for line in mends})
    assert any("east: cluster CA, west: cluster CA: Join again with a new token." in line for line in mends)
    gateway = next(line for line in mends if "gateway --cluster west" in line)
    said = gateway.partition("Run '")[2].removesuffix("'.")
    assert shlex.split(said) == ["isthmus", "--home", str(home), "gateway", "--cluster", "west"]


def test_a_mistyped_command_of_a_group_is_suggested(tmp_path: Path) -> None:
    done = isthmus("cluster", "lst", home=tmp_path)
    assert done.returncode == 2 and "Did you mean 'list'?" in done.stderr
    assert os.listdir(tmp_path) == []
