"""The public face of isthmus_sync: everything is there, and nothing is imported before it is asked for."""

import subprocess
import sys

import isthmus_sync


def test_every_public_name_is_there_and_no_other() -> None:
    assert list(isthmus_sync.__all__) == sorted(
        isthmus_sync.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name)
    )
    for name in isthmus_sync.__all__:
        assert getattr(isthmus_sync, name) is not None
    assert not hasattr(isthmus_sync, "nonsense")


def test_messages_and_machines_are_there_without_grpc() -> None:
    program = (
        "import isthmus_sync.subscribing, isthmus_sync.proto.isthmus_pb2, sys;"
        "from isthmus_sync import SubscriberStream, ZONE_SERVICE;"
        "sys.exit('grpc' in sys.modules or 'envoy.config.cluster.v3.cluster_pb2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
