"""The sockets that clients send to, over UDP and TCP, and what looks at queries as they pass."""
