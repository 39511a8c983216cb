"""Answers that are remembered by their packets: when they are, until when, and how many at most."""

from isthmus_dns.answering.remembered import Remembered, question_of
from isthmus_dns.zone.intake import apply_header, apply_services
from unit.nameserver.builders import header, question, resources, responder, service

NAME = "web.shop.svc.clusterset.local"
KEY = b"\3web\4shop\3svc\x0aclusterset\5local\0\0\1\0\1"


def packet(name: str = NAME, edns: int | None = None) -> bytes:
    return question(name, "A", edns).to_wire()


def test_what_is_asked_twice_is_remembered() -> None:
    server = responder(service("shop/web"))
    assert [len(server.remembered.answers)] + [
        len(server.remembered.answers) for _ in range(3) if server.respond(packet())
    ] == [0, 0, 1, 1]

    for _ in range(3):
        server.respond(packet("nope.clusterset.local"))
    assert len(server.remembered.denials) == 1
    assert server.nxdomain == 3


def test_a_remembered_answer_carries_the_id_that_was_asked_with() -> None:
    server = responder(service("shop/web"))
    for number in (1, 2, 3, 40000):
        response = server.respond(question(NAME, id=number).to_wire())
        assert response is not None
        assert int.from_bytes(response[:2], "big") == number


def test_a_change_ends_the_answers_of_its_service_and_all_denials() -> None:
    server = responder(service("shop/web"), service("shop/db"))
    known = [packet(name, edns) for name in (NAME, NAME.replace("web", "db")) for edns in (None, 1232)]
    for each in [*known, packet("nope.clusterset.local")] * 3:
        server.respond(each)
    assert (len(server.remembered.answers), len(server.remembered.denials)) == (4, 1)

    apply_services(server.zone, resources([service("shop/web", ["10.9.9.9"])]), ())
    assert {question_of(each) for each in server.remembered.answers} == {KEY.replace(b"\3web", b"\2db")}
    assert not server.remembered.denials
    changed = server.respond(known[0])
    assert changed is not None
    assert changed.endswith(bytes((10, 9, 9, 9)))
    server.respond(packet("nope.clusterset.local"))
    assert len(server.remembered.denials) == 1

    apply_header(server.zone, {"zone": header(101)})
    assert not server.remembered.denials
    assert len(server.remembered.answers) == 3


def test_random_names_and_random_case_are_not_kept() -> None:
    memory = Remembered()
    for number in range(20_000):
        memory.note(b"%d" % number, KEY, b"answer")
        memory.note_denial(b"-%d" % number, b"answer")
    assert (memory.answers, memory.denials) == ({}, {})
    assert len(memory._once) <= 8192


def test_memory_is_bounded() -> None:
    memory = Remembered(answers_kept=10, denials_kept=10)
    for number in range(25):
        for _ in range(3):
            memory.note(b"%d" % number, KEY, b"answer")
            memory.note_denial(b"%d" % number, b"answer")
    assert (len(memory.answers), len(memory.denials)) == (5, 5)
    memory.forget([KEY])
    assert (memory.answers, memory.denials) == ({}, {})


def test_long_packets_are_not_remembered() -> None:
    memory = Remembered()
    for _ in range(3):
        memory.note(bytes(251), KEY, b"answer")
    assert memory.answers == {}


def test_what_clients_prove_with_cookies_is_not_given_to_others() -> None:
    server = responder(service("shop/web"))
    plain, padded = packet(edns=1232), packet(edns=1232)[:-2] + b"\0\x04\xff\xf0\0\0"
    for each in (plain, padded) * 3:
        assert server.respond(each) is not None
    assert list(server.remembered.answers) == [plain[2:]]


def test_a_sample_stands_for_all_when_there_is_much_to_count() -> None:
    server = responder(service("shop/web"), service("shop/db"))
    server.hits += [packet()[2:]] * 3 + [packet(NAME.upper(), 1232)[2:]]
    server.unsampled = 12

    assert server.take_asked() == {KEY: 16.0}
    assert server.take_asked() == {}
