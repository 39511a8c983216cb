"""Join tokens: bound to a cluster, good for one key and a short time, and never shown."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from isthmus_controller.trust import check_token, consume_token, enrolled_key, issue_token, token_id
from isthmus_core.errors import InvalidInput, Refused
from isthmus_core.names import Locality
from isthmus_kit.pki import make_key, make_request, read_token
from isthmus_kit.pki.token import PREFIX
from isthmus_sync.proto import isthmus_pb2 as pb

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECRET = bytes(range(32))


def issue(cluster: str = "a", ttl: timedelta = timedelta(minutes=10)) -> tuple[str, pb.JoinToken]:
    place = Locality("aws", "eu-west-1", "a")
    return issue_token(cluster, place, "net", ttl, "ab" * 32, ["c:1"], NOW, lambda n: SECRET[:n], "fed.example")


def test_a_token_says_what_the_joiner_needs() -> None:
    text, record = issue()
    token = read_token(text)
    assert (token.cluster, token.domain, token.root_sha256, token.controllers) == (
        "a",
        "fed.example",
        "ab" * 32,
        ("c:1",),
    )
    assert text.startswith(PREFIX) and "\n" not in text and " " not in text
    assert token_id(f"  {text}\n") == record.id == token.id
    assert record.expires_at_ms == round((NOW + timedelta(minutes=10)).timestamp() * 1000)


def test_the_record_does_not_hold_the_secret() -> None:
    _, record = issue()
    assert SECRET not in record.SerializeToString()


def test_the_secret_is_never_printed() -> None:
    text, _ = issue()
    token = read_token(text)
    shown = f"{token} {token!r} {[token]} %s" % token
    assert base64.b64encode(SECRET).decode()[:20] not in shown
    assert SECRET.hex()[:20] not in shown and repr(SECRET)[2:20] not in shown


def test_a_good_token_is_accepted_until_it_expires() -> None:
    text, record = issue()
    assert check_token(text, record, NOW + timedelta(minutes=9, seconds=59)).cluster == "a"
    with pytest.raises(Refused, match=r"for a has expired\. Make a new one"):
        check_token(text, record, NOW + timedelta(minutes=10))


def test_an_expired_token_whose_record_is_gone_says_that_it_expired() -> None:
    text, _ = issue()
    with pytest.raises(Refused, match="has expired"):
        check_token(text, None, NOW + timedelta(hours=1))
    with pytest.raises(Refused, match="is not known"):
        check_token(text, None, NOW)


def test_a_used_token_is_good_for_the_same_key_only() -> None:
    text, record = issue()
    key, other = make_key(), make_key()
    used = consume_token(record, make_request(key, "one"))
    assert not enrolled_key(record) and enrolled_key(used)
    assert check_token(text, used, NOW, make_request(key, "another request, same key")).cluster == "a"
    for request in (make_request(other, "one"), None):
        with pytest.raises(Refused, match="was used already"):
            check_token(text, used, NOW, request)
    assert consume_token(used, make_request(key, "again")) == used


def test_another_secret_is_refused() -> None:
    text, record = issue()
    record.secret_sha256 = bytes(32)
    with pytest.raises(Refused, match="not the one that was issued"):
        check_token(text, record, NOW)


def test_a_token_changed_to_another_cluster_is_refused() -> None:
    text, record = issue()
    said = json.loads(base64.urlsafe_b64decode(text[len(PREFIX) :] + "=="))
    said["cluster"] = "b"
    changed = PREFIX + base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    with pytest.raises(Refused, match="is for the cluster a, not for b"):
        check_token(changed, record, NOW)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("hello", "not a join token"),
        ("isthmus-join-v9.abc", "another version"),
        (PREFIX, "malformed"),
        (PREFIX + "!!!!", "malformed"),
        (PREFIX + base64.urlsafe_b64encode(b"{}").decode(), "malformed"),
        (PREFIX + "A" * 9000, "malformed"),
    ],
)
def test_what_is_no_token_is_refused_with_the_reason(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        read_token(text)


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta(days=2)])
def test_a_life_that_makes_no_sense_is_refused(ttl: timedelta) -> None:
    with pytest.raises(InvalidInput, match="cannot live"):
        issue(ttl=ttl)


@pytest.mark.parametrize("cluster", ["controller", "Not.A.Label", ""])
def test_a_token_is_for_a_cluster_that_may_exist(cluster: str) -> None:
    with pytest.raises(InvalidInput):
        issue(cluster)
