"""The federation controller: registry, trust service and admin API over one etcd.

Light on purpose: the command line reads the admin API's values from here. Start one with
`isthmus_controller.controller.run_controller`.
"""

# Before anything imports gRPC: it reads once which TLS versions it may speak.
import isthmus_kit.tls13  # noqa: F401
