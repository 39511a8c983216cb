"""The sync protocol, delta xDS at every hop: pure machines and thin gRPC shells."""
