"""A status never says of one member of etcd both that it does not answer and that it is healthy."""

from collections.abc import Sequence

from isthmus_controller.admin.values import EtcdView
from isthmus_controller.etcd_health import in_trouble

A, B = "https://127.0.0.1:2379", "https://127.0.0.1:23790"


def views(*problems: str) -> Sequence[EtcdView]:
    return [EtcdView(at, not why, "3.7.0", not why, 1, 1, why) for at, why in zip((A, B), problems, strict=False)]


def problems(views: Sequence[EtcdView]) -> list[str]:
    assert [(view.healthy, view.leader) for view in views] == [(not view.problem, not view.problem) for view in views]
    return [view.problem for view in views]


def test_the_member_that_whoever_follows_etcd_hears_nothing_of_is_not_healthy() -> None:
    silent = f"etcd at {A} has been silent for 5 s"
    assert problems(in_trouble(views(""), silent)) == [silent]
    assert problems(in_trouble(views("", ""), silent)) == [silent, ""]
    assert problems(in_trouble(views("its disk is full", ""), silent)) == ["its disk is full", ""]


def test_trouble_that_names_nobody_is_that_of_all() -> None:
    silent = "etcd does not answer in time"
    assert problems(in_trouble(views("", "its disk is full"), silent)) == [silent, "its disk is full"]


def test_without_trouble_the_last_answers_stand() -> None:
    assert problems(in_trouble(views("", "its disk is full"), "")) == ["", "its disk is full"]
