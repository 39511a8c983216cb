"""Real parts and small tools for the tests: processes, etcd, Envoy, addresses, a relay, and waiting with a deadline."""
