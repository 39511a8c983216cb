"""From a packet to its answer: remembered, looked up by its bytes, or read and answered slowly. Pure."""
