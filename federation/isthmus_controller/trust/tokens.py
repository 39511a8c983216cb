"""Issue and judge join tokens; pure, so that the registry can call it inside a transaction.

The record at rest holds the SHA-256 of the secret. When the token is used, the fingerprint of the enrolled key is put
behind it: a joiner that was killed before it got the answer may ask again with the same key, and nobody else may.
"""

import hmac
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from isthmus_core.errors import InvalidInput, Refused
from isthmus_core.names import Locality
from isthmus_core.spiffe import parse_domain, parse_member_id
from isthmus_kit.pki import JoinToken, key_fingerprint, open_request, read_token
from isthmus_kit.pki.token import SECRET_BYTES
from isthmus_sync.proto import isthmus_pb2 as pb

SCHEMA = 1
SHORTEST_TTL = timedelta(seconds=1)
LONGEST_TTL = timedelta(days=1)

_DIGEST_BYTES = 32
_AGAIN = "Make a new one with 'isthmus cluster register'."


def issue_token(
    cluster_id: str,
    locality: Locality,
    network: str,
    ttl: timedelta,
    root_fingerprint: str,
    controllers: Sequence[str],
    now: datetime,
    entropy: Callable[[int], bytes],
    domain: str,
) -> tuple[str, pb.JoinToken]:
    """(the line for the new cluster, the record to store). `entropy(n)` gives n random bytes (`os.urandom`).

    `controllers` are the HOST:PORT of the admin API as the new cluster reaches them. Raises InvalidInput.
    """
    cluster = parse_member_id(cluster_id)
    if not SHORTEST_TTL <= ttl <= LONGEST_TTL:
        raise InvalidInput(f"a token cannot live {ttl}", "Choose between one second and 24 hours.")
    if not controllers:
        raise InvalidInput(
            "a token needs the address of a controller", "Start the controller with --advertise HOST:PORT."
        )
    token = JoinToken(
        id=entropy(8).hex(),
        secret=entropy(SECRET_BYTES),
        cluster=cluster,
        domain=parse_domain(domain),
        root_sha256=root_fingerprint,
        controllers=tuple(controllers),
        expires_at_ms=round((now + ttl).timestamp() * 1000),
    )
    record = pb.JoinToken(
        schema=SCHEMA,
        id=token.id,
        cluster=cluster,
        secret_sha256=token.secret_sha256(),
        expires_at_ms=token.expires_at_ms,
        locality=pb.Locality(provider=locality.provider, region=locality.region, zone=locality.zone),
        network=network,
    )
    return token.text(), record


def token_id(text: str) -> str:
    """The id under which the record of a token is stored; raises InvalidInput when the text is malformed."""
    return read_token(text).id


def check_token(text: str, record: pb.JoinToken | None, now: datetime, csr_pem: bytes | None = None) -> JoinToken:
    """The token, when it may be used now; raises InvalidInput (malformed) or Refused with one sentence and the mend.

    `record` is what is stored under `token_id(text)`, or None. `csr_pem` is the joiner's request: with it, a token that
    was used by the same key is good again until it expires.
    """
    token = read_token(text)
    if record is None:
        # Expired records are cleaned away: the token's own time tells which of the two it was.
        if token.expired(now):
            raise _expired(token)
        raise Refused(
            f"the join token for {token.cluster} is not known: it was used, taken back or is of another federation",
            _AGAIN,
        )
    if not hmac.compare_digest(token.secret_sha256(), record.secret_sha256[:_DIGEST_BYTES]):
        raise Refused(f"the join token for {token.cluster} is not the one that was issued", _AGAIN)
    if token.cluster != record.cluster:
        raise Refused(f"the join token is for the cluster {record.cluster}, not for {token.cluster}", _AGAIN)
    if now.timestamp() * 1000 >= record.expires_at_ms:
        raise _expired(token)
    if (enrolled := enrolled_key(record)) and (csr_pem is None or enrolled != key_fingerprint(open_request(csr_pem))):
        raise Refused(f"the join token for {token.cluster} was used already", _AGAIN)
    return token


def consume_token(record: pb.JoinToken, csr_pem: bytes) -> pb.JoinToken:
    """The record to store in the transaction that registers the cluster: used, by the key of this request."""
    used = pb.JoinToken()
    used.CopyFrom(record)
    used.secret_sha256 = record.secret_sha256[:_DIGEST_BYTES] + key_fingerprint(open_request(csr_pem))
    return used


def enrolled_key(record: pb.JoinToken) -> bytes:
    """The fingerprint of the key that used the token; empty when nobody did yet."""
    return record.secret_sha256[_DIGEST_BYTES:]


def _expired(token: JoinToken) -> Refused:
    return Refused(f"the join token for {token.cluster} has expired", _AGAIN)
