"""The repository keeps its own rules: locks, licences, folders, words and the shape of the code."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = (
    "federation/isthmus_core",
    "federation/isthmus_kit",
    "federation/isthmus_sync",
    "federation/isthmus_controller",
    "federation/isthmus_cli",
    "gateway/isthmus_gateway",
    "dns/isthmus_dns",
)
# Written in two halves so that this file passes its own test.
FORBIDDEN = (
    (
        "an address of a package index",
        r"(?:pypi\.|files\.python" + r"hosted|registry\.npmjs|proxy\.golang|deb\.debian)\S*",
    ),
    ("an option that names an index", r"--(?:extra-)?index" + r"-url|--find" + r"-links|--trusted" + r"-host"),
    ("a path of one machine", r"(?<![\w.])/(?:wo" + r"rk/(?:main|shared)|tmp/te" + r"am|opt/whe" + r"els)\b"),
)


def tracked() -> list[Path]:
    """What git keeps, or would keep: everything but ignored files. In an unpacked archive: the files that are there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a clone")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if "_pb2" not in path.name]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(("what", "pattern"), FORBIDDEN, ids=[what for what, _ in FORBIDDEN])
def test_no_file_holds(what: str, pattern: str) -> None:
    found = []
    for path in tracked():
        if path.name in ("go.sum", "lock.py", "LICENSE"):
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{named(path)}: {match[0]}" for match in re.finditer(pattern, text)]
    assert not found, f"{what}: {found}"


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-fuzz.txt", "tools/go/requirements.txt"]
)
def test_every_locked_package_has_a_version_and_hashes(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text))[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[\w.\-]+==[\w.]+ ", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for lock, wanted in (
        ("requirements.txt", project["dependencies"]),
        ("requirements-dev.txt", project["dependencies"] + project["optional-dependencies"]["dev"]),
    ):
        locked = set(re.findall(r"(?m)^([\w.\-]+)==", (ROOT / lock).read_text()))
        for requirement in wanted:
            name = re.match(r"[\w.\-]+", requirement)
            assert name is not None
            assert name[0].lower() in locked, f"{name[0]} is not in {lock}: run `make lock`"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed_documented_and_built_into_the_wheel(package: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert package in settings["packages"]
    assert (ROOT / package / "py.typed").exists()
    assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
    assert not (ROOT / package).parent.joinpath("__init__.py").exists(), "a source root is no package"


def test_no_folder_of_the_tests_hides_a_library() -> None:
    """tests/ is on the import path: a folder in it is a package to Python, and one called `dns` would be dnspython."""
    folders = [path for path in (ROOT / "tests").rglob("*") if path.is_dir() and path.name != "__pycache__"]
    assert not [named(path) for path in folders if path.name == "dns"]
    assert not {path.name for path in folders if path.parent.name == "tests"} & {
        "aetcd",
        "envoy",
        "google",
        "grpc",
        "xds",
    }
    assert [named(p.parent) for p in (ROOT / "tests").rglob("__init__.py")] == ["tests/support"]


@pytest.mark.parametrize(
    "folder",
    ["", "docs", "tests", "tests/bench", "tools", "terraform", "kind-multicluster", *PACKAGES],
    ids=lambda folder: folder or "top",
)
def test_a_folder_says_what_it_is(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    assert readme.exists(), f"{folder} has no README.md"
    lines = readme.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert len([line for line in lines if line.strip()]) >= 2, "a title alone says nothing"


def test_the_readme_names_the_two_first_commands_early() -> None:
    head = "\n".join((ROOT / "README.md").read_text().splitlines()[:30])
    assert 0 < head.index("make demo") < head.index("make test")


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{named(path)} -> {target}"
        for path in tracked()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]
    assert not broken


def test_links_to_a_place_in_a_document_lead_to_a_heading() -> None:
    broken = []
    for path in tracked():
        if path.suffix != ".md":
            continue
        for target, place in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", path.read_text()):
            if not re.match(r"[a-z]+:", target) and place not in headings(path.parent / target if target else path):
                broken.append(f"{named(path)} -> {target}#{place}")
    assert not broken


def headings(path: Path) -> set[str]:
    """The places of a document as GitHub calls them; what stands in blocks of code is no heading."""
    text = re.sub(r"(?ms)^```.*?^```", "", path.read_text()) if path.is_file() else ""
    return {
        re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in re.findall(r"(?m)^#+ (.+)$", text)
    }


def test_every_file_of_the_code_that_a_document_names_exists() -> None:
    folders = ("tests", "docs", "tools", "federation", "dns", "terraform", "kind-multicluster")
    missing = [
        f"{named(path)} names {name}"
        for path in tracked()
        if path.suffix == ".md"
        for name in re.findall(rf"`((?:{'|'.join(folders)})/[\w./*-]+)`", path.read_text())
        if not any(ROOT.glob(name.rstrip("/")))
    ]
    assert not missing


def test_every_module_says_in_its_docstring_what_it_decides_or_moves() -> None:
    bare = [named(path) for path in modules() if path.stat().st_size and not ast.get_docstring(parsed(path))]
    assert not bare


def test_modules_and_functions_stay_short() -> None:
    long = []
    for path in modules():
        text = path.read_text()
        if text.count("\n") > 350:
            long.append(f"{named(path)}: {text.count(chr(10))} lines")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                size = node.end_lineno - node.lineno + 1
                if size > 60:
                    long.append(f"{named(path)}: {node.name} has {size} lines")
    assert not long, "which idea is missing? " + "; ".join(long)


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([a-z-]+):", makefile))
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {"demo", "test", "check", "bench", "help", "clean"} <= targets
    for target in targets:
        assert f"make {target}" in shown
