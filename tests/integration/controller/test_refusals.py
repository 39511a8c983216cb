"""Certificates that are well signed and none of ours: refused with a sentence, and counted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from integration.controller.world import Admin, FakeGateway, controller, enrol, make_federation, soon
from isthmus_core.names import ClusterId
from isthmus_core.spiffe import gateway_id
from isthmus_gateway.identity import issue_gateway_identity, read_authority
from isthmus_kit.pki import Identity, encode, encode_key, make_key
from support.etcd import Etcd

pytestmark = pytest.mark.anyio


def two_names(folder: Path, domain: str) -> tuple[Path, Path, Identity]:
    """A leaf of the cluster's own CA with two URI names, which TLS stacks take; in files too."""
    now, key = datetime.now(UTC), make_key()
    ca = read_authority(folder, now)
    name = str(gateway_id(ClusterId("a"), domain))
    uris = [x509.UniformResourceIdentifier(uri) for uri in (name, f"{name}/other")]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(uris), critical=True)
        .sign(ca.key, hashes.SHA256())
    )
    good = issue_gateway_identity(folder, now)
    forged = msgspec.structs.replace(good, chain=encode(leaf, ca.certificate), key=encode_key(key))
    certificate, private = folder / "two.crt", folder / "two.key"
    certificate.write_bytes(forged.chain)
    private.write_bytes(forged.key)
    return certificate, private, forged


async def test_a_certificate_with_two_names_is_refused_at_both_doors_and_counted(
    etcd: Etcd, federation_name: str, tmp_path: Path
) -> None:
    federation = make_federation(tmp_path / "controller", federation_name)
    async with controller(federation, etcd.address) as replica:
        await enrol(federation, replica.admin, "a", tmp_path / "a")
        certificate, key, forged = two_names(tmp_path / "a", federation.domain)
        admin = Admin(federation, replica.admin)
        assert 'isthmus_identities_refused_total{listener="grpc"} 0.0' in (await admin.ask("GET", "/metrics"))[1]
        async with FakeGateway(ClusterId("a"), federation.domain, forged, [replica.grpc]).running() as gateway:
            await soon(lambda: gateway.ended)
            assert "has 2 URI names and not exactly one" in gateway.ended[0]
        status, answer = await Admin(federation, replica.admin, (certificate, key)).ask("GET", "/v1/clusters")
        assert status == 403 and "2 URI names" in answer["error"]
        metrics = (await admin.ask("GET", "/metrics"))[1]
        assert 'isthmus_identities_refused_total{listener="admin"} 1.0' in metrics
        assert 'isthmus_identities_refused_total{listener="grpc"} 0.0' not in metrics
