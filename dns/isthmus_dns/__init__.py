"""Authoritative DNS for clusterset.local."""
