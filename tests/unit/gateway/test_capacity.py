"""What a cluster says of its endpoints: how many are healthy, by weight and locality."""

import msgspec

from isthmus_core.dns_mode import ANNOTATION
from isthmus_core.model import CheckKind, ExportSpec, HealthCheck, Protocol, ServicePort, ServiceType, ZoneCapacity
from isthmus_core.names import ClusterId
from isthmus_gateway.capacity import MOST_LISTED, Verdicts, judge
from support.gateway_values import BERLIN, ECHO, HTTP, local

HERE = ClusterId("here")


def test_an_endpoint_counts_as_ready_once_envoy_found_it_healthy() -> None:
    verdicts = Verdicts()
    service = local("10.0.0.1", "10.0.0.2")
    judged = judge(service, HERE, verdicts)
    assert (judged.capacity.ready, judged.capacity.total, judged.pending) == (0, 2, 2)
    assert verdicts.note(ECHO, "10.0.0.1", 80, True)
    assert not verdicts.note(ECHO, "10.0.0.1", 80, True)
    assert verdicts.note(ECHO, "10.0.0.2", 80, False)
    judged = judge(service, HERE, verdicts)
    assert judged.capacity.zones == (ZoneCapacity(BERLIN, 1, 2),) and judged.pending == 0


def test_weights_count_and_an_endpoint_that_is_not_ready_never_does() -> None:
    verdicts = Verdicts()
    service = local("10.0.0.1", "10.0.0.2")
    heavy = msgspec.structs.replace(service.endpoints[0], weight=5)
    tired = msgspec.structs.replace(service.endpoints[1], ready=False)
    verdicts.note(ECHO, "10.0.0.1", 80, True)
    judged = judge(msgspec.structs.replace(service, endpoints=(heavy, tired)), HERE, verdicts)
    assert (judged.capacity.ready, judged.capacity.total, judged.pending) == (5, 6, 0)


def test_endpoints_are_listed_with_their_verdicts_where_dns_answers_with_them() -> None:
    verdicts = Verdicts()
    plain = local("10.0.0.1", "10.0.0.2")
    asked = msgspec.structs.replace(plain, export=ExportSpec(annotations={ANNOTATION: "endpoints"}))
    assert judge(plain, HERE, verdicts).capacity.endpoints == ()
    # Nobody has looked yet: a gateway that starts anew takes no addresses away.
    assert judge(asked, HERE, verdicts).capacity.endpoints == asked.endpoints
    verdicts.note(ECHO, "10.0.0.1", 80, True)
    assert [e.ready for e in judge(asked, HERE, verdicts).capacity.endpoints] == [True, False]
    verdicts.note(ECHO, "10.0.0.1", 80, False)
    assert [e.ready for e in judge(asked, HERE, verdicts).capacity.endpoints] == [False, False]
    for count, listed in ((MOST_LISTED, MOST_LISTED), (MOST_LISTED + 1, 0)):
        many = local(*(f"10.0.{n // 250}.{n % 250}" for n in range(count)))
        judged = judge(msgspec.structs.replace(many, export=asked.export), HERE, verdicts)
        assert len(judged.capacity.endpoints) == listed


def test_one_failing_port_makes_an_endpoint_unready() -> None:
    verdicts = Verdicts()
    service = local("10.0.0.1", ports=(HTTP, ServicePort("admin", 81), ServicePort("dns", 53, Protocol.UDP)))
    verdicts.note(ECHO, "10.0.0.1", 80, True)
    assert judge(service, HERE, verdicts).pending == 1
    verdicts.note(ECHO, "10.0.0.1", 81, False)
    assert (judge(service, HERE, verdicts).capacity.ready, judge(service, HERE, verdicts).pending) == (0, 0)
    verdicts.note(ECHO, "10.0.0.1", 81, True)
    assert judge(service, HERE, verdicts).capacity.ready == 1


def test_an_endpoint_that_went_away_is_judged_anew_when_it_is_back() -> None:
    verdicts = Verdicts()
    verdicts.note(ECHO, "10.0.0.1", 80, True)
    verdicts.note(ECHO, "10.0.0.2", 80, True)
    verdicts.retain(local("10.0.0.2"), ECHO)
    assert verdicts.of(ECHO, "10.0.0.1", 80) is None and verdicts.of(ECHO, "10.0.0.2", 80) is True
    verdicts.retain(None, ECHO)
    assert verdicts.of(ECHO, "10.0.0.2", 80) is None


def test_a_service_that_is_never_checked_is_as_ready_as_its_source_says() -> None:
    judged = judge(local("10.0.0.1", check=HealthCheck(kind=CheckKind.NONE)), HERE, Verdicts())
    assert (judged.capacity.ready, judged.pending) == (1, 0)


def test_endpoints_travel_for_headless_services_only() -> None:
    assert judge(local("10.0.0.1"), HERE, Verdicts()).capacity.endpoints == ()
    headless = judge(local("10.0.0.1", kind=ServiceType.HEADLESS), HERE, Verdicts()).capacity
    assert [e.address for e in headless.endpoints] == ["10.0.0.1"] and headless.ready == 1


def test_a_service_without_endpoints_has_no_zones() -> None:
    assert judge(local(), HERE, Verdicts()).capacity.zones == ()
