"""Join tokens: whatever happens to the text on its way, it is refused in a sentence that does not repeat it."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from isthmus_controller.trust import check_token, issue_token
from isthmus_core.errors import InvalidInput, Refused
from isthmus_core.names import Locality
from isthmus_kit.pki import read_token
from isthmus_kit.pki.token import PREFIX

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PLACE = Locality("aws", "eu-west-1", "a")
SECRET = bytes(range(100, 132))
TEXT, RECORD = issue_token(
    "a", PLACE, "", timedelta(hours=1), "cd" * 32, ["c:1"], NOW, lambda n: SECRET[:n], "fed.example"
)
instants = st.integers(-7200, 7200).map(lambda seconds: NOW + timedelta(seconds=seconds))


@given(st.integers(0, len(TEXT) - 1), st.sampled_from("Aa0-_. =é\n"))
def test_one_changed_character_never_gives_another_secret_a_pass(place: int, character: str) -> None:
    changed = TEXT[:place] + character + TEXT[place + 1 :]
    refusal = ""
    try:
        token = check_token(changed, RECORD, NOW)
    except (InvalidInput, Refused) as error:
        refusal = str(error)
    else:
        # The secret and the cluster decide; the joiner's own hints are no matter of the controller.
        assert (token.secret, token.cluster) == (SECRET, "a")
    assert TEXT[len(PREFIX) + 20 : len(PREFIX) + 60] not in refusal


@given(st.one_of(st.text(), st.binary().map(lambda raw: PREFIX + raw.hex()), st.text().map(lambda text: PREFIX + text)))
def test_any_text_is_a_token_or_invalid_input(text: str) -> None:
    with suppress(InvalidInput):
        assert read_token(text).cluster


@given(st.integers(1, 86400), instants)
def test_a_token_is_good_exactly_until_it_expires(seconds: int, now: datetime) -> None:
    ttl = timedelta(seconds=seconds)
    text, record = issue_token("a", PLACE, "", ttl, "cd" * 32, ["c:1"], NOW, lambda n: SECRET[:n], "fed.example")
    try:
        check_token(text, record, now)
        good = True
    except Refused:
        good = False
    assert good == (now < NOW + ttl)
