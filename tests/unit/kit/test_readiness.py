"""Readiness names what is missing."""

from isthmus_kit.readiness import Readiness


def test_a_process_is_unready_until_every_part_said_it_is_ok_and_names_the_rest() -> None:
    readiness = Readiness("identity", "envoy")
    readiness.set("identity", ok=True)
    assert not readiness.ready
    assert readiness.missing() == {"envoy": "not started yet"}


def test_a_warning_is_named_and_does_not_make_a_process_unready() -> None:
    readiness = Readiness()
    readiness.warn("files", "shop.yaml line 3: unknown field")
    assert readiness.ready
    assert readiness.warnings() == {"files": "shop.yaml line 3: unknown field"}
    readiness.warn("files", "")
    assert readiness.warnings() == {}


def test_a_process_that_stops_is_never_ready_again() -> None:
    readiness = Readiness("envoy")
    readiness.stop()
    readiness.set("envoy", ok=True)
    assert readiness.missing() == {"process": "stopping"}
