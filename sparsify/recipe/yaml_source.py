"""YAML to a plain tree in which every key and value knows its line and column.

Read from ruamel.yaml's parser events, so nothing is ever constructed but mappings, lists and scalars. What makes one
recipe mean two things (duplicate keys, anchors, merge keys, tags, several documents) is refused, as is what could
exhaust a machine (nesting over 20 deep, over 20,000 values).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from sparsify.recipe.faults import Fault, Place
from sparsify.recipe.misfit import Misfit, shown
from sparsify.recipe.scalar import value_of

MAX_DEPTH = 20
MAX_VALUES = 20_000
KeyPath = tuple[str | int, ...]


@dataclass(slots=True)
class Document:
    """One YAML document: its plain `tree`, where each value and each key stands, and what was refused.

    `opaque` holds the paths whose value could not be read (an alias, say): what is found there is no further fault.
    """

    tree: Any = None
    values: dict[KeyPath, Place] = field(default_factory=dict)
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    opaque: set[KeyPath] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)

    def place(self, path: KeyPath, *, at_key: bool = False) -> Place:
        """Where `path` stands, or the nearest thing above it that stands anywhere."""
        if not at_key and path in self.values:
            return self.values[path]
        while path not in self.keys and path not in self.values:
            path = path[:-1]
        return self.keys.get(path) or self.values[path]


def read_yaml(text: str, file: str) -> Document:
    """Parse `text`; what is wrong is collected in the document's `faults`, each at its line and column of `file`."""
    reader = _Reader(iter(YAML(typ="safe", pure=True).parse(text)), file)
    try:
        reader.read()
    except _Stop:
        pass
    except ReaderError as error:
        reader.refuse(
            place_after(text[: error.position], file),
            Misfit((), expected="printable text", got=f"the character {chr(error.character)!r}", mend="remove it"),
        )
    except MarkedYAMLError as error:
        reader.refuse(_place_of_mark(error.problem_mark, file), _syntax_misfit(error))
    except YAMLError as error:
        reader.refuse(Place(file, 1, 1), _syntax_misfit(error))
    return reader.document


class _Stop(Exception):
    """Reading on makes no sense; the faults say why."""


