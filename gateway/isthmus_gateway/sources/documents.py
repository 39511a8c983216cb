"""Read YAML text into nodes that remember their line and column, within limits that no file can talk its way out of.

The nodes are built from the parser's events, not with PyYAML's composer: so depth, size and aliases are counted before
they cost anything, a field that appears twice is seen, and every error can say where it is.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
import yaml

from isthmus_core.errors import InvalidInput

T = TypeVar("T")

MAX_BYTES = 8 * 1024 * 1024
MAX_NODES = 1_000_000
MAX_DEPTH = 32


class Place(msgspec.Struct, frozen=True, order=True):
    """A position in a file, line and column counted from 1; line 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class FileError(InvalidInput):
    """Something in a file that cannot be used: where it is, what is wrong, how to mend it."""

    def __init__(self, place: Place, sentence: str, mend: str = "") -> None:
        super().__init__(f"{place}: {sentence}", mend)
        self.place = place
        self.reason = sentence


class Text(msgspec.Struct, frozen=True):
    """A scalar. `plain` means that it was written without quotes, so that `null` and `~` mean nothing."""

    place: Place
    text: str
    plain: bool

    @property
    def empty(self) -> bool:
        """Whether YAML reads it as null."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


class Items(msgspec.Struct, frozen=True):
    """A sequence."""

    place: Place
    items: Sequence["Node"]
    size: int


class Fields(msgspec.Struct, frozen=True):
    """A mapping, with the place of every key."""

    place: Place
    fields: Mapping[str, "Node"]
    keys: Mapping[str, Place]
    size: int


Node = Text | Items | Fields

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_documents(file: str, content: bytes) -> list[Node]:
    """The non-empty documents of a file; raises FileError."""
    if len(content) > MAX_BYTES:
        raise FileError(
            Place(file), f"the file has {len(content)} bytes, more than {MAX_BYTES}", "Split it into several files."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(Place(file, line, 1), "the file is not UTF-8 text", "Save it as UTF-8.") from error
    try:
        return [node for node in _Composer(file, text).documents() if not (isinstance(node, Text) and node.empty)]
    except yaml.YAMLError as error:
        raise _unparseable(file, text, error) from error


def _unparseable(file: str, text: str, error: yaml.YAMLError) -> FileError:
    """PyYAML's complaint as one sentence with a place."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
    if mark is None and isinstance(position := getattr(error, "position", None), int):
        place = Place(file, text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position))
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
    begun = getattr(error, "context_mark", None)
    if problem == "found unexpected end of stream" and begun is not None:
        return FileError(
            Place(file, begun.line + 1, begun.column + 1), "the text that begins here has no closing quote", "Add it."
        )
    lines = text.splitlines()
    written = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())]:
        return FileError(place, "a tab stands in the indentation", "Indent with spaces: YAML allows no tabs there.")
    mends = {
        "mapping values are not allowed in this context": "Look at the indentation, and quote text that holds ': '.",
        "did not find expected <document start>": "Separate documents with a line that holds only '---'.",
    }
    return FileError(
        place, f"this is not YAML: {problem}", mends.get(problem, "Look at the indentation and quotes there.")
    )


