"""Python's TLS (the admin API, joining): who gets in, who does not, and how leaves are replaced."""

import ssl
from datetime import timedelta

import pytest

from integration.trust.world import DOMAIN, World, attacks
from isthmus_core.errors import Refused
from isthmus_core.spiffe import Role, controller_name, gateway_name
from isthmus_kit.pki import Identity
from isthmus_kit.tls import ClientCertificates, client_context, peer_of_tls, replace_identity, server_context

WORLD = World()
ATTACKS = attacks(WORLD)


class Handshake:
    """A client and a server in memory: their bytes are moved by hand, nothing else happens."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(to_server, to_client, server_side=True)
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name)

    def run(self) -> "Handshake":
        for _ in range(4):
            for side in (self.client, self.server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        # A TLS 1.3 client is done before the server has judged its certificate.
        self.server.do_handshake()
        return self


def serving(identity: Identity, clients: ClientCertificates = ClientCertificates.REQUIRED) -> ssl.SSLContext:
    return server_context(identity, clients)


def test_a_gateway_reaches_the_controller_and_both_know_each_other() -> None:
    shaken = Handshake(
        serving(WORLD.controller()), client_context(WORLD.roots, WORLD.gateway("a")), controller_name(DOMAIN)
    ).run()
    assert shaken.client.version() == "TLSv1.3"
    caller = peer_of_tls(shaken.server, DOMAIN)
    assert caller and (caller.role, caller.cluster) == (Role.GATEWAY, "a")
    callee = peer_of_tls(shaken.client, DOMAIN)
    assert callee and callee.role is Role.CONTROLLER


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_server_refuses(attack: str) -> None:
    client = client_context(WORLD.roots, ATTACKS[attack])
    with pytest.raises(ssl.SSLCertVerificationError):
        Handshake(serving(WORLD.controller()), client, controller_name(DOMAIN)).run()


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_client_refuses(attack: str) -> None:
    name = controller_name(DOMAIN) if "controller" in attack else gateway_name("b", DOMAIN)
    with pytest.raises(ssl.SSLCertVerificationError):
        Handshake(serving(ATTACKS[attack]), client_context(WORLD.roots, WORLD.gateway("a")), name).run()


def test_a_certificate_for_an_address_is_refused_under_a_stolen_cluster_ca() -> None:
    import ipaddress

    from cryptography import x509

    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    forged = WORLD.forge(WORLD.cas["a"], ["spiffe://a.fed.test/gateway"], extra=[address])
    with pytest.raises(ssl.SSLCertVerificationError):
        Handshake(serving(forged), client_context(WORLD.roots, WORLD.gateway("b")), "127.0.0.1").run()


def test_two_uris_pass_the_tls_stack_and_are_refused_by_us() -> None:
    two = WORLD.forge(WORLD.cas["a"], ["spiffe://a.fed.test/gateway", "spiffe://a.fed.test/other"])
    shaken = Handshake(serving(WORLD.controller()), client_context(WORLD.roots, two), controller_name(DOMAIN)).run()
    with pytest.raises(Refused, match="2 URI names"):
        peer_of_tls(shaken.server, DOMAIN)


def test_a_member_with_an_unknown_path_is_nobody() -> None:
    odd = WORLD.forge(WORLD.cas["a"], ["spiffe://a.fed.test/workload"])
    shaken = Handshake(serving(WORLD.controller()), client_context(WORLD.roots, odd), controller_name(DOMAIN)).run()
    with pytest.raises(Refused, match="no member"):
        peer_of_tls(shaken.server, DOMAIN)


def test_tls_1_2_is_refused() -> None:
    old = client_context(WORLD.roots, WORLD.gateway("a"))
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        Handshake(serving(WORLD.controller()), old, controller_name(DOMAIN)).run()


def test_without_a_certificate_only_optional_lets_in() -> None:
    anonymous = client_context(WORLD.roots)
    shaken = Handshake(
        serving(WORLD.controller(), ClientCertificates.OPTIONAL), anonymous, controller_name(DOMAIN)
    ).run()
    assert peer_of_tls(shaken.server, DOMAIN) is None
    with pytest.raises(ssl.SSLError):
        Handshake(serving(WORLD.controller()), anonymous, controller_name(DOMAIN)).run()


def test_a_replaced_leaf_is_shown_in_the_next_handshake() -> None:
    first, second = WORLD.controller(), WORLD.controller()
    context, client = serving(first), client_context(WORLD.roots, WORLD.gateway("a"))

    def shown() -> bytes | None:
        return Handshake(context, client, controller_name(DOMAIN)).run().client.getpeercert(binary_form=True)

    before = shown()
    replace_identity(context, second)
    assert shown() not in (before, None)


def test_a_leaf_of_a_clock_that_is_five_minutes_ahead_is_accepted() -> None:
    ahead = WORLD.gateway("a", WORLD.now + timedelta(minutes=4))
    shaken = Handshake(serving(WORLD.controller()), client_context(WORLD.roots, ahead), controller_name(DOMAIN)).run()
    assert peer_of_tls(shaken.server, DOMAIN)
