"""Product-free building blocks for asynchronous programs: newest values, backoff, readiness, telemetry, TLS."""

from isthmus_kit.backoff import Backoff
from isthmus_kit.latest import Latest
from isthmus_kit.tasks import Owner, PartEnded, own_tasks

__all__ = ["Backoff", "Latest", "Owner", "PartEnded", "own_tasks"]
