"""The trust service: the federation's root, the CAs of its clusters, join tokens and the controller's own identity."""

from isthmus_controller.trust.authority import TrustAuthority, certificate_fingerprint
from isthmus_controller.trust.federation import Federation, NewFederation, init_federation
from isthmus_controller.trust.tokens import check_token, consume_token, enrolled_key, issue_token, token_id

__all__ = [
    "Federation",
    "NewFederation",
    "TrustAuthority",
    "certificate_fingerprint",
    "check_token",
    "consume_token",
    "enrolled_key",
    "init_federation",
    "issue_token",
    "token_id",
]
