"""Turn the model and its routes into Envoy's resources: pure, deterministic, grouped by what changes together."""

from isthmus_gateway.resources.assignments import (
    build_assignments,
    build_export_assignments,
    build_remote_assignment,
)
from isthmus_gateway.resources.bootstrap import EnvoySettings, build_bootstrap
from isthmus_gateway.resources.encode import Encoded, Resources
from isthmus_gateway.resources.ingress import build_export, build_ingress
from isthmus_gateway.resources.names import TYPES, EnvoyCluster, Side, parse_cluster_name
from isthmus_gateway.resources.remotes import PROBE_TIMEOUT_MS, build_remote
from isthmus_gateway.resources.samples import parse_answers
from isthmus_gateway.resources.secrets import build_identity, build_trust
from isthmus_gateway.resources.services import build_service

__all__ = [
    "PROBE_TIMEOUT_MS",
    "TYPES",
    "Encoded",
    "EnvoyCluster",
    "EnvoySettings",
    "Resources",
    "Side",
    "build_assignments",
    "build_bootstrap",
    "build_export",
    "build_export_assignments",
    "build_identity",
    "build_ingress",
    "build_remote",
    "build_remote_assignment",
    "build_service",
    "build_trust",
    "parse_answers",
    "parse_cluster_name",
]
