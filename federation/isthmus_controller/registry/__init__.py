"""The pure registry: what stands in etcd, merged into what every gateway is told."""

from isthmus_controller.registry.records import Session
from isthmus_controller.registry.state import Published, Registry
from isthmus_controller.registry.validation import Rejected, Wish, validate

__all__ = ["Published", "Registry", "Rejected", "Session", "Wish", "validate"]
