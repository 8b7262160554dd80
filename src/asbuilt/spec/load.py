"""From the file to a complete, checked `Spec`; or to all of its problems at once, each with its place.

Invariant: the only way from a file to a spec. A problem is told at the text that caused it: a shared block's
once, however many environments use it. Work is linear: a component that an environment takes unchanged from
the shared block is checked once for each kind.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel, ValidationError

from asbuilt.spec import check
from asbuilt.spec.explain import Finding, Location, explain, show, suggest
from asbuilt.spec.merge import COMPONENTS, NEEDED, NOWHERE, combine, is_none, preset_of, raw_of
from asbuilt.spec.names import NAME
from asbuilt.spec.presets import PRESETS
from asbuilt.spec.schema import (
    App,
    Cache,
    Database,
    Engines,
    Environment,
    Files,
    LoadBalancer,
    Objects,
    Rollout,
    Spec,
)
from asbuilt.spec.source import Block, Entry, Listing, Node, Scalar, read_source
from asbuilt.values.errors import Place, Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

MODELS: Final[dict[str, type[BaseModel]]] = {
    "app": App,
    "rollout": Rollout,
    "load_balancer": LoadBalancer,
    "database": Database,
    "cache": Cache,
    "objects": Objects,
    "files": Files,
    "engines": Engines,
}
WORDS: Final = ("target", "network")
"""Fields of an environment that are one word; they may be shared as blocks may."""
MAX_PROBLEMS: Final = 200


@dataclass(frozen=True, slots=True)
class Loaded:
    """A spec and where it came from. `digest` names its meaning: comments and order of keys don't count."""

    spec: Spec
    file: Path
    project: Path
    digest: str
    warnings: tuple[str, ...]


def load(path: Path) -> Loaded:
    """The spec of a file. Raises SpecError with every problem."""
    project = path.absolute().parent
    loader = _Loader(read_source(path), project)
    spec = loader.build()
    if loader.problems or spec is None:
        unique = sorted(dict.fromkeys(loader.problems), key=lambda problem: problem.place)
        raise SpecError(tuple(unique[:MAX_PROBLEMS]))
    return Loaded(spec, path, project, _digest(spec), tuple(dict.fromkeys(loader.notes)))


def _digest(spec: Spec) -> str:
    """Of the meaning. Components that environments share are counted once, which keeps it linear."""
    done: dict[int, str] = {}

    def one(model: BaseModel | None) -> str:
        if id(model) not in done:
            content = None if model is None else model.model_dump(mode="json")
            done[id(model)] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return done[id(model)]

    environments = {
        name: [each.kind, each.target, each.network, *(one(getattr(each, part)) for part in COMPONENTS)]
        for name, each in spec.environments.items()
    }
    return hashlib.sha256(json.dumps([spec.name, environments], sort_keys=True).encode()).hexdigest()


