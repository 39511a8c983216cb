"""Certificates that nothing renews by itself are named a month before they end."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from isthmus_cli.commands.doctor import _certificate
from isthmus_controller.trust import TrustAuthority, init_federation
from isthmus_gateway.identity import JOIN_AGAIN
from isthmus_kit.expiry import ExpiryWatch
from isthmus_kit.pki import (
    Authority,
    Identity,
    Subject,
    decode_certificates,
    encode,
    issue_identity,
    make_key,
    make_request,
)
from isthmus_kit.pki.expiry import ROOT_MEND, ending, lasting_of
from isthmus_kit.readiness import Readiness

DAY = timedelta(days=1)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def gateway(folder: Path, lifetime: timedelta) -> Identity:
    """The identity of a gateway whose cluster's CA has so long to live, in a federation made now."""
    init_federation(folder, "test", "fed.example", "jo", now=NOW)
    trust, key = TrustAuthority.load(folder), make_key()
    pem = trust.sign_cluster_ca("west", make_request(key, "west"), now=NOW, lifetime=lifetime)
    ca = Authority(decode_certificates(pem, "the CA")[0], key)
    subject = Subject("Isthmus gateway", "spiffe://west.fed.example/gateway", ("gateway.west.fed.example",))
    return issue_identity(ca, trust.root_pem, subject, NOW, timedelta(hours=1))


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (334 * DAY, ""),
        (335 * DAY, "the CA of cluster west expires on 2031-01-01, in 30 days. "),
        (363 * DAY, "the CA of cluster west expires on 2031-01-01, in 2 days. "),
        (364 * DAY, "the CA of cluster west expires on 2031-01-01, tomorrow. "),
        (364.5 * DAY, "the CA of cluster west expires on 2031-01-01, within a day. "),
        (365 * DAY, "the CA of cluster west expired on 2031-01-01. "),
    ],
)
def test_a_cluster_hears_a_month_before_that_it_has_to_join_again(tmp_path: Path, age: timedelta, said: str) -> None:
    lasting = lasting_of(gateway(tmp_path, 365 * DAY), "the CA of cluster west", JOIN_AGAIN)
    assert ending(lasting, NOW + age) == (said + JOIN_AGAIN if said else "")


def test_a_root_that_ends_is_named_beside_the_authority_below_it(tmp_path: Path) -> None:
    lasting = lasting_of(gateway(tmp_path, 5 * 3650 * DAY), "the CA of cluster west", JOIN_AGAIN)
    assert lasting[0].ends == lasting[1].ends, "no authority outlives its root"
    authority, _, root = ending(lasting, NOW + 3630 * DAY).partition("; ")
    assert authority.startswith("the CA of cluster west expires on 2039-12-30, in 20 days")
    assert root == f"the federation's root expires on 2039-12-30, in 20 days. {ROOT_MEND}"


def test_readiness_the_log_and_the_metrics_tell_it_and_take_it_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    readiness, registry, now = Readiness(), CollectorRegistry(), NOW
    watch = ExpiryWatch(readiness, registry, "the CA of cluster west", JOIN_AGAIN, lambda: now)
    short, long = gateway(tmp_path / "a", 9 * DAY), gateway(tmp_path / "b", 365 * DAY)
    for _ in range(2):
        watch.look(short)
    assert readiness.warnings() == {
        "certificates": f"the CA of cluster west expires on 2030-01-10, in 9 days. {JOIN_AGAIN}"
    }
    assert readiness.ready, "it is well until then"
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "a certificate ends soon"
    ]
    name = "isthmus_certificate_expiry_timestamp_seconds"
    assert registry.get_sample_value(name, {"certificate": "authority"}) == (NOW + 9 * DAY).timestamp()
    assert registry.get_sample_value(name, {"certificate": "root"}) == (NOW + 3650 * DAY).timestamp()
    now = NOW + DAY
    watch.look(short)
    assert "in 8 days" in readiness.warnings()["certificates"]
    watch.look(long)
    assert not readiness.warnings()


@pytest.mark.parametrize(("days", "result"), [(31, "ok"), (29, "warning"), (-1, "failed")])
def test_doctor_warns_a_month_before(tmp_path: Path, days: int, result: str) -> None:
    made = init_federation(tmp_path / "f", "test", "fed.example", "jo", now=datetime.now(UTC) + (days - 3650) * DAY)
    path = tmp_path / "root.pem"
    path.write_bytes(encode(decode_certificates(made.root_certificate.read_bytes(), "the root")[0]))
    found = _certificate("root certificate", path, ROOT_MEND)
    assert found.result == result
    assert (found.mend == ROOT_MEND) is (result != "ok")
