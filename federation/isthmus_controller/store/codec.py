"""Turn registry values into bytes and back, with a schema version that newer releases may raise. Pure."""

from typing import Protocol, Self, TypeVar

from google.protobuf.message import DecodeError

from isthmus_core.errors import InvalidInput
from isthmus_sync.codec import SCHEMA


class Stored(Protocol):
    """A message of isthmus.proto that carries its schema version."""

    schema: int

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...  # noqa: N802 - protobuf's names

    def CopyFrom(self, other: Self, /) -> None: ...  # noqa: N802

    def ParseFromString(self, serialized: bytes, /) -> int: ...  # noqa: N802


M = TypeVar("M", bound=Stored)


def encode(message: Stored) -> bytes:
    """The bytes of a message, equal for equal messages; a message without a schema version gets ours."""
    if not message.schema:
        copy = type(message)()
        copy.CopyFrom(message)
        copy.schema = SCHEMA
        message = copy
    return message.SerializeToString(deterministic=True)


def decode(kind: type[M], value: bytes, key: str) -> M:
    """The message in `value`, as this or an older release wrote it; raises InvalidInput that names the key."""
    message = kind()
    try:
        message.ParseFromString(value)
    except DecodeError as error:
        raise InvalidInput(
            f"the registry's {key} does not hold a {kind.__name__}", "Restore it, or delete the key."
        ) from error
    if message.schema > SCHEMA:
        raise InvalidInput(
            f"the registry's {key} was written with schema {message.schema}, but this release reads up to {SCHEMA}",
            "Update this controller.",
        )
    if not message.schema:
        raise InvalidInput(f"the registry's {key} carries no schema version", "Restore it, or delete the key.")
    return message
