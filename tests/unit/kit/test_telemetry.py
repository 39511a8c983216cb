"""Logs as JSON and for a person, and metrics of one process."""

import asyncio
import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from isthmus_kit.telemetry import new_registry, setup_logging


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_fields_of_a_log_line_stand_beside_its_sentence_in_json() -> None:
    out = io.StringIO()
    setup_logging(form="json", stream=out)
    logging.getLogger("isthmus.test").info("cluster joined", extra={"cluster": "berlin", "gateways": 2})
    line = orjson.loads(out.getvalue())
    assert (line["message"], line["cluster"], line["gateways"], line["level"]) == (
        "cluster joined",
        "berlin",
        2,
        "info",
    )


def test_a_call_that_was_given_up_as_it_came_is_no_error() -> None:
    out = io.StringIO()
    setup_logging(form="json", stream=out)
    grpc = logging.getLogger("grpc._cython.cygrpc")
    for error in (asyncio.CancelledError(), ValueError("a fault")):
        grpc.error("Exception not handled in servicer method", exc_info=error)
    (line,) = out.getvalue().splitlines()
    assert "a fault" in line


def test_a_person_gets_one_line_with_fields_and_no_colour_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    setup_logging(form="console", stream=out)
    logging.getLogger("isthmus.test").warning("file rejected", extra={"file": "a b.yaml"})
    assert "warning" in out.getvalue() and "file rejected  file='a b.yaml'" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_every_registry_stands_alone() -> None:
    assert new_registry() is not new_registry()
