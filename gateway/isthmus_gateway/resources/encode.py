"""The resources of one Envoy as bytes, by type and name; equal input gives equal bytes."""

from collections.abc import Iterator, Mapping
from typing import Self

import msgspec
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from isthmus_gateway.resources.names import CLUSTER, ENDPOINT, LISTENER, SECRET

Encoded = Mapping[str, bytes]
"""Serialised messages by resource name."""


class Resources(msgspec.Struct, frozen=True):
    """Serialised resources by type; groups are joined with `|` (the right one wins)."""

    clusters: Encoded = {}
    endpoints: Encoded = {}
    secrets: Encoded = {}
    listeners: Encoded = {}

    def by_type(self) -> Iterator[tuple[str, Encoded]]:
        """Type URL and resources, in the order in which additions are safe."""
        yield CLUSTER, self.clusters
        yield ENDPOINT, self.endpoints
        yield SECRET, self.secrets
        yield LISTENER, self.listeners

    def __or__(self, other: Self) -> "Resources":
        return Resources(
            clusters={**self.clusters, **other.clusters},
            endpoints={**self.endpoints, **other.endpoints},
            secrets={**self.secrets, **other.secrets},
            listeners={**self.listeners, **other.listeners},
        )


def encoded(message: Message) -> bytes:
    """The message's bytes, maps sorted: an unchanged resource must compare equal to be skipped on the wire."""
    return message.SerializeToString(deterministic=True)


def packed(message: Message) -> Any:
    """The message inside an Any."""
    wrapped = Any()
    wrapped.Pack(message, deterministic=True)
    return wrapped


def extension(name: str, message: Message) -> TypedExtensionConfig:
    """A named extension with its configuration."""
    return TypedExtensionConfig(name=name, typed_config=packed(message))


def milliseconds(value: int) -> Duration:
    """A duration of whole milliseconds."""
    return Duration(seconds=value // 1000, nanos=value % 1000 * 1_000_000)


def number(value: int) -> UInt32Value:
    """An optional number that is present, zero included."""
    return UInt32Value(value=value)


def yes() -> BoolValue:
    """An optional flag that is present and true."""
    return BoolValue(value=True)


def no() -> BoolValue:
    """An optional flag that is present and false."""
    return BoolValue(value=False)


def ads() -> ConfigSource:
    """Ask for it on the one aggregated stream to the agent."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
