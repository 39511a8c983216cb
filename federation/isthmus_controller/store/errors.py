"""Turn what etcd and gRPC report into one sentence each, and say whether a write may have happened.

Unavailable
├── OutcomeUnknown  the write may or may not have been applied: read before you repeat it
├── Compacted       the wished revision is gone: read again and compare
├── Untrusted       TLS does not work: no member of etcd trusts us, or we trust none
├── WrongCluster    another (a restored?) etcd answers under the same address
├── LeaseLost       the lease ran out or was revoked: everything attached to it is gone
└── Fenced          the election was lost: somebody else leads
"""

import grpc

from isthmus_core.errors import InvalidInput, IsthmusError, Refused, Unavailable


class OutcomeUnknown(Unavailable):
    """A write whose answer got lost: it may or may not have been applied."""


class Compacted(Unavailable):
    """A revision that etcd no longer has; `compact_revision` is the oldest one it still knows (0: not told)."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__("etcd has compacted the revision that was asked for")
        self.compact_revision = compact_revision


class WrongCluster(Unavailable):
    """The etcd that answers is not the one that was there before."""

    def __init__(self, address: str, expected: int, found: int) -> None:
        super().__init__(
            f"etcd at {address} belongs to cluster {found:x}, but this process has worked with cluster {expected:x}",
            "Point it at the right etcd; if the registry was restored on purpose, restart this process.",
        )
        self.expected = expected
        self.found = found


class Untrusted(Unavailable):
    """Certificates that do not fit, or no TLS at the other end; a person has to mend it."""


class LeaseLost(Unavailable):
    """A lease that ran out or was revoked."""


class Fenced(Unavailable):
    """A write that was refused because its writer no longer leads."""


_MENDS = {
    "invalid user ID or password": "Check the user and the password for etcd.",
    "user name is empty": "Give the user and the password for etcd: it has authentication enabled.",
    "permission denied": "Grant the user a role that may read and write below /isthmus/.",
    "too large": "The value does not fit into one etcd request (1.5 MiB).",
    "too many operations": "Lower the number of operations, or raise --max-txn-ops of etcd.",
}
_EXPIRED = ("invalid auth token", "revision of auth store is old")
_NO_SPACE = "etcd has no space left (its quota is reached) and refuses writes"
_NO_SPACE_MEND = "Compact and defragment etcd or raise --quota-backend-bytes, then run 'etcdctl alarm disarm'."


def token_expired(error: grpc.aio.AioRpcError) -> bool:
    """Whether a fresh authentication is all that is needed; the request was not carried out."""
    return any(words in (error.details() or "") for words in _EXPIRED)


def never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Whether the request certainly had no effect, so that even a write may go to another address."""
    details = error.details() or ""
    return "failed to connect" in details or "etcdserver: no leader" in details or "not capable" in details


def worth_another_address(error: grpc.aio.AioRpcError) -> bool:
    """Whether another member could answer what this one did not."""
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def translate(error: grpc.aio.AioRpcError, address: str, *, write: bool) -> IsthmusError:
    """The error of our own tree that stands for `error`."""
    details = (error.details() or "").removeprefix("etcdserver: ")
    code = error.code()
    if "required revision has been compacted" in details:
        return Compacted(0)
    if "database space exceeded" in details:
        return Unavailable(_NO_SPACE, _NO_SPACE_MEND)
    if "requested lease not found" in details:
        return LeaseLost("the lease is not known to etcd: it ran out or was revoked")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return Refused(f"etcd at {address} refuses: {details}", _MENDS["permission denied"])
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE):
        mend = next((mend for words, mend in _MENDS.items() if words in details), "")
        return InvalidInput(f"etcd at {address} refuses the request: {details}", mend)
    sentence, mend = _untrusted(details, address)
    if sentence and (not write or never_sent(error)):
        return Untrusted(sentence, mend)
    if not sentence:
        sentence, mend = _unreachable(details, address, code), ""
    if write and not never_sent(error):
        return OutcomeUnknown(f"{sentence}; the write may or may not have been applied", mend)
    return Unavailable(sentence, mend)


def _untrusted(details: str, address: str) -> tuple[str, str]:
    lower = details.lower()
    # For a wrong name gRPC says "Hostname Verification Check failed", and in older releases "Peer name ... is not in".
    if any(words in lower for words in ("certificate_verify_failed", "peer name", "hostname verification")):
        return (
            f"the certificate of etcd at {address} is not trusted",
            "Check the CA file for etcd, and that etcd's certificate carries the host name or address in use.",
        )
    # "Unwrap failed (TSI_DATA_CORRUPTED)": with TLS 1.3 a server refuses a certificate after the handshake.
    if any(word in lower for word in ("handshake failed", "unwrap failed", "wrong version number", "tls", "ssl")):
        return (
            f"no TLS connection with etcd at {address} could be made",
            "Check that etcd serves https there, and that it trusts this process's client certificate.",
        )
    return "", ""


def _unreachable(details: str, address: str, code: grpc.StatusCode) -> str:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"etcd at {address} does not answer in time"
    return f"etcd at {address} cannot be reached ({_short(details)})"


def _short(details: str) -> str:
    return details.rsplit("last error: ", 1)[-1][:200] or "no reason given"
