"""Product-free building blocks for asynchronous programs: newest values, backoff, readiness, telemetry, TLS.

Import from the modules. This face is empty on purpose: whoever needs one block must not pay for asyncio or OpenSSL.
"""
