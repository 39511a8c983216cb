"""What a person gets wrong on the command line: one sentence with the mend, exit 2 for usage and 1 for all else."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import isthmus


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation whose controller does not run."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = isthmus("init", "--domain", "fed.example", "--controller", f"127.0.0.1:{port}", home=home)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonsense"], "No such option '--nonsense'"),
        (["statsu"], "Did you mean 'status'?"),
        (["cluster", "nonsense"], "No such command 'nonsense'"),
        (["services", "shop/echo"], "Did you mean 'isthmus services show shop/echo'?"),
        (["services", "list"], "'isthmus services' alone lists them."),
        (["status", "--output", "xml"], "'xml' is not one of 'table', 'json', 'yaml'"),
        (["explain", "shop/echo"], "Missing option '--from'"),
        (["init"], "Missing option '--domain'"),
        (["cluster", "register", "west"], "Missing option '--locality'"),
        (["gateway", "--nonsense"], "No such option"),
        (["controller", "--session-ttl", "soon"], "--session-ttl: 'soon' is not a whole number. Use a whole number"),
        (["controller", "--session-ttl", "0"], "--session-ttl: 0 is too small. Use a whole number from 1 to 300."),
        (["controller", "--listen", "127.0.0.1:99999"], "--listen: '127.0.0.1:99999' is not HOST:PORT"),
        (["controller", "--log-level", "loud"], "--log-level: 'loud' is not known. Use one of 'debug', 'info'"),
        (["gateway", "--envoy-concurrency", "0"], "--envoy-concurrency: 0 is too small"),
        (["gateway", "--web-listen", "15020"], "--web-listen: '15020' is not HOST:PORT"),
        (["gateway", "--listen", "here:15443"], "--listen: 'here' is no IP address. Write an address such as"),
        (["gateway", "--advertise", "gw.example:1"], "--advertise: 'gw.example' is no IP address"),
        (["gateway", "--controllers", "one two"], "--controllers: 'one two' is not HOST:PORT"),
        (["gateway", "--controllers", "a:1,b:0"], "--controllers: 'b:0' is not HOST:PORT"),
        (["gateway", "--id", "ip-10.ec2.internal"], "--id: 'ip-10.ec2.internal' is not a DNS label. Use 1 to 63"),
        (["gateway", "--vip-range", "some"], "--vip-range: 'some' is no network. Write a network and its length"),
        (["gateway", "--vip-range", "10.9.0.1/24"], "is no network. Write a network, for example 10.9.0.0/24."),
        (["controller", "--advertise-grpc", "a:b"], "--advertise-grpc: 'a:b' is not HOST:PORT"),
        (
            ["cluster", "remove", "west"],
            "'isthmus cluster remove' asks before it does this, so it needs a terminal or --yes",
        ),
        (["cluster", "register", "west", "--locality", "a/b/c", "--ttl", "0"], "0 is not in the range 1<=x<=1440"),
        (["dns", "--workers", "0"], "--workers: 0 is too small. Use a whole number from 1 to 64."),
        (["dns", "--ttl", "86401"], "--ttl: 86401 is too large. Use a whole number from 0 to 86400."),
        (["dns", "--stale-after", "0"], "--stale-after: 0 is too small. Use a number above 0 up to 31536000."),
        (["dns", "--stale-after", "inf"], "--stale-after: inf is too large. Use a number above 0 up to 31536000."),
        (["dns", "--tcp-idle", "nan"], "--tcp-idle: nan is not a number. Use a number above 0 up to 3600."),
        (["dns", "--rate-limit", "-1"], "--rate-limit: -1 is too small"),
        (["dns", "--listen", "localhost:53"], "--listen: 'localhost:53' is not an address to listen on. Write IP:PORT"),
        (["dns", "--listen", "127.0.0.1:65536"], "port '65536' in '127.0.0.1:65536' is not a number from 0 to 65535"),
        (
            ["dns", "--zone", "https://fed.example.com"],
            "--zone: 'https://fed.example.com' is not a DNS name. Use labels",
        ),
        (["dns", "--zone", "fed.example=192.0.2.1"], "has a name server without a name. Write it like fed.example=ns1"),
        (
            ["dns", "--zone", "fed.example=ns1.fed.example"],
            "nobody can find ns1.fed.example, which lies inside the zone",
        ),
        (["dns", "--zone", "fed.example=ns1.fed.example@here"], "--zone: 'here' is not an IP address"),
        (
            ["dns", "--zone", "fed.example", "--zone", "FED.example."],
            "--zone: a zone is named twice. Name each zone once",
        ),
        (["dns", "--contact", "a@b@c.example"], "--contact: 'a@b@c.example' is not a mail address"),
        (["dns", "--server-id", "x" * 33], "is not a server id. Use at most 32 ASCII characters."),
        (["dns", "--subnet-resolver", "resolver"], "--subnet-resolver: 'resolver' is not the address of a resolver"),
        (
            ["dns", "--subnet-locality", "10.1.0.0/16=aws"],
            "--subnet-locality: locality 'aws' is not provider/region/zone",
        ),
        (["dns", "--data-dir", "/tmp", "--subnet-locality", "10.0.0.0/8=a/b/c"], "nobody may say where clients are"),
        (["dns", "--dnstap", "/nowhere/tap.sock"], "--dnstap: there is no folder /nowhere. Name a socket in a folder"),
        (["dns", "top", "--web", "127.0.0.1:1", "--interval", "0"], "0 is not in the range"),
        (["dns", "top"], "Missing option '--web'"),
    ],
)
def test_a_wrong_call_is_a_usage_error(words: list[str], said: str, empty: Path) -> None:
    done = isthmus(*words, home=empty)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cluster", "register", "West", "--locality", "aws/eu/a"], "cluster id 'West' is not a DNS label"),
        (["cluster", "register", "west", "--locality", "aws"], "locality 'aws' is not provider/region/zone"),
        (["explain", "echo", "--from", "west"], "service 'echo' has no namespace"),
        (["status"], "no controller answers"),
        (["status", "--controller", "127.0.0.1:notaport"], "is not HOST:PORT"),
        (["status", "--controller", " , "], "no controller is named. Write its address like 127.0.0.1:15014"),
        (["cluster", "join", "--token-file", "nowhere"], "the token file nowhere cannot be read: no such file"),
        (["cluster", "join"], "no token was given. Use --token-file FILE, ISTHMUS_TOKEN, or standard input."),
        (["gateway", "--cluster", "west"], "no cluster 'west' has joined"),
        (["dns"], "no cluster has joined"),
        (["export", "shop/echo"], "no cluster has joined"),
        (["init", "--domain", "fed.example"], "there is already a federation"),
        (["controller", "--config", "nowhere.toml"], "there is no configuration file nowhere.toml"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(words: list[str], said: str, federation: Path) -> None:
    done = isthmus(*words, home=federation)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_a_federation_the_mend_is_init(empty: Path) -> None:
    done = isthmus("status", home=empty)
    assert (done.returncode, "isthmus init" in done.stderr) == (1, True)


def test_a_broken_configuration_is_named_with_its_place(empty: Path) -> None:
    (empty / "config.toml").write_text("controllers = [}\n")
    done = isthmus("status", home=empty)
    assert done.returncode == 1
    assert "config.toml is not valid TOML" in done.stderr
    assert "line 1" in done.stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('controllers = "127.0.0.1:1"', 'controllers is no list of texts. Write controllers = ["127.0.0.1:15014"].'),
        ("controllers = []", "controllers is no list of texts."),
        ("server_name = 3", "server_name is no text. Put it between quotes."),
    ],
)
def test_a_configuration_entry_of_another_kind_is_named(entry: str, said: str, federation: Path, empty: Path) -> None:
    name = entry.partition(" ")[0]
    lines = (federation / "config.toml").read_text().splitlines()
    (empty / "config.toml").write_text("\n".join(entry if line.startswith(name) else line for line in lines))
    done = isthmus("status", home=empty)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"config.toml: {said}" in done.stderr


def test_a_configuration_may_come_from_another_editor(federation: Path, empty: Path) -> None:
    text = (federation / "config.toml").read_text()
    (empty / "config.toml").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert "root.pem is missing" in isthmus("status", home=empty).stderr


def test_a_damaged_credential_is_named_without_the_words_of_openssl(federation: Path, empty: Path) -> None:
    home = empty / "home"
    shutil.copytree(federation, home)
    key = next(home.glob("controller/admins/*.key"))
    key.write_text("rubbish")
    said = isthmus("status", home=home).stderr
    assert f"with {key} cannot be used: it is damaged. Copy it from" in said and "SSL" not in said
    (home / "controller" / "root.pem").write_text("rubbish")
    assert "root.pem cannot be used: it is damaged. Copy it from" in isthmus("status", home=home).stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", ["config.toml", "controller/admins/admin.key", "controller/root.pem"])
def test_a_file_that_may_not_be_read_is_named_with_the_right_that_is_missing(
    file: str, federation: Path, empty: Path
) -> None:
    home = empty / "home"
    shutil.copytree(federation, home)
    (home / file).chmod(0)
    done = isthmus("status", home=home)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(home / file) in done.stderr
    assert "permission denied. Give this user the right to read it." in done.stderr


def test_init_without_a_controller_makes_nothing(empty: Path) -> None:
    done = isthmus("init", "--domain", "fed.example", "--controller", " , ", home=empty / "new")
    assert (done.returncode, (empty / "new").exists()) == (1, False)
    assert "no controller is named. Give its address with --controller" in done.stderr


def test_an_unknown_configuration_entry_is_named(federation: Path, empty: Path) -> None:
    text = (federation / "config.toml").read_text()
    (empty / "config.toml").write_text(text + 'colour = "red"\n')
    done = isthmus("status", home=empty)
    assert "unknown entry 'colour'" in done.stderr


@pytest.mark.parametrize("domain", ["", "fed_x.example", "-x.example", "a..b", "x" * 300])
def test_a_domain_that_no_certificate_can_carry_is_refused(domain: str, empty: Path) -> None:
    done = isthmus("init", "--domain", domain, home=empty)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert not (empty / "config.toml").exists()


@pytest.mark.parametrize("token", ["", "rubbish", "isthmus-join-v1.", "isthmus-join-v1.!!!!", "isthmus-join-v9.e30"])
def test_a_malformed_token_is_refused_before_anything_is_asked(token: str, empty: Path) -> None:
    done = isthmus("cluster", "join", "--token-file", "-", home=empty, stdin=token)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "token" in done.stderr
    assert not (empty / "clusters").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gateway]\nlisten = 3\n", "listen"),
        ("[gateway]\nlsten = '1.2.3.4:5'\n", "Did you mean 'listen'?"),
        ("[gatway]\n", "unknown table [gatway]"),
        ("[gateway", "is not valid TOML"),
        ("gateway = 3\n", "gateway is not a table. Write [gateway] on a line of its own."),
        ("[gateway]\ncluster = 'a'\ncluster = 'b'\n", "is not valid TOML: Cannot overwrite a value (at line 3"),
        (b"[gateway]\ncluster = '\xff'\n", "is not UTF-8 text. Save it as UTF-8."),
        (b"\xef\xbb\xbf[gateway]\r\ncluster = 'nobody'\r\n", "no cluster 'nobody' has joined"),
    ],
)
def test_mistakes_in_a_settings_file_are_named(text: str | bytes, said: str, empty: Path) -> None:
    (empty / "settings.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    done = isthmus("gateway", "--config", str(empty / "settings.toml"), home=empty)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_variable_is_named_by_its_name(empty: Path) -> None:
    done = isthmus("dns", home=empty, env={"ISTHMUS_DNS_WORKERS": "many"})
    assert done.returncode == 2
    assert "Error: ISTHMUS_DNS_WORKERS: 'many' is not a whole number. Use a whole number from 1 to 64.\n" in done.stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('zone = ["clusterset.local", "fed..example"]', "zone: 'fed..example' is not a DNS name. Use labels"),
        ("zone = 5", """zone: 5 is not a list. Write it like ["one", "two"]."""),
        ("subnet-resolver = [5]", "subnet_resolver: 5 is not text. Put it between quotes."),
        ("ttl = 1.5", "ttl: 1.5 is not a whole number. Use a whole number from 0 to 86400."),
        ("cookie-secret = 'x'", "[dns] has an unknown entry 'cookie_secret'. Did you mean 'cookie_secret_file'?"),
    ],
)
def test_what_stands_wrongly_in_a_file_is_named_with_its_place(entry: str, said: str, empty: Path) -> None:
    (empty / "settings.toml").write_text(f"[dns]\n{entry}\n")
    done = isthmus("dns", "--config", str(empty / "settings.toml"), home=empty)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "settings.toml: [dns]" in done.stderr and said in done.stderr


def test_a_cookie_secret_that_is_none_is_named_and_never_shown(empty: Path) -> None:
    folder, secret = empty / "clusters" / "west", empty / "secret"
    folder.mkdir(parents=True)
    for text in ("0123", "g" * 32, "\x80" * 32):
        secret.write_text(text)
        done = isthmus("dns", "--cookie-secret-file", str(secret), home=empty)
        assert (done.returncode, text in done.stderr) == (1, False)
        assert "does not hold 32 hexadecimal digits. Make one with 'openssl rand -hex 16'." in done.stderr
    done = isthmus("dns", "--cookie-secret-file", str(empty / "nowhere"), home=empty)
    assert "cannot be read: no such file or directory" in done.stderr


def test_doctor_says_how_to_mend(federation: Path) -> None:
    done = isthmus("doctor", home=federation)
    assert done.returncode == 1
    assert "no controller answers" in done.stdout
    assert "isthmus controller" in done.stdout


@pytest.mark.parametrize("words", [["status"], ["--help"], ["version"]])
def test_output_that_cannot_be_written_is_one_sentence(words: list[str], federation: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "isthmus_cli.main", *words],
            env={**os.environ, "ISTHMUS_HOME": str(federation)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("Error: ")
