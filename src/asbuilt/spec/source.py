"""The text of asbuilt.yaml as a tree in which every key and value knows its place.

Invariants: whatever the bytes are, the result is a tree or problems, never another exception; the work is
linear in the size of the file (nesting and aliases are bounded). Scalars stay the text that the owner wrote,
so that YAML's own ideas (`no` is false, 1.30 is 1.3, 12:30 is 750) can't change a value.
Plain classes, not dataclasses: `status` imports this, and dataclasses would cost it a fifth of its time.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from typing import TYPE_CHECKING, Any, Final

import yaml

from asbuilt.values.errors import Place, Problem, SpecError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 4 * 2**20
MAX_DEPTH: Final = 24
MAX_NODES: Final = 200_000
"""Values in a file once its aliases are written out."""
NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STRING_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})


class Scalar:
    """A value: its text, and whether it was quoted."""

    __slots__ = ("height", "place", "quoted", "size", "text")

    def __init__(self, place: Place, text: str, quoted: bool = False) -> None:
        self.place = place
        self.text = text
        self.quoted = quoted
        self.size = 1
        self.height = 1

    @property
    def missing(self) -> bool:
        """Nothing, `~` or `null` without quotes."""
        return not self.quoted and self.text in NULLS


class Listing:
    """A list."""

    __slots__ = ("height", "items", "place", "size")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.items: list[Node] = []
        self.size = 1
        self.height = 1


class Entry:
    """A key and its value. `layer`: where it came from, once blocks are merged; empty: as what is around."""

    __slots__ = ("layer", "place", "value")

    def __init__(self, place: Place, value: Node, layer: str = "") -> None:
        self.place = place
        self.value = value
        self.layer = layer


class Block:
    """Keys and values."""

    __slots__ = ("entries", "height", "place", "size")

    def __init__(self, place: Place, entries: dict[str, Entry] | None = None) -> None:
        self.place = place
        self.entries = {} if entries is None else entries
        self.size = 1
        self.height = 1


Node = Scalar | Listing | Block


def read_source(path: Path) -> Block:
    """The top-level block of a file. Raises SpecError."""
    return parse_source(_read_text(path), str(path))


def parse_source(text: str, file: str) -> Block:
    """The top-level block of a text. Raises SpecError."""
    bad = _UNPRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        place = Place(file, line, bad.start() - text.rfind("\n", 0, bad.start()))
        raise _error("SPEC-003", f"the character U+{ord(bad[0]):04X} can't be in a spec", place, "remove it")
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        builder.problems.append(_explain(error, text, file))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        builder.problems.append(
            Problem("SPEC-003", "", f"not valid YAML: {str(error).splitlines()[0]}", Place(file, 1, 1))
        )
    if builder.problems:
        raise SpecError(tuple(builder.problems))
    root = builder.root
    if root is None or (isinstance(root, Scalar) and root.missing):
        raise _error("SPEC-002", "the file is empty", Place(file, 1, 1), "asbuilt init --force writes one")
    if not isinstance(root, Block):
        raise _error(
            "SPEC-003",
            "expected keys and values at the top",
            root.place,
            "begin with a line like: name: shop",
        )
    return root


def _read_text(path: Path) -> str:
    start = Place(str(path), 1, 1)
    try:
        kind = path.stat()
        if stat.S_ISDIR(kind.st_mode):
            raise _error(
                "SPEC-001", "this is a folder, not a file", start, f"name the file: {path / 'asbuilt.yaml'}"
            )
        if not stat.S_ISREG(kind.st_mode):
            raise _error("SPEC-001", "this is not an ordinary file", start, "write the spec into a file")
        if kind.st_size > MAX_BYTES:
            raise _error(
                "SPEC-001", f"the file is larger than {MAX_BYTES >> 20} MB", start, "is it the right file?"
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise _error(
            "SPEC-001", "there is no such file", start, "asbuilt init writes one for the app in this folder"
        ) from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise _error(
            "SPEC-001", f"the file can't be read: {reason}", start, "check its path and permissions"
        ) from None
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = error.start - before.rfind(b"\n")
        place = Place(str(path), before.count(b"\n") + 1, column)
        raise _error("SPEC-003", "the file is not UTF-8 text", place, "save it as UTF-8") from None


class _Builder:
    """Turns events into a tree, without recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._documents = 0
        self._open: list[tuple[Block | Listing, str | None]] = []
        self._keys: list[tuple[str, Place, bool] | None] = []
        self._anchors: dict[str, Node | None] = {}

    def take(self, event: Any) -> None:  # noqa: ANN401 - PyYAML's events are not typed
        """One event of the parser."""
        if isinstance(event, yaml.ScalarEvent):
            place = self._place(event)
            self._check_tag(event, place)
            quoted = event.style in {"'", '"', "|", ">"} or event.tag in _STRING_TAGS
            self._add(Scalar(place, event.value, quoted), event.anchor)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            place = self._place(event)
            self._check_tag(event, place)
            if len(self._open) >= MAX_DEPTH:
                raise _error(
                    "SPEC-003", f"nested more than {MAX_DEPTH} levels deep", place, "a spec needs about six"
                )
            if self._expects_key():
                raise _error("SPEC-003", "a key must be a word", place, "write: key: value")
            if event.anchor:
                self._anchors[event.anchor] = None
            self._open.append(
                (Block(place) if isinstance(event, yaml.MappingStartEvent) else Listing(place), event.anchor)
            )
            self._keys.append(None)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            node, anchor = self._open.pop()
            self._keys.pop()
            self._add(node, anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._add_alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _error(
                    "SPEC-003", "a second document begins here", self._place(event), "remove the line ---"
                )

    def _place(self, event: Any) -> Place:  # noqa: ANN401 - PyYAML's events are not typed
        return Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _check_tag(self, event: Any, place: Place) -> None:  # noqa: ANN401 - PyYAML's events are not typed
        if event.tag and event.tag not in _STRING_TAGS:
            raise _error(
                "SPEC-003", "tags (!) are not used in a spec", place, "quote the value if it begins with !"
            )

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1][0], Block) and self._keys[-1] is None

    def _add_alias(self, event: Any) -> None:  # noqa: ANN401 - PyYAML's events are not typed
        place = self._place(event)
        if event.anchor not in self._anchors:
            raise _error("SPEC-003", f"*{event.anchor} is used, but &{event.anchor} is nowhere above", place)
        node = self._anchors[event.anchor]
        if node is None:
            raise _error("SPEC-003", f"*{event.anchor} contains itself", place)
        self._add(node, None, place)

    def _add(self, node: Node, anchor: str | None, place: Place | None = None) -> None:
        if anchor:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        parent = self._open[-1][0]
        parent.size += node.size
        if parent.size > MAX_NODES:
            raise _error(
                "SPEC-003", f"more than {MAX_NODES} values, with aliases written out", place or node.place
            )
        parent.height = max(parent.height, node.height + 1)
        if parent.height > MAX_DEPTH:
            raise _error("SPEC-003", f"nested more than {MAX_DEPTH} levels deep", place or node.place)
        if isinstance(parent, Listing):
            parent.items.append(node)
        elif self._keys[-1] is None:
            if not isinstance(node, Scalar):
                raise _error("SPEC-003", "a key must be a word", place or node.place, "write: key: value")
            self._keys[-1] = (node.text, place or node.place, not node.quoted)
        else:
            key, at, plain = self._keys[-1]
            self._keys[-1] = None
            if key == "<<" and plain:
                self._merge(parent, node, at)
            elif key in parent.entries and not parent.entries[key].layer:
                first = parent.entries[key].place
                what = f"{_short(key)} is here twice"
                self.problems.append(
                    Problem("SPEC-004", "", what, at, f"the first is on line {first.line}: keep one of them")
                )
            else:
                parent.entries[key] = Entry(at, node)

    def _merge(self, parent: Block, node: Node, at: Place) -> None:
        blocks = node.items if isinstance(node, Listing) else [node]
        for block in blocks:
            if not isinstance(block, Block):
                raise _error("SPEC-003", "<< takes a block, like: <<: *anchor", at)
            for key, entry in block.entries.items():
                parent.entries.setdefault(key, Entry(entry.place, entry.value, "<<"))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")  # noqa: PLR2004 - fits a line


