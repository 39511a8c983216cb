"""The key layout: what stands where, and that every key reads back as what it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus_controller.store import (
    AuditKey,
    ClusterKey,
    ElectionKey,
    EndpointsKey,
    ExportKey,
    GatewayKey,
    Key,
    Keys,
    PolicyKey,
    SessionKey,
    TokenKey,
    TrustKey,
)
from isthmus_core.errors import InvalidInput
from isthmus_core.names import ClusterId, ServiceName

KEYS = Keys.of("fed.example")
LABEL = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
CLUSTER = LABEL.map(ClusterId)
SERVICE = st.builds(ServiceName.of, LABEL, LABEL)
NAME = st.text(st.characters(whitelist_categories=["L", "N"], whitelist_characters="-._: "), min_size=1, max_size=20)
ANY_KEY = st.one_of(
    st.builds(ClusterKey, CLUSTER),
    st.builds(TokenKey, NAME),
    st.builds(GatewayKey, CLUSTER, NAME),
    st.builds(SessionKey, CLUSTER, NAME),
    st.builds(ExportKey, SERVICE, CLUSTER),
    st.builds(EndpointsKey, SERVICE, CLUSTER),
    st.builds(PolicyKey, NAME, NAME, NAME),
    st.builds(TrustKey, st.lists(NAME, min_size=1, max_size=3).map("/".join)),
    st.builds(AuditKey, st.integers(0, 10**19 - 1)),
    st.builds(ElectionKey, NAME, NAME),
)


@given(ANY_KEY)
def test_every_key_reads_back_as_what_it_was(key: Key) -> None:
    assert KEYS.parse(KEYS.path(key)) == key


@given(ANY_KEY, ANY_KEY)
def test_different_keys_never_share_a_path(one: Key, other: Key) -> None:
    assert (KEYS.path(one) == KEYS.path(other)) == (one == other)


@given(ANY_KEY)
def test_every_key_stands_below_the_prefix_of_its_kind(key: Key) -> None:
    assert KEYS.path(key).startswith(KEYS.prefix(type(key)))


@given(st.integers(0, 10**19 - 1), st.integers(0, 10**19 - 1))
def test_audit_keys_sort_as_their_numbers_do(one: int, other: int) -> None:
    assert (KEYS.path(AuditKey(one)) < KEYS.path(AuditKey(other))) == (one < other)


@given(st.text(max_size=60))
def test_any_text_is_a_key_or_invalid_input(text: str) -> None:
    for path in (text, KEYS.root + text, KEYS.prefix(ExportKey) + text):
        try:
            assert KEYS.path(KEYS.parse(path)) == path
        except InvalidInput:
            continue


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (ClusterKey(ClusterId("alpha")), "/isthmus/fed.example/v1/clusters/alpha"),
        (TokenKey("t1"), "/isthmus/fed.example/v1/tokens/t1"),
        (SessionKey(ClusterId("alpha"), "gw-0"), "/isthmus/fed.example/v1/sessions/alpha/gw-0"),
        (ExportKey(ServiceName("shop", "echo"), ClusterId("alpha")), "/isthmus/fed.example/v1/exports/shop/echo/alpha"),
        (
            EndpointsKey(ServiceName("shop", "echo"), ClusterId("alpha")),
            "/isthmus/fed.example/v1/endpoints/shop/echo/alpha",
        ),
        (TrustKey("root/state"), "/isthmus/fed.example/v1/trust/root/state"),
        (AuditKey(7), "/isthmus/fed.example/v1/audit/0000000000000000007"),
    ],
)
def test_the_layout_stays_what_older_releases_wrote(key: Key, path: str) -> None:
    assert KEYS.path(key) == path


@pytest.mark.parametrize("bad", ["", "a/b", "new\nline"])
def test_a_part_that_would_break_the_path_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput):
        KEYS.path(TokenKey(bad))
    with pytest.raises(InvalidInput):
        Keys.of(bad)


def test_a_key_of_another_federation_is_not_ours() -> None:
    with pytest.raises(InvalidInput, match="not known"):
        KEYS.parse("/isthmus/other.example/v1/clusters/alpha")


def test_the_sessions_of_one_cluster_do_not_include_those_of_a_longer_name() -> None:
    under = KEYS.under(SessionKey, "alpha")
    assert KEYS.path(SessionKey(ClusterId("alpha"), "gw")).startswith(under)
    assert not KEYS.path(SessionKey(ClusterId("alpha2"), "gw")).startswith(under)
