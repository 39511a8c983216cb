"""The certificates of the etcd beside the controller: for its owner only."""

import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from isthmus_controller.store.local_tls import make_local_tls


def test_every_file_is_for_its_owner_only(tmp_path: Path) -> None:
    make_local_tls(tmp_path / "tls", "127.0.0.1")
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tls").iterdir()} == {0o600}


def test_the_key_of_the_ca_is_not_kept(tmp_path: Path) -> None:
    files = make_local_tls(tmp_path, "127.0.0.1")
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    keys = [serialization.load_pem_private_key(path.read_bytes(), None) for path in tmp_path.glob("*.key")]
    assert len(keys) == 2
    assert ca.public_key() not in [key.public_key() for key in keys]


def test_the_client_certificate_cannot_serve(tmp_path: Path) -> None:
    files = make_local_tls(tmp_path, "127.0.0.1")
    client = x509.load_pem_x509_certificate(files.client_certificate.read_bytes())
    usages = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
