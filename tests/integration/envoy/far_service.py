"""What the tests of the data path share: a service that only the other cluster has, and when it can be called."""

from isthmus_core.model import AppProtocol, CheckKind, HealthCheck
from support.envoy_gateway import Pair, service_of
from support.waiting import eventually

TCP_CHECK = HealthCheck(CheckKind.TCP)
FAR = "gcp/eu-west-4/b"


def publish_far(pair: Pair, name: str, where: tuple[str, int], app: AppProtocol, check: HealthCheck) -> None:
    """A service that only cluster b has."""
    service = service_of(name, [where], app, FAR, check)
    pair.b.export(service)
    pair.a.serve(pair.vip, None, [("b", service)])


async def healthy_at_b(pair: Pair, name: str) -> None:
    await eventually(lambda: any(pair.b.verdict(f"local/{name}.shop.svc.clusterset.local:8080")), 10)
    await pair.a.serving(f"egress/shop/{name}/8080")
