"""`isthmus doctor` finds services that nobody can be asked for, and tells what it finds so that it can be read."""

from pathlib import Path

from isthmus_cli.commands.doctor import Finding, _as_text, _each, _gateway_mend, _local_clusters, _services
from isthmus_cli.output import table
from isthmus_controller.admin.values import ClusterView, ExporterView, ServiceView, Status
from isthmus_core.names import ClusterId, Locality
from isthmus_gateway.membership import Membership, write_membership
from isthmus_gateway.sources.assembly import Problem
from isthmus_gateway.sources.documents import Place
from isthmus_gateway.sources.files import NAMED, SourceState


def service(*exporters: ExporterView) -> ServiceView:
    ready, total = sum(one.ready for one in exporters), sum(one.total for one in exporters)
    views = list(exporters)
    return ServiceView("shop/web", "shop", "web", "", "ClusterSetIP", [], views, [], ready, total, "None", {}, {})


def exporter(cluster: str, ready: int, total: int, why: str = "") -> ExporterView:
    return ExporterView(cluster, "healthy", ["http"], ready, total, 1, why)


def seen(one: ServiceView) -> list[tuple[str, str, str]]:
    return [(f.result, f.seen, f.mend.rpartition("; ")[2]) for f in _services([one])]


def test_a_service_that_is_ready_everywhere_is_well() -> None:
    assert seen(service(exporter("west", 1, 2))) == [("ok", "1, with somebody ready wherever they can be reached", "")]
    assert list(_services([])) == []


def test_a_cluster_in_which_nobody_is_ready_is_named() -> None:
    one = service(exporter("west", 0, 2), exporter("east", 1, 1))
    assert seen(one) == [("warning", "nobody is ready in west, 0 of 2", "others answer meanwhile.")]
    assert [f.mend for f in _services([one])] == [
        "See why no endpoint in west passes its health check; others answer meanwhile."
    ]


def test_a_service_that_nobody_serves_says_so() -> None:
    one = service(exporter("west", 0, 2), exporter("east", 0, 0))
    assert [found[2] for found in seen(one)] == ["nobody else is ready."] * 2
    assert [f.mend.partition(",")[0] for f in _services([one])][1] == "Give it endpoints in east"


def test_a_cluster_that_nobody_can_reach_is_not_a_matter_of_its_services() -> None:
    one = service(exporter("west", 0, 2, why="none of its gateways runs"), exporter("east", 1, 1))
    assert [found[0] for found in seen(one)] == ["ok"]


def federation(*clusters: str, domain: str = "fed.example") -> Status:
    views = [ClusterView(name, "healthy", "a/b/c", "", "", 0, "", True, 0, True, 0, [], 0) for name in clusters]
    return Status("fed", domain, "1", 1, 0, True, {}, {}, views, 0, 0, [], [], [], [])


def test_a_cluster_that_joined_here_and_was_removed_is_not_told_to_run(tmp_path: Path) -> None:
    folder = tmp_path / "clusters" / "nova"
    folder.mkdir(parents=True)
    place = Locality("aws", "eu-west-1", "a")
    member = Membership(
        id=ClusterId("nova"), federation="fed", domain="fed.example", locality=place, network="", controllers=()
    )
    write_membership(folder, member)

    def told(now: Status | None) -> tuple[str, str, str]:
        [*_, found] = _local_clusters(tmp_path, now)
        assert found.check == "nova: gateway"
        return found.result, found.seen, found.mend

    stopped = ("warning", "does not run on this machine", "Run 'isthmus gateway --cluster nova'.")
    for known in (federation("nova", "west"), federation("west", domain="another.example"), None):
        assert told(known) == stopped
    again = "isthmus cluster register nova --locality aws/eu-west-1/a"
    mend = f"Register it again with '{again}' and join with the new token, or delete the folder {folder}."
    assert told(federation("west")) == ("warning", "nova is no member of the federation any more", mend)


def test_a_service_that_only_drained_clusters_have_is_named_with_the_way_back() -> None:
    one = service(exporter("west", 0, 2), exporter("east", 1, 1), exporter("north", 2, 2))
    assert [f.result for f in _services([one])] == ["warning"], "west"
    *_, found = _services([one], ["shop/web"])
    assert found.seen == "nobody serves it to other clusters; drained: east, north"
    assert found.mend.startswith("Take a cluster back with 'isthmus cluster undrain east'")
    well = service(exporter("west", 1, 1))
    assert [f.result for f in _services([well], ["shop/web"])] == ["warning"], "and not that all is well"


def test_two_findings_about_one_thing_name_it_once() -> None:
    twice = [Finding("service shop/web", "warning", seen, "Make them agree.") for seen in ("a port", "a type")]
    assert _as_text(twice).endswith("How to mend:\n  service shop/web: Make them agree.")


def test_what_a_gateway_warns_of_is_mended_by_what_it_says_or_by_what_is_missing() -> None:
    assert _gateway_mend("files", "a.yaml:1:1: port 0 is out of range. Use 1.").startswith("Do what stands above;")
    assert _gateway_mend("controllers", "no controller answers").startswith("Start a controller,")


def test_each_file_that_cannot_be_used_is_a_finding_of_its_own() -> None:
    wrong = "it has two ports 80; and no protocol"
    problems = [
        Problem(Place(f"{n}.yaml", n, 1) if n > 2 else Place(f"{n}.yaml"), wrong, "Use one")
        for n in range(1, NAMED + 4)
    ]
    one = f"{wrong}. Use one."
    told = _each(SourceState(tuple(problems)).sentence)
    assert told == [
        *(f"{n}.yaml: {one}" for n in (1, 2)),
        *(f"{n}.yaml:{n}:1: {one}" for n in range(3, NAMED + 1)),
        "3 more, which the gateway's log names.",
    ]
    assert _each(SourceState(tuple(problems[:1])).sentence) == [f"1.yaml: {one}"]
    assert _each("Did you mean this; or that?") == ["Did you mean this; or that?"]


def test_a_table_in_a_narrow_terminal_goes_on_below_with_whole_words() -> None:
    path = Path("/a/long/path/that-is-copied.yaml")
    rows = [["failed", "files", f"port 80800 is out of range in {path}"], ["ok", "clock", ""]]
    assert table(("RESULT", "CHECK", "SEEN"), rows, width=41).splitlines() == [
        "RESULT  CHECK  SEEN",
        "failed  files  port 80800 is out of range",
        "               in",
        f"               {path}",
        "ok      clock",
    ]
    assert len(table(("RESULT", "CHECK", "SEEN"), rows).splitlines()) == 3, "a pipe gets whole lines"
    assert table(("A", "B"), [], width=10) == "A  B"
