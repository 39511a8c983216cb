"""What a gateway is told when it starts."""

import ipaddress
from pathlib import Path

import msgspec

from isthmus_core.errors import InvalidInput
from isthmus_core.names import parse_cluster_id


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one gateway; the command line makes them, `checked` says whether they can be used."""

    data_dir: Path  # what `isthmus cluster join` wrote; sockets, snapshot and Envoy's files come here too
    services_dir: Path  # Service and ServiceExport documents
    gateway_id: str
    listen_address: str = "0.0.0.0"
    listen_port: int = 15443
    advertise_address: str = ""  # "": listen_address
    advertise_port: int = 0  # 0: listen_port
    vip_range: str = "127.80.0.0/16"
    envoy_concurrency: int = 1
    web_address: str = "127.0.0.1"
    web_port: int = 15020
    controllers: tuple[str, ...] = ()  # HOST:PORT; none: those learnt when joining
    stale_after_s: float = 60.0  # without a controller until the zone says that its answers are stale
    drain_s: float = 5.0  # for requests under way when the gateway stops

    def checked(self) -> "GatewaySettings":
        """These settings with the defaults filled in; raises InvalidInput."""
        address = self.advertise_address or self.listen_address
        try:
            literal = ipaddress.ip_address(address)
            ipaddress.ip_address(self.listen_address)
        except ValueError as error:
            raise InvalidInput(f"{error}", "Give an IP address such as 192.0.2.7.") from error
        if literal.is_unspecified:
            raise InvalidInput(
                f"other clusters cannot connect to {address}", "Give the address that they reach with --advertise."
            )
        if not 1 <= self.listen_port <= 65535:
            raise InvalidInput(
                f"the gateway cannot listen on port {self.listen_port}", "Give a number from 1 to 65535, such as 15443."
            )
        try:
            parse_cluster_id(self.gateway_id)  # the same rule: the controllers refuse any other
        except InvalidInput as wrong:
            raise InvalidInput(f"gateway id {self.gateway_id!r} is not a DNS label", wrong.mend) from None
        return msgspec.structs.replace(
            self, advertise_address=str(literal), advertise_port=self.advertise_port or self.listen_port
        )
