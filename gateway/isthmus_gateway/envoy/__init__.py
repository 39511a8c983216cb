"""Run the Envoy of a gateway: start or adopt it, follow its verdicts, ask it, end it."""

from isthmus_gateway.envoy.admin import Admin, Verdict
from isthmus_gateway.envoy.answers import answers_handler
from isthmus_gateway.envoy.files import EnvoyFiles, find_envoy
from isthmus_gateway.envoy.health import HealthLog
from isthmus_gateway.envoy.process import EnvoyProcess, EnvoyState
from isthmus_gateway.envoy.refusals import IngressRefusals

__all__ = [
    "Admin",
    "EnvoyFiles",
    "EnvoyProcess",
    "EnvoyState",
    "HealthLog",
    "IngressRefusals",
    "Verdict",
    "answers_handler",
    "find_envoy",
]
