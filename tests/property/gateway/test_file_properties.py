"""Whatever stands in a file, the answer is its content or an error with a place in that file."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from isthmus_core.names import Locality
from isthmus_gateway.sources.documents import FileError
from isthmus_gateway.sources.services import FileContent, parse_file

HERE = Locality("onprem", "berlin", "rack-1")
WORDS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "name",
        "namespace",
        "ports",
        "port",
        "endpoints",
        "address",
        "locality",
        "weight",
        "healthCheck",
        "tcp",
        "None",
        "Service",
        "ServiceExport",
        "isthmus.dev/v1alpha1",
        "http",
        "127.0.0.1",
    ]
)
SCALARS = st.one_of(WORDS, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6), max_leaves=25
)
GOOD = """apiVersion: isthmus.dev/v1alpha1
kind: Service
metadata: {name: echo, namespace: shop}
spec:
  ports: [{name: http, port: 80}]
  endpoints: [{address: 127.0.0.1, locality: aws/eu/a}]
"""


def check(content: bytes) -> None:
    answer: FileContent | FileError
    try:
        answer = parse_file("shop.yaml", content, HERE)
    except FileError as error:
        answer = error
    assert isinstance(answer, FileContent) or (answer.place.file == "shop.yaml" and answer.reason)


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    check(content)


@given(VALUES)
def test_any_document(value: object) -> None:
    check(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace"))


@given(VALUES)
def test_any_spec(spec: object) -> None:
    head = {"apiVersion": "isthmus.dev/v1alpha1", "kind": "Service", "metadata": {"name": "echo"}}
    check(yaml.safe_dump({**head, "spec": spec}).encode("utf-8", "replace"))


@given(st.integers(0, len(GOOD)), st.text(max_size=3), st.integers(0, 3))
def test_any_typing_mistake(at: int, typed: str, deleted: int) -> None:
    check((GOOD[:at] + typed + GOOD[at + deleted :]).encode("utf-8", "replace"))
