"""Settings that gateway and controller must judge alike."""

import pytest

from isthmus_controller.registry import Rejected, validate
from isthmus_core.errors import InvalidInput
from isthmus_core.model import Gateway
from isthmus_core.names import ClusterId
from isthmus_gateway.settings import GatewaySettings
from isthmus_sync import GATEWAY, codec

HERE = ClusterId("a")


def settings(gateway_id: str) -> GatewaySettings:
    return GatewaySettings(gateway_id=gateway_id, listen_address="127.51.0.1", data_dir=".", services_dir=".")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gateway_id", "good"),
    [
        *[(id_, True) for id_ in ("g", "gw-1", "0", "a" * 63)],
        *[(id_, False) for id_ in ("", "a/b", "Gw", "host.example", "a_b", "-a", "a-", "a" * 64, "gw 1", "gw\n")],
    ],
)
def test_a_gateway_starts_with_an_id_that_controllers_take_and_no_other(gateway_id: str, good: bool) -> None:
    body = codec.gateway_message(Gateway(gateway_id, HERE, "127.51.0.1", 15443)).SerializeToString()
    assert isinstance(validate(HERE, GATEWAY, gateway_id, body), Rejected) is not good
    if good:
        assert settings(gateway_id).checked().gateway_id == gateway_id
        return
    with pytest.raises(InvalidInput, match="is not a DNS label"):
        settings(gateway_id).checked()
