"""Take TLS 1.2 away from gRPC; import this before gRPC, as the first thing of a process.

gRPC's Python face has no setting for the least TLS version, and its servers take 1.2. BoringSSL always offers its 1.3
suites, so the list of 1.2 suites is narrowed to one that needs a pre-shared key, which no peer here has: a handshake of
1.2 finds no common suite. gRPC reads the variable once, when it is imported; `isthmus_kit.tls` refuses to serve when
that was too early.
"""

import os
import sys

_VARIABLE = "GRPC_SSL_CIPHER_SUITES"
_NEEDS_A_SHARED_KEY = "ECDHE-PSK-CHACHA20-POLY1305"

IN_FORCE: bool = os.environ.get(_VARIABLE) == _NEEDS_A_SHARED_KEY or "grpc" not in sys.modules
"""Whether gRPC was or will be imported with the variable set."""

os.environ[_VARIABLE] = _NEEDS_A_SHARED_KEY
