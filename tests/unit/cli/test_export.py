"""`isthmus export`: the document means what the flags say, and a document of one's own stays as it is."""

from pathlib import Path

import pytest

from isthmus_core.names import Locality, ServiceName
from isthmus_gateway.sources.services import parse_file
from support.command import isthmus

ECHO = ServiceName("shop", "echo")
SERVICE = """\
apiVersion: isthmus.dev/v1alpha1
kind: Service
metadata: {namespace: shop, name: echo}
spec:
  ports:
  - {name: http, port: 80}
  endpoints:
  - address: 127.0.0.1
"""
OWN = """\
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata: {namespace: shop, name: echo}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "echo.yaml").write_text(SERVICE)
    return tmp_path / "services"


def exported(folder: Path) -> dict[str, str]:
    """The exported annotations, as the gateway reads them."""
    content = (folder / "shop.echo.export.yaml").read_bytes()
    parsed = parse_file("shop.echo.export.yaml", content, Locality("onprem", "berlin", "rack-1"))
    assert [export.service for export in parsed.exports] == [ECHO]
    return dict(parsed.exports[0].spec.annotations)


def export(folder: Path, *words: str) -> str:
    done = isthmus("export", "shop/echo", "--services", str(folder), *words, home=folder.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("words", "annotations"),
    [
        ((), {}),
        (("--dns", "gateway"), {}),
        (("--dns", "endpoints"), {"isthmus.dev/dns": "endpoints"}),
    ],
)
def test_the_export_says_what_dns_answers_where_that_is_not_the_default(
    words: tuple[str, ...], annotations: dict[str, str], folder: Path
) -> None:
    export(folder, *words)
    assert exported(folder) == annotations


def test_what_dns_answers_can_be_changed_later_and_stays_when_nothing_is_said(folder: Path) -> None:
    export(folder)
    assert "Exported shop/echo" in export(folder, "--dns", "endpoints")
    assert "exported already" in export(folder)
    assert exported(folder) == {"isthmus.dev/dns": "endpoints"}
    assert "exported already" in export(folder, "--dns", "endpoints")
    export(folder, "--dns", "gateway")
    assert exported(folder) == {}


@pytest.mark.parametrize("file", ["own.yaml", "shop.echo.export.yaml"])
def test_an_export_that_somebody_wrote_is_not_written_over(file: str, folder: Path) -> None:
    (folder / file).write_text(OWN)
    done = isthmus("export", "shop/echo", "--services", str(folder), "--dns", "endpoints", home=folder.parent)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "a document of your own" in done.stderr
    assert "exportedAnnotations: {isthmus.dev/dns: endpoints}" in done.stderr
    assert (folder / file).read_text() == OWN


def test_another_word_is_a_usage_error_in_one_sentence(folder: Path) -> None:
    done = isthmus("export", "shop/echo", "--services", str(folder), "--dns", "vip", home=folder.parent)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert errors == ["Error: Invalid value for '--dns': 'vip' is not one of 'gateway', 'endpoints'."]
    assert not (folder / "shop.echo.export.yaml").exists()


def test_a_service_that_cannot_be_read_is_no_service_that_is_missing(folder: Path) -> None:
    (folder / "echo.yaml").write_text(SERVICE.replace("spec:", "spec: ]"))
    done = isthmus("export", "shop/echo", "--services", str(folder), home=folder.parent)
    assert done.returncode == 1
    assert "(there: none). Mend echo.yaml first: it is not YAML at line 4." in done.stderr


@pytest.mark.parametrize(
    "rubbish", ["[" * 5000, "metadata: {name: [1], namespace: {}}\nkind: Service\n", "- 1\n", "\0"]
)
def test_rubbish_beside_a_service_keeps_nobody_from_exporting_it(rubbish: str, folder: Path) -> None:
    (folder / "a.yaml").write_text(rubbish)
    assert "Exported shop/echo" in export(folder)


@pytest.mark.parametrize("command", ["export", "unexport"])
def test_before_any_cluster_joined_the_folder_can_be_given_by_an_option_that_exists(
    command: str, tmp_path: Path
) -> None:
    done = isthmus(command, "shop/echo", home=tmp_path)
    assert done.returncode == 1 and done.stderr.rstrip().endswith("or give --services.")
