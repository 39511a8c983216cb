"""Rules for text that people carry: join tokens and service files."""

import base64

from isthmus_core.errors import InvalidInput
from isthmus_core.names import Locality
from isthmus_gateway.sources.documents import FileError
from isthmus_gateway.sources.services import FileContent, parse_file
from isthmus_kit.pki import JoinToken, read_token

HERE = Locality("onprem", "berlin", "rack-1")


def token(data: bytes) -> None:
    """A join token: read, or refused in a sentence that repeats no part of it."""
    choice, body = data[0] if data else 0, data[1:]
    text = body.decode("utf-8", "replace")
    if choice & 1:  # past the base64, which hides the structure from the fuzzer
        text = "isthmus-join-v1." + base64.urlsafe_b64encode(body).decode().rstrip("=")
    answer: JoinToken | InvalidInput
    try:
        answer = read_token(text)
    except InvalidInput as refusal:
        answer = refusal
    if isinstance(answer, InvalidInput):
        secret = text.removeprefix("isthmus-join-v1.")
        assert len(secret) < 24 or secret[:24] not in str(answer)
    else:
        assert read_token(answer.text()) == answer
        assert answer.text() not in repr(answer)


def document(data: bytes) -> None:
    """A service file: its content, or an error with a place in the file and a sentence."""
    answer: FileContent | FileError
    try:
        answer = parse_file("shop.yaml", data[1:], HERE)
    except FileError as error:
        answer = error
    if isinstance(answer, FileError):
        assert answer.place.file == "shop.yaml"
        assert answer.reason
        assert "\n" not in str(answer)
