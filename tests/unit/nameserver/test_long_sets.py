"""Record sets longer than any message: they are cut where the message ends, and compiling them ends, too."""

import pytest

from unit.nameserver.builders import headless, host, question, responder

CLUSTER = "c" * 63
SERVICE, NAMESPACE = "s" * 20, "n" * 63


@pytest.mark.parametrize("first", ["a", "z" * 63])
@pytest.mark.parametrize("endpoints", [250, 400, 1200])
def test_records_of_unequal_length_are_cut_where_the_message_ends(first: str, endpoints: int) -> None:
    hosts = [host("10.0.0.1", first, "e")]
    hosts += [host(f"10.0.{n >> 8}.{n & 255}", f"h{n:03d}{'x' * 58}", CLUSTER) for n in range(1, endpoints)]
    server = responder(headless(f"{NAMESPACE}/{SERVICE}", hosts))

    query = question(f"_http._tcp.{SERVICE}.{NAMESPACE}.svc.clusterset.local", "SRV")
    response = server.respond(query.to_wire(), tcp=True)

    assert response is not None
    answers = int.from_bytes(response[6:8], "big")
    assert len(response) <= 65_535
    assert answers == endpoints or len(response) > 65_535 - 600, "no record is left out for which there is room"
    assert not response[2] & 0x02
