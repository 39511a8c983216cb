"""What a shell proposes when Tab is pressed: quick, right in each shell, and silent when there is nothing."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isthmus_cli.proposals import LIMIT_S
from support.command import completed, isthmus

SERVICE = """\
kind: Service
metadata: {namespace: shop, name: %s}
"""
OWN_EXPORT = """\
kind: ServiceExport
metadata: {namespace: shop, name: web}
"""
ASKING = ["cluster show ", "cluster undrain ", "services show ", "endpoints ", "explain ", "explain shop/echo --from "]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation from which west has joined, with three services: one is not exported, one by a file of its own."""
    home = tmp_path_factory.mktemp("home")
    isthmus("init", "--domain", "fed.example", "--controller", "127.0.0.1:1", home=home)
    services = home / "clusters" / "west" / "services"
    services.mkdir(parents=True)
    (home / "clusters" / "west" / "cluster.json").write_text("{}")
    for name in ("echo", "web", "mail"):
        (services / f"{name}.yaml").write_text(SERVICE % name)
    (services / "own.yaml").write_text(OWN_EXPORT)
    assert isthmus("export", "shop/echo", home=home).returncode == 0
    return home


def proposed(line: str, home: Path) -> list[str]:
    done = completed(f"isthmus {line}", home)
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_come_from_the_table_and_options_behind_them(home: Path) -> None:
    assert proposed("un", home) == ["plain,unexport"]
    assert "plain,--controller" in proposed("--", home)


def test_export_proposes_what_is_not_exported_and_unexport_what_it_could_take_back(home: Path) -> None:
    assert proposed("export ", home) == ["plain,shop/mail"]
    assert proposed("export --dns endpoints shop/e", home) == ["plain,shop/echo"]
    assert proposed("unexport ", home) == ["plain,shop/echo"]
    assert proposed("unexport --cluster ", home) == ["plain,west"]
    assert proposed("gateway --cluster ", home) == ["plain,west"]


def test_settings_propose_their_words_and_paths(home: Path) -> None:
    assert proposed("dns --log-level w", home) == ["plain,warning"]
    assert proposed("gateway --services /sr", home) == ["dir,/sr"]
    assert proposed("controller --etcd-ca /et", home) == ["file,/et"]


@pytest.mark.parametrize("line", [*ASKING, "nonsense show ", "--output json version ", "cluster show west "])
def test_without_a_controller_nothing_is_proposed_and_nothing_is_said(line: str, home: Path) -> None:
    assert proposed(line, home) == []


@pytest.mark.parametrize("missing", ["config.toml", "controller/admins/admin.key"])
def test_without_a_credential_nothing_is_proposed_and_nothing_is_said(missing: str, home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home")
    (tmp_path / "home" / missing).unlink()
    assert proposed("cluster show ", tmp_path / "home") == []
    (tmp_path / "home" / missing).write_text("rubbish")
    assert proposed("cluster show ", tmp_path / "home") == []


def test_a_controller_that_says_nothing_keeps_nobody_waiting(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        three = ",".join([f"127.0.0.1:{silent.getsockname()[1]}"] * 3)
        begun = time.monotonic()
        assert proposed(f"--controller {three} cluster show ", home) == []
        assert time.monotonic() - begun < 2.5 * LIMIT_S, "three addresses, one limit"


def test_what_python_cannot_interrupt_keeps_nobody_waiting_either() -> None:
    sleeping = "import time\nfrom isthmus_cli.proposals import _limited\nwith _limited(): time.sleep(30)"
    done = subprocess.run([sys.executable, "-c", sleeping], capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


PROMPT = """
source <(isthmus completion bash)
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_isthmus_completion isthmus
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        ("isthmus unexport sh", ["shop/echo"]),
        # As bash cuts `--controller 127.0.0.1:1`, `--home=~` and `--cluster=we` (COMP_WORDBREAKS).
        ("isthmus --controller 127.0.0.1 : 1 unexport shop/", ["shop/echo"]),
        ("isthmus --home = '~' unexport ''", ["shop/echo"]),
        ("isthmus unexport --cluster = we", ["west"]),
        ("isthmus unexport --cluster =", ["west"]),
        ("isthmus nonsense --cluster ''", [""]),
    ],
)
def test_bash_itself_gets_whole_names_and_no_noise(words: str, replies: list[str], home: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", PROMPT.format(words=words)],
        env={"PATH": path, "HOME": str(home), "ISTHMUS_HOME": str(home) if "~" not in words else "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.splitlines(), done.stderr) == (replies, "")


def test_bash_says_nothing_when_the_command_has_gone(home: Path, tmp_path: Path) -> None:
    script = isthmus("completion", "bash", home=home).stdout
    ask = "COMP_WORDS=(isthmus '') COMP_CWORD=1; _isthmus_completion /nowhere/isthmus"
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_shells_that_replace_the_whole_word_get_its_option_too(shell: str, home: Path) -> None:
    typed = "--cluster=we"
    words = f"isthmus unexport {typed}"
    variables = {"COMP_WORDS": words, "COMP_CWORD": "2" if shell == "zsh" else typed}
    done = isthmus(home=home, env={**variables, "_ISTHMUS_COMPLETE": f"{shell}_complete"})
    assert "--cluster=west" in done.stdout
    assert "2>/dev/null" in isthmus("completion", shell, home=home).stdout