class _Reader:
    """Builds a `Document` from parser events. Recursion is bounded by `MAX_DEPTH`."""

    def __init__(self, events: Iterator[Event], file: str) -> None:
        self._events = events
        self._file = file
        self._count = 0
        self.document = Document(values={(): Place(file, 1, 1)})

    def refuse(self, place: Place, misfit: Misfit) -> None:
        self.document.faults.append(Fault.of(misfit, place))

    def read(self) -> None:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, StreamEndEvent):
            return
        self._refuse_old_yaml(event)
        self.document.tree = self._value(next(self._events), ())
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, StreamEndEvent):
            misfit = Misfit(
                (), expected="one document", got="a second, after ---", mend="put each recipe in its own file"
            )
            self.refuse(self._place(event), misfit)

    def _value(self, event: Event, path: KeyPath) -> Any:
        place = self._place(event)
        self.document.values[path] = place
        self._refuse_indirection(event, path, place)
        if len(path) > MAX_DEPTH:
            misfit = Misfit(path, expected=f"at most {MAX_DEPTH} levels of nesting", got="more", mend="flatten it")
            self.refuse(place, misfit)
            raise _Stop
        self._count += 1
        if self._count > MAX_VALUES:
            misfit = Misfit((), expected=f"at most {MAX_VALUES} values", got="more", mend="is this a recipe?")
            self.refuse(place, misfit)
            raise _Stop
        if isinstance(event, MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(event, path, place) if isinstance(event, ScalarEvent) else None

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, path, mapping)
            here = (*path, key)
            value = self._value(next(self._events), here)
            if value is None:  # an empty value has no place of its own but the next line's
                self.document.values[here] = self._place(event)
            if self._is_text_key(event):
                self.document.keys[here] = self._place(event)
                mapping[key] = value
        return mapping

    def _key(self, event: Event, path: KeyPath, mapping: dict[str, Any]) -> str:
        """The key's text, after refusing a key that is not text, merges, or stands here already."""
        place = self._place(event)
        if not isinstance(event, ScalarEvent):
            key = self._value(event, (*path, "?"))
            misfit = Misfit(path, expected="keys that are text", got=shown(key), mend="write plain `key: value` lines")
            self.refuse(place, misfit)
            return "?"
        self._refuse_indirection(event, (*path, event.value), place)
        if not _is_unicode(event.value):
            self.refuse(place, _surrogate_misfit(path))
        elif not self._is_text_key(event):
            merges = event.value == "<<"
            misfit = Misfit(
                (*path, event.value),
                expected="keys that are text",
                got="a merge key" if merges else shown(value_of(event.value)),
                mend="write the merged keys out" if merges else "put the key in quotes",
            )
            self.refuse(place, misfit)
        elif event.value in mapping:
            first = self.document.keys[(*path, event.value)]
            misfit = Misfit(
                (*path, event.value),
                expected="each key once",
                got=f"it again after line {first.line}" if first.line else "it twice",
                mend="remove one of the two",
            )
            self.refuse(place, misfit)
        return event.value

    def _scalar(self, event: ScalarEvent, path: KeyPath, place: Place) -> Any:
        if not _is_unicode(event.value):
            self.document.opaque.add(path)
            self.refuse(place, _surrogate_misfit(path))
        return value_of(event.value) if event.implicit[0] else event.value

    def _is_text_key(self, event: Event) -> bool:
        if not isinstance(event, ScalarEvent) or not _is_unicode(event.value):
            return False
        return not event.implicit[0] or (event.value != "<<" and isinstance(value_of(event.value), str))

    def _refuse_indirection(self, event: Event, path: KeyPath, place: Place) -> None:
        """Refuse aliases, anchors and tags: a recipe says what it means where it says it."""
        if isinstance(event, AliasEvent):
            self.document.opaque.add(path)
            misfit = Misfit(path, expected="a value", got=f"the alias *{event.anchor}", mend="write the value out")
            self.refuse(place, misfit)
            return
        if (anchor := getattr(event, "anchor", None)) is not None:
            misfit = Misfit(path, expected="a value without an anchor", got=f"&{anchor}", mend="remove the anchor")
            self.refuse(place, misfit)
        if (tag := getattr(event, "tag", None)) is not None:
            self.document.opaque.add(path)
            misfit = Misfit(
                path, expected="a value without a tag", got=shown(tag), mend="remove the tag; quotes make text"
            )
            self.refuse(place, misfit)

    def _refuse_old_yaml(self, event: Event) -> None:
        if isinstance(event, DocumentStartEvent) and event.version not in (None, (1, 2)):
            major, minor = event.version
            misfit = Misfit((), expected="YAML 1.2", got=f"%YAML {major}.{minor}", mend="remove the directive")
            self.refuse(Place(self._file, 1, 1), misfit)

    def _place(self, event: Event) -> Place:
        return _place_of_mark(event.start_mark, self._file)


def _is_unicode(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _surrogate_misfit(path: KeyPath) -> Misfit:
    return Misfit(path, expected="Unicode text", got="half a surrogate pair", mend=r"write it as \UXXXXXXXX")


def _place_of_mark(mark: Any, file: str) -> Place:
    return Place(file, mark.line + 1, mark.column + 1) if mark is not None else Place(file, 1, 1)


def place_after(text: str, file: str) -> Place:
    """The place of the character that follows `text`."""
    return Place(file, text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _syntax_misfit(error: YAMLError) -> Misfit:
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    context = getattr(error, "context", None)
    mend = "check the indentation, colons, quotes and brackets here and just above"
    if "'\\t'" in problem:
        mend = "indent with spaces, not tabs"
    elif problem.startswith("mapping values"):
        mend = "put a value that contains a colon in quotes"
    where = f"{problem} ({context})" if context else problem
    return Misfit((), expected="valid YAML", got=f"a syntax error: {where}", mend=mend)
