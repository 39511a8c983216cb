"""Join a federation with a one-time token: make the cluster's key here, have its CA signed, write both down.

    1. GET /v1/root   unverified, and nothing is sent; its SHA-256 must be the token's, or all stops here
    2. POST /v1/enrol verified against that root and the name controller.<domain>: token and request go out
    3. the answer is checked like a stranger's: signed by that root, for our key, limited to our trust domain
    4. root.pem, ca.pem, cluster.json are written, cluster.json last: it makes the folder a member

The key is written before it is first used. Killed at any point, the same command can be run again: the controller
answers a used token again as long as the request is for the same key.
"""

import errno
import http.client
import json
import socket
import ssl
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography import x509

from isthmus_core.errors import InvalidInput, IsthmusError, Refused, Unavailable
from isthmus_core.names import Locality
from isthmus_core.spiffe import controller_name, trust_domain_of
from isthmus_gateway.identity import read_authority
from isthmus_gateway.membership import Membership, read_membership, write_membership
from isthmus_kit.files import make_folder, read_file, write_file
from isthmus_kit.pki import (
    JoinToken,
    SigningKey,
    check_authority,
    decode_certificates,
    decode_key,
    encode,
    encode_key,
    fingerprint,
    make_key,
    make_request,
    read_token,
)
from isthmus_kit.tls import client_context

ADMIN_PORT = 15014
_LONGEST_ANSWER = 1 << 20
_NEW_TOKEN = "Make a new token with 'isthmus cluster register'."


class Enrolment(msgspec.Struct, frozen=True):
    """The controller's answer to POST /v1/enrol. `controllers` are the HOST:PORT of the controllers' gRPC."""

    ca_certificate: str
    root_certificates: str
    federation: str
    cluster: str
    domain: str
    controllers: tuple[str, ...]
    locality: str
    network: str = ""


class _Roots(msgspec.Struct, frozen=True):
    """The controller's answer to GET /v1/root."""

    root_certificates: str


class _Problem(msgspec.Struct, frozen=True):
    error: str
    mend: str = ""


def join(token: JoinToken | str, data_dir: Path, *, timeout: float = 10.0) -> Membership:
    """Make the cluster in `token` a member, with its files in `data_dir`; `timeout` in seconds for each controller.

    Safe to repeat. Raises InvalidInput (token or folder cannot be used), Refused (a wrong root, or the controller says
    no) or Unavailable (no controller can be reached).
    """
    parsed = read_token(token) if isinstance(token, str) else token
    present = _present_member(data_dir, parsed)
    if present is not None:
        return present
    if parsed.expired(datetime.now(UTC)):
        clock = f"This machine's clock says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: set it, if that is wrong."
        raise Refused(f"the join token for {parsed.cluster} has expired", f"{_NEW_TOKEN} {clock}")
    make_folder(data_dir)
    key = _own_key(data_dir)
    root, enrolment = _enrol(parsed, make_request(key, f"Isthmus CA {parsed.cluster}"), timeout)
    certificate = _checked(enrolment, parsed, root, key)

    write_file(data_dir / "root.pem", encode(root), 0o644)
    write_file(data_dir / "ca.pem", encode(certificate), 0o644)
    member = Membership(
        id=parsed.cluster,
        federation=enrolment.federation,
        domain=parsed.domain,
        locality=Locality.parse(enrolment.locality),
        network=enrolment.network,
        controllers=enrolment.controllers,
        token=parsed.id,
    )
    write_membership(data_dir, member)
    return member


def _present_member(folder: Path, token: JoinToken) -> Membership | None:
    """The member that this token made already; None when its CA has to be made (anew).

    A cluster that was removed comes back with a new token, and still has the files of its first life here.
    """
    if not (folder / "cluster.json").exists():
        return None
    present = read_membership(folder)
    if (present.id, present.domain) != (token.cluster, token.domain):
        there, here = f"{present.id} of {present.domain}", f"{token.cluster} of {token.domain}"
        raise InvalidInput(
            f"{folder} belongs to the cluster {there}, and the token is for {here}", "Use another data directory."
        )
    mend = "Remove the folder and join with a new token."
    root = decode_certificates(read_file(folder / "root.pem", "the federation's root certificate", mend), "root.pem")[0]
    if fingerprint(root) != token.root_sha256:
        raise InvalidInput(
            f"{folder} belongs to a federation {token.domain} with another root than the token's",
            "Use another data directory.",
        )
    return present if present.token == token.id and _lasts(folder) else None


def _lasts(folder: Path) -> bool:
    """Whether the CA that is there is whole and has more than half of its life left: else joining renews it."""
    now = datetime.now(UTC)
    try:
        certificate = read_authority(folder, now).certificate
    except IsthmusError:
        return False
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now < begins + (ends - begins) / 2


def _own_key(folder: Path) -> SigningKey:
    """The cluster's key: made once, on disk before its first use, readable by this user alone. It never leaves."""
    path = folder / "ca.key"
    if path.exists():
        return decode_key(read_file(path, "the cluster's CA key", "Remove it to make a new one."), f"the key {path}")
    key = make_key()
    write_file(path, encode_key(key))
    return key


