"""The gateway of a cluster: what its machines offer and import, told to Envoy, DNS and the federation."""

# Before anything here can import gRPC: its TLS version is decided at its first import.
import isthmus_kit.tls13  # noqa: F401
from isthmus_gateway.settings import GatewaySettings

__all__ = ["GatewaySettings"]
