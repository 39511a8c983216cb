"""The sampled query log: fields that a log record can carry, and never in the way of an answer."""

import pytest

from isthmus_dns.listening.tap import QueryLog
from unit.nameserver.builders import question, responder, service

NAME = "web.shop.svc.clusterset.local"


def test_every_nth_query_is_logged_with_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    query_log = QueryLog(2)
    query = question(NAME).to_wire()
    with caplog.at_level("INFO", "isthmus_dns.listening.tap"):
        for _ in range(4):
            query_log.see(query, responder(service("shop/web")).respond(query), "192.0.2.1", 53, False)
        query_log.see(b"", None, "192.0.2.1", 53, True)
        query_log.see(b"", None, "192.0.2.1", 53, True)

    assert [record.message for record in caplog.records] == ["query"] * 3
    first = vars(caplog.records[0])
    shown = {field: first[field] for field in ("question", "type", "client", "tcp", "rcode", "of")}
    expected = {"question": f"{NAME}.", "type": "A", "client": "192.0.2.1", "tcp": False, "rcode": "NOERROR", "of": 2}
    assert shown == expected
