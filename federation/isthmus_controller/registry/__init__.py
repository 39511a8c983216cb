"""The pure registry: what stands in etcd, merged into what every gateway is told."""

from isthmus_controller.registry.records import Kind, Path, Session, Stored, parse_path
from isthmus_controller.registry.state import Change, Published, Registry
from isthmus_controller.registry.validation import Rejected, Write, validate

__all__ = [
    "Change",
    "Kind",
    "Path",
    "Published",
    "Registry",
    "Rejected",
    "Session",
    "Stored",
    "Write",
    "parse_path",
    "validate",
]