def _error(code: str, what: str, place: Place, hint: str = "") -> SpecError:
    return SpecError((Problem(code, "", what, place, hint),))


def _explain(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    problem = error.problem or "not understood"
    lines = text.splitlines()
    if place.line <= len(lines) and lines[place.line - 1][place.column - 1 :].startswith("\t"):
        return Problem("SPEC-003", "", "a tab is used to indent", place, "indent with spaces")
    for part, what, hint in _YAML_WORDS:
        if part in problem:
            return Problem("SPEC-003", "", what, place, hint)
    return Problem(
        "SPEC-003", "", f"not valid YAML: {problem}", place, "quote values with special characters"
    )


_YAML_WORDS: Final = (
    (
        "mapping values are not allowed",
        "a second `:` on the line, or a wrong indent",
        "quote the value, or indent it",
    ),
    ("could not find expected ':'", "a key without `:`", "write: key: value"),
    (
        "did not find expected key",
        "the indent doesn't match the lines above",
        "keys of a block begin in one column",
    ),
    ("did not find expected ',' or ']'", "a list is not closed", "close it with ]"),
    ("did not find expected ',' or '}'", "a block is not closed", "close it with }"),
    ("unexpected end of stream", "a quote is not closed", "close the quote"),
    ("document start", "something is left of what is above", "keys of a block begin in one column"),
    ("cannot start any token", "a value begins with a special character", "quote the value"),
)
