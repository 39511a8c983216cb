"""Why a stream ended, in words for people."""

import pytest

from isthmus_sync.reasons import reason_of

CONNECT = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:15010: "


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (CONNECT + "Failed to connect to remote host: Connection refused", "nothing listens there"),
        (
            CONNECT + "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:"
            "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK",
            "its certificate is not of this federation",
        ),
        (CONNECT + "Ssl handshake failed: WRONG_VERSION_NUMBER", "what answers there speaks no TLS"),
        ("Socket closed", "it closed the connection"),
        ("the registry does not answer", "UNAVAILABLE: the registry does not answer"),
    ],
)
def test_what_grpc_says_becomes_a_few_words(details: str, reason: str) -> None:
    assert reason_of("UNAVAILABLE", details) == reason


def test_a_refusal_of_a_controller_stays_as_it_said_it() -> None:
    assert reason_of("PERMISSION_DENIED", "cluster east was revoked") == "PERMISSION_DENIED: cluster east was revoked"
