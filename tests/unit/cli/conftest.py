"""A hundred calls of the command, each a process of its own, without a hundred times the imports."""

from collections.abc import Iterator

import pytest

from support import command


@pytest.fixture(scope="session", autouse=True)
def warm_command() -> Iterator[None]:
    with command.warm():
        yield
