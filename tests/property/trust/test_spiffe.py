"""SPIFFE ids: what is accepted comes out as it went in, and nobody is taken for somebody else."""

import re

from hypothesis import given
from hypothesis import strategies as st

from isthmus_core.errors import InvalidInput, Refused
from isthmus_core.spiffe import SpiffeId, cluster_of, gateway_id, identify, parse_member_id, trust_domain_of

segments = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True).filter(lambda text: text not in (".", ".."))
trust_domains = st.from_regex(r"[a-z0-9._-]{1,40}", fullmatch=True)
labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True).filter(lambda text: text != "controller")
domains = st.lists(labels, min_size=1, max_size=3).map(".".join)
noise = st.text(st.sampled_from("spiffe:/.-_aA0%?#@ \n\0ä"), max_size=40)
VALID = re.compile(r"(?i:spiffe)://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._-]+)*\Z")


@given(trust_domains, st.lists(segments, max_size=5))
def test_an_id_comes_back_as_it_was(trust_domain: str, path: list[str]) -> None:
    made = SpiffeId.of(trust_domain, *path)
    assert SpiffeId.parse(str(made)) == made


@given(st.one_of(noise, noise.map(lambda text: "spiffe://" + text)))
def test_exactly_what_the_standard_allows_is_accepted(text: str) -> None:
    try:
        SpiffeId.parse(text)
        accepted = True
    except InvalidInput:
        accepted = False
    assert accepted == bool(VALID.match(text))


@given(labels, labels, domains)
def test_a_gateway_is_of_its_own_cluster_and_no_other(one: str, other: str, domain: str) -> None:
    peer = identify(gateway_id(one, domain), domain)
    assert peer.cluster == one == parse_member_id(one)
    assert (cluster_of(trust_domain_of(other, domain), domain) == one) == (one == other)


@given(trust_domains, st.lists(segments, max_size=3), domains)
def test_who_is_a_member_has_a_trust_domain_of_the_federation(trust_domain: str, path: list[str], domain: str) -> None:
    try:
        peer = identify(SpiffeId.of(trust_domain, *path), domain)
    except Refused:
        return
    assert peer.trust_domain == domain or peer.trust_domain.endswith("." + domain)
