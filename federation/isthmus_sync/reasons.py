"""Say in a few words why a gRPC stream ended, in place of gRPC's own chain of causes."""

_WORDS = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not of this federation"),
    ("CERTIFICATE_EXPIRED", "a certificate has expired; compare the clocks"),
    ("WRONG_VERSION_NUMBER", "what answers there speaks no TLS"),
    ("handshake", "the TLS handshake failed: it is no controller, or it does not know our certificate"),
    ("Connection refused", "nothing listens there"),
    ("No such file or directory", "nothing listens there"),
    ("No route to host", "there is no way to that address"),
    ("Network is unreachable", "there is no way to that address"),
    ("DNS resolution failed", "its name cannot be resolved"),
    ("Cancelling all calls", "it is stopping"),
    ("Socket closed", "it closed the connection"),
    ("Connection reset", "it closed the connection"),
    ("Broken pipe", "it closed the connection"),
)


def reason_of(code: str, details: str) -> str:
    """Why a call ended with this status; what a server of ours said stays as it is."""
    if code == "UNAVAILABLE":
        for words, reason in _WORDS:
            if words.lower() in details.lower():
                return reason
    return f"{code}: {details}"
