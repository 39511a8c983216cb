"""The inputs that fuzzing kept, and those that once broke something, are replayed against the rules they are for."""

from pathlib import Path

import pytest

from property.nameserver.rules import RULES

CORPUS = Path(__file__).parents[2] / "corpus"
MOST_BYTES = 300_000


def inputs(rule: str) -> list[tuple[str, bytes]]:
    """All inputs of a rule with the place that each stands at."""
    return [
        (f"{file.name}:{number}", bytes.fromhex(line))
        for file in (CORPUS / f"{rule}.hex", CORPUS / f"{rule}-found.hex")
        if file.exists()
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if line and not line.startswith("#")
    ]


@pytest.mark.parametrize("rule", RULES)
def test_no_input_of_the_corpus_breaks_its_rule(rule: str) -> None:
    kept = inputs(rule)
    assert kept, f"{rule} has no corpus: run `make fuzz KEEP=1 ONLY={rule}`"
    broken = []
    for place, octets in kept:
        try:
            RULES[rule](octets)
        except Exception as error:  # noqa: BLE001 - whatever it is, the place tells which input to try alone
            broken.append(f"{place}: {type(error).__name__}: {error}")
    assert not broken, "\n".join(broken)


def test_the_corpus_is_small_and_every_file_has_its_rule() -> None:
    files = [file for file in CORPUS.iterdir() if file.suffix == ".hex"]

    assert {file.stem.removesuffix("-found") for file in files} == set(RULES)
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
