"""Product-free building blocks for asynchronous programs: newest values, backoff, readiness, telemetry, TLS."""
