"""The messages of the sync protocol, generated from isthmus.proto."""
