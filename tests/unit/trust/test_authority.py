"""Making a federation, and signing the CAs of its clusters."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from isthmus_controller.trust import TrustAuthority, init_federation
from isthmus_core.errors import InvalidInput
from isthmus_kit.pki import decode_certificates, fingerprint, make_key, make_request, peer_of_certificate
from isthmus_kit.pki.keys import common_name_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init_federation(tmp_path / "fed", "demo", "fed.example", "jo", now=NOW)
    return tmp_path / "fed"


def first(pem: bytes) -> x509.Certificate:
    return decode_certificates(pem, "it")[0]


def test_a_federation_is_made_once(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InvalidInput, match="already a federation"):
        init_federation(folder, "demo", "fed.example", "jo")
    (folder / "federation.json").unlink()
    with pytest.raises(InvalidInput, match=r"root key but no federation\.json"):
        init_federation(folder, "demo", "fed.example", "jo")
    assert all(path.read_bytes() == content for path, content in before.items() if path.exists())


def test_keys_are_for_their_owner_alone_and_the_root_key_is_encrypted(folder: Path) -> None:
    for path in folder.rglob("*"):
        secret = path.suffix in (".key", ".passphrase")
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600 if secret else 0o644)
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (folder / "root.key").read_bytes()


def test_the_root_and_the_controllers_authority_have_their_shape(folder: Path) -> None:
    root, own = first((folder / "root.pem").read_bytes()), first((folder / "controller-ca.pem").read_bytes())
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 1)
    assert root.not_valid_after_utc - NOW == timedelta(days=3650)
    own.verify_directly_issued_by(root)
    limits = own.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert set(limits.value.permitted_subtrees or ()) == {
        x509.UniformResourceIdentifier("fed.example"),
        x509.DNSName("controller.fed.example"),
    }


def test_the_admin_is_known_as_such_and_can_only_be_a_client(folder: Path) -> None:
    leaf = (folder / "admins" / "jo.pem").read_bytes()
    assert peer_of_certificate(leaf, "fed.example").admin == "jo"
    purposes = first(leaf).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.OID_CLIENT_AUTH]


def test_a_given_passphrase_is_used_and_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_ROOT_PASSPHRASE", "correct horse battery")
    made = init_federation(tmp_path, "demo", "fed.example", "jo")
    assert not made.passphrase_file.exists() and "ISTHMUS_ROOT_PASSPHRASE" in made.notes()[0]
    assert TrustAuthority.load(tmp_path).root_fingerprint == made.root_fingerprint
    monkeypatch.setenv("ISTHMUS_ROOT_PASSPHRASE", "wrong horse battery")
    with pytest.raises(InvalidInput, match="does not open with this passphrase"):
        TrustAuthority.load(tmp_path)
    monkeypatch.delenv("ISTHMUS_ROOT_PASSPHRASE")
    with pytest.raises(InvalidInput, match="passphrase is missing"):
        TrustAuthority.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "domain", "admin", "passphrase", "sentence"),
    [
        ("demo", "fed_1.example", "jo", None, "underscore"),
        ("demo", "fed example", "jo", None, "not a DNS name"),
        ("", "fed.example", "jo", None, "federation name"),
        ("demo", "fed.example", "jo/x", None, "path segment"),
        ("demo", "fed.example", "..", None, "path segment"),
        ("demo", "fed.example", "jo", "short", "too short"),
    ],
)
def test_bad_input_makes_nothing(
    tmp_path: Path, name: str, domain: str, admin: str, passphrase: str | None, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        init_federation(tmp_path / "fed", name, domain, admin, passphrase=passphrase)
    assert not (tmp_path / "fed").exists()


@pytest.mark.parametrize("lost", ["federation.json", "root.pem", "root.key", "root.passphrase", "controller-ca.key"])
def test_a_missing_file_is_named(folder: Path, lost: str) -> None:
    (folder / lost).unlink()
    with pytest.raises(InvalidInput, match=lost):
        TrustAuthority.load(folder)


def test_a_cluster_ca_can_only_speak_for_its_cluster(folder: Path) -> None:
    trust, key = TrustAuthority.load(folder), make_key()
    ca = first(trust.sign_cluster_ca("a", make_request(key, "whatever it asks for"), NOW))
    ca.verify_directly_issued_by(first(trust.root_pem))
    assert ca.public_key() == key.public_key()
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    limits = ca.extensions.get_extension_for_class(x509.NameConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign and not usage.value.digital_signature
    assert limits.critical
    assert set(limits.value.permitted_subtrees or ()) == {
        x509.UniformResourceIdentifier("a.fed.example"),
        x509.DNSName("a.fed.example"),
    }
    names = ca.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://a.fed.example")]
    assert ca.not_valid_after_utc == NOW + timedelta(days=365)


def test_names_in_the_request_are_ignored(folder: Path) -> None:
    key = make_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(common_name_of("controller.fed.example"))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("controller.fed.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=5), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = greedy.public_bytes(serialization.Encoding.PEM)
    ca = TrustAuthority.load(folder).sign_cluster_ca("a", pem, NOW)
    assert b"controller" not in first(ca).public_bytes(serialization.Encoding.DER)
    assert first(ca).extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def request_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(common_name_of("x")).sign(key, digest)
    return request.public_bytes(serialization.Encoding.PEM)


def test_weak_and_unknown_keys_are_refused(folder: Path) -> None:
    trust = TrustAuthority.load(folder)
    weak = rsa.generate_private_key(65537, 1024)
    for key, sentence in (
        (ec.generate_private_key(ec.SECP521R1()), "secp521r1"),
        (weak, "1024 bits"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ):
        with pytest.raises(InvalidInput, match=sentence):
            trust.sign_cluster_ca("a", request_of(key), NOW)
    for good in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        assert trust.sign_cluster_ca("a", request_of(good), NOW)


def test_a_request_without_the_key_is_refused(folder: Path) -> None:
    request = x509.load_pem_x509_csr(make_request(make_key(), "x")).public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(request[:-1] + bytes([request[-1] ^ 1]))
    pem = forged.public_bytes(serialization.Encoding.PEM)
    with pytest.raises(InvalidInput, match="not signed by its own key"):
        TrustAuthority.load(folder).sign_cluster_ca("a", pem, NOW)
    with pytest.raises(InvalidInput, match="cannot be read"):
        TrustAuthority.load(folder).sign_cluster_ca("a", b"nonsense", NOW)


def test_the_controllers_leaf_has_its_shape(folder: Path) -> None:
    trust = TrustAuthority.load(folder)
    identity = trust.issue(NOW)
    leaf, issuer = decode_certificates(identity.chain, "the chain")
    leaf.verify_directly_issued_by(issuer)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://fed.example/controller"]
    assert names.get_values_for_type(x509.DNSName) == ["controller.fed.example"]
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (
        NOW - timedelta(minutes=5),
        NOW + timedelta(hours=1),
    )
    assert identity.roots == trust.root_pem and fingerprint(first(identity.roots)) == trust.root_fingerprint
    assert "PRIVATE" not in repr(identity) and "PRIVATE" not in repr([identity])