class _Loader:
    """One loading: the tree, what was found so far, components that are done."""

    def __init__(self, root: Block, project: Path) -> None:
        self.root = root
        self.project = project
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._shared: dict[str, Block | None] = {}
        self._removed: set[str] = set()
        self._done: dict[tuple[str, str], tuple[BaseModel | None, Block | None]] = {}
        self._used: set[str] = set()

    def build(self) -> Spec | None:
        """The whole spec, or nothing when problems stand in the way."""
        known = {"name", "environments", *COMPONENTS, *WORDS}
        self._refuse_unknown(self.root, known, "")
        name = self._read_name()
        for component in COMPONENTS:
            entry = self.root.entries.get(component)
            if entry is not None:
                block, removed = self._read_block(component, entry, component)
                self._shared[component] = block
                if removed:
                    self._removed.add(component)
        environments: dict[str, Environment] = {}
        for key, entry in self._read_environments().items():
            environment = self._build_environment(key, entry)
            if environment is not None:
                environments[key] = environment
        self._check_unused()
        if self.problems or name is None:
            return None
        return Spec.model_validate({"name": name, "environments": environments})

    def _refuse_unknown(self, block: Block, known: set[str], prefix: str) -> None:
        for key, entry in block.entries.items():
            if key not in known:
                self._add(
                    "SPEC-005", prefix + _plain(key), "there is no such key", entry.place, suggest(key, known)
                )

    def _add(self, code: str, path: str, what: str, place: Place, hint: str = "") -> None:
        self.problems.append(Problem(code, path, what, place, hint))

    def _read_name(self) -> str | None:
        entry = self.root.entries.get("name")
        if entry is None:
            self._add("SPEC-006", "name", "is missing", self.root.place, "write a line like: name: shop")
            return None
        value = entry.value
        if not isinstance(value, Scalar) or value.missing or not NAME.fullmatch(value.text):
            given = show(value.text) + " " if isinstance(value, Scalar) and not value.missing else ""
            self._add("SPEC-010", "name", f"{given}can't be a name", value.place, _NAME_HINT)
            return None
        return value.text

    def _read_environments(self) -> dict[str, Entry]:
        entry = self.root.entries.get("environments")
        if entry is None:
            hint = "write: environments: {development: {}, production: {}}"
            self._add("SPEC-006", "environments", "is missing", self.root.place, hint)
            return {}
        value = entry.value
        if not isinstance(value, Block):
            self._add(
                "SPEC-007", "environments", "expected a block of environments", value.place, "production: {}"
            )
            return {}
        if not value.entries:
            self._add(
                "SPEC-006", "environments", "has no environment in it", value.place, "write: production: {}"
            )
        return value.entries

    def _read_block(self, component: str, entry: Entry, path: str) -> tuple[Block | None, bool]:
        """The block written for a component, and whether it says that the component is left out."""
        value = entry.value
        if isinstance(value, Block):
            return value, False
        if is_none(value):
            if component in NEEDED:
                self._add("SPEC-007", path, "can't be left out", value.place)
            return None, True
        if isinstance(value, Scalar) and value.missing:
            hint = f"write {component}: {{}} for the defaults"
            hint += "" if component in NEEDED else f", or {component}: none to leave it out"
            self._add("SPEC-007", path, "there is nothing below it", entry.place, hint)
        else:
            self._add(
                "SPEC-007",
                path,
                "expected a block of keys and values",
                value.place,
                f"write {component}: {{}}",
            )
        return None, False

    def _build_environment(self, name: str, entry: Entry) -> Environment | None:
        path = f"environments.{_plain(name)}"
        before = len(self.problems)
        if not NAME.fullmatch(name):
            self._add("SPEC-010", path, f"{show(name)} can't be a name", entry.place, _NAME_HINT)
        own = entry.value
        if isinstance(own, Scalar) and own.missing:
            own = Block(entry.place)
        if not isinstance(own, Block):
            self._add(
                "SPEC-007",
                path,
                "expected a block of keys and values",
                own.place,
                f"write {_plain(name)}: {{}}",
            )
            return None
        self._refuse_unknown(own, {"kind", *COMPONENTS, *WORDS}, f"{path}.")
        kind = self._read_kind(name, entry, own, path)
        if kind is None:
            return None
        values: dict[str, Any] = {"kind": kind}
        trees: dict[str, Block | None] = {}
        for component in COMPONENTS:
            values[component], trees[component] = self._build_component(component, kind, path, own)
        for word in WORDS:
            written = own.entries.get(word) or self.root.entries.get(word)
            if written is not None:
                values[word] = raw_of(written.value)
                self._check_word(word, written.value, f"{path}.{word}" if word in own.entries else word)
        if len(self.problems) > before or any(values[component] is None for component in NEEDED):
            return None
        return self._complete(path, values, trees["app"])

    def _check_word(self, word: str, value: Node, path: str) -> None:
        known = get_args(Environment.model_fields[word].annotation)
        if not isinstance(value, Scalar):
            self._add("SPEC-007", path, f"expected one of {', '.join(known)}", value.place)
        elif value.text not in known:
            what = f"{show(value.text)} is not one of {', '.join(known)}"
            self._add("SPEC-008", path, what, value.place, suggest(value.text, known))
        elif value.text != known[0]:
            what = f"not supported yet: {word} {value.text}"
            self._add("SPEC-020", path, what, value.place, f"write {word}: {known[0]}, or leave it out")

    def _complete(self, path: str, values: dict[str, Any], app: Block | None) -> Environment:
        environment = Environment.model_validate(values)
        for finding in check.check_environment(environment):
            inner = finding._replace(location=finding.location[1:])
            self._report("app", path, app, [inner])
        self.notes += [f"{path}: {note}" for note in check.find_notes(environment)]
        return environment

    def _read_kind(self, name: str, entry: Entry, own: Block, path: str) -> str | None:
        kinds = ", ".join(PRESETS)
        written = own.entries.get("kind")
        if written is None:
            if name in PRESETS:
                return name
            what = f"{show(name)} is not one of {kinds}, so it must say which of them it is like"
            self._add("SPEC-011", path, what, entry.place, "add a line like: kind: production")
            return None
        value = written.value
        if isinstance(value, Scalar) and value.text in PRESETS:
            return value.text
        hint = suggest(value.text, PRESETS) if isinstance(value, Scalar) else f"write one of {kinds}"
        self._add("SPEC-011", f"{path}.kind", f"expected one of {kinds}", value.place, hint)
        return None

    def _build_component(
        self, component: str, kind: str, path: str, own: Block
    ) -> tuple[BaseModel | None, Block | None]:
        written = own.entries.get(component)
        if written is None:
            if (kind, component) not in self._done:
                removed = "shared" if component in self._removed else ""
                tree = combine(component, kind, self._shared.get(component), None, removed=removed)
                if tree is not None:
                    self._used.add(component)
                self._done[kind, component] = (self._validate(component, path, tree), tree)
            return self._done[kind, component]
        block, removed_here = self._read_block(component, written, f"{path}.{component}")
        removed = "own" if removed_here else "shared" if component in self._removed else ""
        tree = combine(component, kind, self._shared.get(component), block, removed=removed)
        if tree is not None:
            self._used.add(component)
        return self._validate(component, path, tree), tree

    def _check_unused(self) -> None:
        """A shared block that no environment takes is checked all the same, and said to be without effect."""
        for component, block in self._shared.items():
            if block is None or component in self._used:
                continue
            tree = combine(component, "production", block, None, removed="")
            self._validate(component, "", tree)
            lacks = all(preset_of(kind, component) is None for kind, each in self._done if each == component)
            if lacks and not self.problems:
                self.notes.append(
                    f"{component}: no environment takes it; write {component}: {{}} into one that should"
                )

    def _validate(self, component: str, path: str, tree: Block | None) -> BaseModel | None:
        if tree is None:
            return None
        model = MODELS[component]
        try:
            value = model.model_validate(raw_of(tree))
        except ValidationError as error:
            found = [explain(model, e) for e in error.errors(include_url=False)]
            self._report(component, path, tree, found)
            self._report(component, path, tree, self._check_rest(model, raw_of(tree), found))
            return None
        self._report(component, path, tree, self._check_complete(value))
        return value

    def _check_rest(self, model: type[BaseModel], raw: Any, found: list[Finding]) -> list[Finding]:  # noqa: ANN401 - plain data
        """The further checks on what is left of a component without its wrong fields."""
        for finding in found:
            _prune(raw, finding.location)
        absent = {finding.location[0] for finding in found if finding.location} - raw.keys()
        try:
            value = model.model_validate({**_STAND_INS, **raw} if model is App else raw)
        except ValidationError:
            return []
        return [finding for finding in self._check_complete(value) if finding.location[0] not in absent]

    def _check_complete(self, value: BaseModel) -> list[Finding]:
        if isinstance(value, App):
            return [*check.check_app(value), *check.check_folder(value, self.project)]
        if isinstance(value, LoadBalancer):
            return [*check.check_load_balancer(value)]
        return []

    def _report(self, component: str, path: str, tree: Block | None, findings: Iterable[Finding]) -> None:
        for finding in findings:
            layer, dotted, place = _locate(tree, finding.location, finding.at_key)
            shared = self.root.entries.get(component)
            missing = finding.code == "SPEC-006" and finding.what == "is missing"
            if place == NOWHERE or (missing and shared is not None and isinstance(shared.value, Block)):
                layer = "shared"
                place = shared.place if shared else self._whole_place()
            prefix = f"{path}.{component}" if layer == "own" else component
            self._add(finding.code, ".".join([prefix, *dotted]), finding.what, place, finding.hint)

    def _whole_place(self) -> Place:
        entry = self.root.entries.get("environments")
        return entry.place if entry else self.root.place