class _Composer:
    """Builds nodes from events; counts what they cost."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, Node] = {}
        self._cost = 0

    def documents(self) -> Iterator[Node]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                yield self._node(next(self._events), depth=0)

    def _place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1) if mark else Place(self._file)

    def _charge(self, place: Place, nodes: int) -> None:
        self._cost += nodes
        if self._cost > MAX_NODES:
            raise FileError(
                place, f"the file grows to more than {MAX_NODES} values", "Use fewer aliases, or several files."
            )

    def _node(self, event: yaml.Event, depth: int) -> Node:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(event.anchor or "")
            if known is None:
                raise FileError(
                    place, f"alias *{event.anchor} has no anchor before it", f"Write &{event.anchor} first."
                )
            # An alias costs as much as what it stands for: nested aliases cannot explode ("billion laughs").
            self._charge(place, 1 if isinstance(known, Text) else known.size)
            return known
        if depth > MAX_DEPTH:
            raise FileError(place, f"values are nested deeper than {MAX_DEPTH}", "Flatten the document.")
        self._charge(place, 1)
        before = self._cost
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Text(place, event.value, plain=event.style in (None, ""))
        elif isinstance(event, yaml.SequenceStartEvent):
            items = self._items(depth)
            node = Items(place, items, self._cost - before + 1)
        else:
            fields, keys = self._fields(depth)
            node = Fields(place, fields, keys, self._cost - before + 1)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _items(self, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _fields(self, depth: int) -> tuple[dict[str, Node], dict[str, Place]]:
        fields: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Text):
                raise FileError(
                    key.place, "the name of a field must be text", "Put the value behind a name and a colon."
                )
            place = self._place(event)
            if key.text in fields:
                first = keys[key.text]
                raise FileError(place, f"field {key.text!r} stands here and in line {first.line}", "Keep one of them.")
            fields[key.text] = self._node(next(self._events), depth + 1)
            keys[key.text] = place
        return fields, keys


def fields_of(node: Node, what: str) -> Fields:
    """`node` as a mapping; `what` is its name in the sentence."""
    if not isinstance(node, Fields):
        raise FileError(node.place, f"{what} must be a mapping", "Write 'name: value' pairs below it.")
    return node


def items_of(node: Node, what: str) -> Sequence[Node]:
    """`node` as a list; nothing written is an empty list."""
    if isinstance(node, Text) and node.empty:
        return ()
    if not isinstance(node, Items):
        raise FileError(node.place, f"{what} must be a list", "Write '- ' before each of its entries.")
    return node.items


def text_of(node: Node, what: str) -> str:
    """`node` as text that is not empty."""
    if not isinstance(node, Text) or node.empty or not node.text:
        raise FileError(node.place, f"{what} must be text", "Write a single value.")
    return node.text


def number_of(node: Node, what: str, low: int, high: int) -> int:
    """`node` as a whole number from `low` to `high`."""
    text = text_of(node, what)
    if not (text.isascii() and text.lstrip("-").isdigit()) or len(text) > 18:
        raise FileError(node.place, f"{what} is {text!r}, not a whole number", f"Use a number from {low} to {high}.")
    if not low <= int(text) <= high:
        raise FileError(node.place, f"{what} {int(text)} is out of range", f"Use a number from {low} to {high}.")
    return int(text)


def flag_of(node: Node, what: str) -> bool:
    """`node` as true or false."""
    text = text_of(node, what)
    # YAML 1.2.2, section 10.3.2: the core schema's three ways to write each of them.
    if text not in ("true", "True", "TRUE", "false", "False", "FALSE"):
        raise FileError(node.place, f"{what} is {text!r}, neither true nor false", "Write true or false.")
    return text.lower() == "true"


def texts_of(node: Node, what: str) -> dict[str, str]:
    """`node` as a mapping of text to text, such as labels."""
    found: dict[str, str] = {}
    for name, value in fields_of(node, what).fields.items():
        if not isinstance(value, Text):
            raise FileError(value.place, f"{what} {name!r} must be text", "Write a single value.")
        found[name] = value.text
    return found


_EVERYWHERE = {"<<": "Merge keys do not work here: write the fields out."}


def only(
    fields: Fields, allowed: Sequence[str], what: str, known_elsewhere: Mapping[str, str] = {}
) -> Mapping[str, Node]:
    """The fields of a mapping that may only hold `allowed`; the nearest name is suggested for any other.

    `known_elsewhere` gives the mend for names that a reader may well expect to work.
    """
    for name in fields.fields:
        if name in allowed:
            continue
        near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
        mend = {**_EVERYWHERE, **known_elsewhere}.get(name) or (
            f"Did you mean {near[0]!r}?" if near else f"Known fields: {', '.join(allowed)}."
        )
        raise FileError(fields.keys[name], f"{what} has no field {name!r}", mend)
    return fields.fields


def need(fields: Fields, name: str, what: str) -> Node:
    """The field `name`, which must be there."""
    node = fields.fields.get(name)
    if node is None or (isinstance(node, Text) and node.empty):
        raise FileError(fields.place, f"{what} needs the field {name!r}", f"Add '{name}:'.")
    return node


def one_of(node: Node, what: str, allowed: Sequence[str]) -> str:
    """`node` as one of the words in `allowed`."""
    text = text_of(node, what)
    if text not in allowed:
        by_small = {word.lower(): word for word in allowed}
        near = difflib.get_close_matches(text.lower(), by_small, n=1, cutoff=0.5)
        mend = f"Did you mean {by_small[near[0]]!r}?" if near else f"Use one of: {', '.join(allowed)}."
        raise FileError(node.place, f"{what} {text!r} is not known", mend)
    return text


def placed(place: Place, parse: Callable[[], T]) -> T:
    """What `parse` gives; an InvalidInput gets the place."""
    try:
        return parse()
    except FileError:
        raise
    except InvalidInput as error:
        raise FileError(place, error.sentence, error.mend) from error
