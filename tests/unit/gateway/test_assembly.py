"""Services and exports out of many files: which file wins, what is named as a problem, how often is checked."""

import pytest

from isthmus_core.model import ExportSpec, HealthCheck, LocalService, ServicePort, ServiceType
from isthmus_core.names import ServiceName
from isthmus_gateway.sources.assembly import assemble, paced
from isthmus_gateway.sources.documents import Place
from isthmus_gateway.sources.services import Described, DescribedExport, FileContent

ECHO = ServiceName("shop", "echo")


def described(file: str, port: int = 80) -> FileContent:
    service = LocalService(ECHO, ServiceType.CLUSTER_SET_IP, (ServicePort("http", port),))
    return FileContent(services=(Described(service, Place(file, 1, 1)),))


def exported(file: str, spec: ExportSpec | None = None) -> FileContent:
    return FileContent(exports=(DescribedExport(ECHO, spec or ExportSpec(), Place(file, 1, 1)),))


def test_an_export_may_stand_in_another_file_than_its_service() -> None:
    together = assemble({"a.yaml": described("a.yaml"), "b.yaml": exported("b.yaml")}, {})
    assert together.services[ECHO].export == ExportSpec()
    assert together.problems == ()


def test_a_service_in_two_files_is_named_with_both_places_and_the_first_is_used() -> None:
    together = assemble({"a.yaml": described("a.yaml", 80), "b.yaml": described("b.yaml", 81)}, {})
    assert together.services[ECHO].ports[0].port == 80
    assert str(together.problems[0]).startswith("b.yaml:1:1: Service shop/echo is described here and in a.yaml:1:1")


def test_a_new_file_never_takes_a_service_away_from_the_file_that_has_it() -> None:
    before = assemble({"b.yaml": described("b.yaml", 81)}, {})
    after = assemble({"a.yaml": described("a.yaml", 80), "b.yaml": described("b.yaml", 81)}, before.owners)
    assert after.services[ECHO].ports[0].port == 81
    assert after.problems[0].place.file == "a.yaml"


def test_the_same_export_in_two_files_is_no_problem_and_a_different_one_is() -> None:
    same = assemble({"a.yaml": described("a.yaml"), "b.yaml": exported("b.yaml"), "c.yaml": exported("c.yaml")}, {})
    assert same.problems == ()
    other = exported("c.yaml", ExportSpec(labels={"a": "b"}))
    different = assemble({"a.yaml": described("a.yaml"), "b.yaml": exported("b.yaml"), "c.yaml": other}, {})
    assert "ServiceExport shop/echo is described here and in b.yaml" in different.problems[0].reason


def test_an_export_without_a_service_is_a_problem() -> None:
    alone = assemble({"b.yaml": exported("b.yaml")}, {})
    assert alone.services == {}
    assert "no file describes" in alone.problems[0].reason


@pytest.mark.parametrize(
    ("endpoints", "interval"),
    [(0, 100), (100, 100), (101, 200), (200, 200), (201, 400), (1_000, 1_600), (10_000, 12_800)],
)
def test_many_endpoints_are_checked_less_often_in_steps(endpoints: int, interval: int) -> None:
    assert paced(HealthCheck(), endpoints).interval_ms == interval


def test_an_interval_that_is_long_enough_stays() -> None:
    slow = HealthCheck(interval_ms=30_000)
    assert paced(slow, 10_000) is slow