_STAND_INS: Final = {"command": "app", "instances": "1", "cpu": "1", "memory": "1GB", "disk": "1GB"}
"""For the fields that an app must have, when theirs were wrong."""


def _prune(raw: Any, location: Location) -> None:  # noqa: ANN401 - plain data
    """Remove what a location names, as far as it is there."""
    node = raw
    steps = [part for part in location if not (isinstance(part, str) and part[:1] in {"<", "["})]
    for at, part in enumerate(steps):
        if not isinstance(node, dict) or part not in node:
            return
        if at == len(steps) - 1 or not isinstance(node[part], dict):
            del node[part]
            return
        node = node[part]


_NAME_HINT: Final = "small letters, digits and dashes, at most 32, beginning with a letter"


def _plain(key: str) -> str:
    """A key for a dotted path: short and on one line."""
    text = key if len(key) <= 40 else key[:37] + "..."  # noqa: PLR2004 - fits a line
    return text if text.isprintable() else repr(text)[1:-1]


def _locate(tree: Block | None, location: Location, at_key: bool) -> tuple[str, list[str], Place]:
    """Where a location of a merged component was written: its layer, its dotted path, its place."""
    node: Any = tree
    layer, place = "", tree.place if tree is not None else NOWHERE
    path: list[str] = []
    for part in location:
        if isinstance(node, Block) and str(part) in node.entries:
            entry = node.entries[str(part)]
            layer = entry.layer if entry.layer not in {"", "<<"} else layer
            node = entry.value
            place = entry.place if at_key or (isinstance(node, Scalar) and node.missing) else node.place
            path.append(_plain(str(part)))
        elif isinstance(node, Listing) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            place = node.place
            path.append(str(part))
        elif isinstance(part, str) and part[:1] not in {"<", "["}:
            path.append(_plain(part))
    return layer, path, place
