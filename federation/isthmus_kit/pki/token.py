"""The text of a join token: one line that a person carries from the controller to a new cluster.

    isthmus-join-v1.<base64url of a JSON object>

It holds a secret: `repr` and `str` of a token never show it, and only `JoinToken.text()` gives it out.
"""

import base64
import binascii
import hashlib
import re
from datetime import datetime

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.names import ClusterId
from isthmus_core.spiffe import parse_domain, parse_member_id

PREFIX = "isthmus-join-v1."
SECRET_BYTES = 32

_LONGEST_TEXT = 8192
_ID = re.compile(r"[0-9a-f]{16}\Z")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
_MEND = "Copy the whole line that 'isthmus cluster register' printed."


class JoinToken(msgspec.Struct, frozen=True):
    """What a token says. `expires_at_ms` is Unix time in milliseconds; `root_sha256` is lower-case hex (DER)."""

    id: str
    secret: bytes
    cluster: ClusterId
    domain: str
    root_sha256: str
    controllers: tuple[str, ...]
    expires_at_ms: int

    def __repr__(self) -> str:
        return f"JoinToken(id={self.id}, cluster={self.cluster}, domain={self.domain})"

    __str__ = __repr__

    def text(self) -> str:
        """The one line that is given to the new cluster. It is a secret."""
        encoded = base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")
        return PREFIX + encoded

    def secret_sha256(self) -> bytes:
        """What the controller stores instead of the secret."""
        return hashlib.sha256(self.secret).digest()

    def expired(self, now: datetime) -> bool:
        """Whether the token's time is over."""
        return now.timestamp() * 1000 >= self.expires_at_ms


def read_token(text: str) -> JoinToken:
    """The token in `text`; raises InvalidInput that never repeats any part of it."""
    line = text.removeprefix("\ufeff").strip()  # some editors put a mark of the byte order first
    if not line:
        raise InvalidInput("the join token is empty", _MEND)
    if not line.startswith(PREFIX):
        if line.startswith("isthmus-join-"):
            raise InvalidInput(
                "the join token is of another version", "Use the same release here and at the controller."
            )
        raise InvalidInput("this is not a join token", f"It begins with {PREFIX} and is one line. {_MEND}")
    body = line[len(PREFIX) :]
    try:
        if len(line) > _LONGEST_TEXT:
            raise ValueError
        # altchars with validate: urlsafe_b64decode skips characters that are not of its alphabet.
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        token = msgspec.json.decode(raw, type=JoinToken)
        well_formed = (
            _ID.match(token.id)
            and len(token.secret) == SECRET_BYTES
            and _FINGERPRINT.match(token.root_sha256)
            and token.controllers
            and parse_domain(token.domain) == token.domain
            and parse_member_id(token.cluster)
        )
    except (ValueError, binascii.Error, InvalidInput):
        # The cause is dropped on purpose: its text could repeat a part of the secret.
        well_formed = None
        token = None
    if token is None or not well_formed:
        raise InvalidInput("the join token is malformed: it was cut or changed on its way", _MEND)
    return token
