"""Virtual time: an hour's sleep costs nothing. A test module takes it with

@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL_TIME
"""

import looptime

VIRTUAL_TIME: tuple[str, dict[str, object]] = ("asyncio", {"loop_factory": looptime.new_event_loop})