def _enrol(token: JoinToken, request: bytes, timeout: float) -> tuple[x509.Certificate, Enrolment]:
    """Ask the token's controllers in turn; only those that cannot be reached are passed over."""
    failures: list[str] = []
    for controller in token.controllers:
        host, port = _parse_address(controller)
        try:
            root = _fetch_root(host, port, token, timeout)
            return root, _post(host, port, token, root, request, timeout)
        except (OSError, http.client.HTTPException, Unavailable) as error:
            failures.append(f"{controller}: {_reason(error)}")
    raise Unavailable(
        f"no controller answers ({'; '.join(failures)})",
        "See that a controller runs and that this machine reaches its address, then run the same command again.",
    )


def _fetch_root(host: str, port: int, token: JoinToken, timeout: float) -> x509.Certificate:
    """The federation's root, from a server that is not trusted yet; the fingerprint in the token decides."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    status, body = _ask(host, port, context, token, timeout, "GET", "/v1/root", None)
    if status != 200:
        raise _error(status, body)
    for root in decode_certificates(_root_pem(body), f"the root that {host}:{port} shows"):
        if fingerprint(root) == token.root_sha256:
            return root
    promised = token.root_sha256[:16]
    raise Refused(
        f"{host}:{port} shows a root that is not the token's (SHA-256 {promised}...), so nothing was sent",
        "Somebody may stand between you and the controller, or the token is of another federation: check both.",
    )


def _root_pem(body: bytes) -> bytes:
    """The roots of the answer: JSON, or PEM as it is."""
    try:
        return msgspec.json.decode(body, type=_Roots).root_certificates.encode()
    except msgspec.MsgspecError:
        return body


def _post(host: str, port: int, token: JoinToken, root: x509.Certificate, request: bytes, timeout: float) -> Enrolment:
    context = client_context(encode(root))
    payload = json.dumps({"token": token.text(), "csr": request.decode()})
    try:
        status, body = _ask(host, port, context, token, timeout, "POST", "/v1/enrol", payload)
    except ssl.SSLCertVerificationError as error:
        raise Refused(
            f"{host}:{port} is no controller of {token.domain}: {error.verify_message}; the token was not sent",
            "Check the address and this machine's clock.",
        ) from error
    if status != 200:
        raise _error(status, body)
    try:
        return msgspec.json.decode(body, type=Enrolment)
    except msgspec.MsgspecError as error:
        raise Refused(
            f"the controller's answer cannot be read: {error}", "Use the same release here and there."
        ) from error


def _checked(enrolment: Enrolment, token: JoinToken, root: x509.Certificate, key: SigningKey) -> x509.Certificate:
    if (enrolment.cluster, enrolment.domain) != (token.cluster, token.domain):
        theirs, ours = f"{enrolment.cluster} of {enrolment.domain}", f"{token.cluster} of {token.domain}"
        raise Refused(f"the controller answered for {theirs}, not for {ours}", _NEW_TOKEN)
    certificate = decode_certificates(enrolment.ca_certificate.encode(), "the CA certificate of the answer")[0]
    domain = trust_domain_of(token.cluster, token.domain)
    check_authority(certificate, root, key.public_key(), domain, datetime.now(UTC))
    return certificate


def _ask(
    host: str,
    port: int,
    context: ssl.SSLContext,
    token: JoinToken,
    timeout: float,
    method: str,
    path: str,
    body: str | None,
) -> tuple[int, bytes]:
    """One request on a connection of its own: (status, body)."""
    name = controller_name(token.domain)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    with closing(connection):
        raw = socket.create_connection((host, port), timeout)
        try:
            # The certificate names the role, not the address, so that controllers can move.
            connection.sock = context.wrap_socket(raw, server_hostname=name)
        except BaseException:
            raw.close()
            raise
        connection.request(method, path, body, {"Content-Type": "application/json", "Host": name})
        answer = connection.getresponse()
        text = answer.read(_LONGEST_ANSWER + 1)
        if len(text) > _LONGEST_ANSWER:
            raise Refused(f"{host}:{port} answers with more than a controller would", "Check the address.")
        return answer.status, text


def _error(status: int, body: bytes) -> IsthmusError:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem(
            f"the controller answered with status {status} and no reason", "Check that the address is a controller's."
        )
    kind = Unavailable if status >= 500 else Refused if status in (401, 403, 404, 409, 410) else InvalidInput
    return kind(problem.error, problem.mend)


def _parse_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text.strip("[]"), ADMIN_PORT
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidInput(f"the token names the controller {text!r}, which is not HOST:PORT", _NEW_TOKEN)
    return host.strip("[]"), int(port)


def _reason(error: Exception) -> str:
    match error:
        case IsthmusError():
            return error.sentence
        case TimeoutError():
            return "no answer in time"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error})"
        case ConnectionRefusedError():
            return "nothing listens there"
        case OSError() if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return "there is no way to that address"
        case OSError():
            return (error.strerror or str(error) or type(error).__name__).lower()
        case _:
            return str(error) or type(error).__name__


__all__ = ["Enrolment", "Membership", "join", "read_token"]
