"""Fixtures of the agent's tests: addresses of their own, and a controller that says what a test wants."""

import pytest

from support.addresses import LoopbackNet, free_port
from support.fake_controller import FakeController


@pytest.fixture
def net(loopback_net: LoopbackNet) -> LoopbackNet:
    return loopback_net


@pytest.fixture
def controller(net: LoopbackNet) -> FakeController:
    address = net.next()
    return FakeController(f"{address}:{free_port(address)}")
