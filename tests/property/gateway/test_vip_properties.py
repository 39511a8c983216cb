"""Whatever imports come and go: nobody shares an address, and nobody who stays gets another one."""

from hypothesis import given
from hypothesis import strategies as st

from isthmus_core.names import ServiceName
from isthmus_gateway.vips import allocate, parse_range

POOL = parse_range("127.80.0.0/28")
SERVICES = st.sampled_from([ServiceName("shop", f"s{number}") for number in range(100)])


@given(st.lists(st.frozensets(SERVICES, max_size=20), max_size=12))
def test_addresses_are_stable_unique_and_inside_the_range(steps: list[frozenset[ServiceName]]) -> None:
    assigned: dict[ServiceName, str] = {}
    present: frozenset[ServiceName] = frozenset()
    for wanted in steps:
        result = allocate(wanted, assigned, POOL)
        for name in wanted & present & assigned.keys():
            assert result.assigned[name] == assigned[name]
        assert len(set(result.assigned.values())) == len(result.assigned)
        assert all(int(a.rpartition(".")[2]) in range(1, 15) for a in result.assigned.values())
        assert set(result.exhausted) == wanted - result.assigned.keys()
        assert len(result.exhausted) == max(0, len(wanted) - 14)
        assigned, present = dict(result.assigned), wanted
