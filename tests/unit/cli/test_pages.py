"""What goes on being printed can be taken apart again."""

import json

import msgspec
import pytest
import yaml

from isthmus_cli.output import Pages, show


class Seen(msgspec.Struct):
    """What is shown."""

    revision: int


def printed(output: str, capsys: pytest.CaptureFixture[str]) -> str:
    pages = Pages(output)
    for revision in (1, 2):
        pages.turn()
        value = Seen(revision)
        show(value, output, lambda value=value: f"REVISION\n{value.revision}")  # type: ignore[misc]
    return capsys.readouterr().out


def test_yaml_is_a_stream_of_documents(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(yaml.safe_load_all(printed("yaml", capsys))) == [{"revision": 1}, {"revision": 2}]


def test_json_is_one_value_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed("json", capsys)
    first, end = json.JSONDecoder().raw_decode(text)
    assert (first, json.loads(text[end:])) == ({"revision": 1}, {"revision": 2})


def test_tables_in_a_pipe_stand_apart_without_control_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed("table", capsys) == "REVISION\n1\n\nREVISION\n2\n"
