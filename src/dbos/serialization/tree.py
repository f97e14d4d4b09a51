"""Values as trees of plain JSON: the walk that writes them, the walk that reads them.

Theory of operation. A dialect says how each exact type becomes a tree. Most payloads are plain data
already, so `write_text` first asks whether a value consists of nothing but exact JSON types, mostly
at the speed of C, and then encodes it as it is. Everything else takes the slow walk, which knows
its path, refuses cycles, and limits the depth, so that whatever was written can be read again with
the interpreter's own recursion limit.

A node with a tag is an object whose first key starts with `$`. A user's dict with such a key is
never written as an object, so the two cannot be confused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgspec

from dbos.serialization.refusals import key_segment, refusal, shown_path, text_of

Tree: TypeAlias = "bool | int | float | str | list[Tree] | dict[str, Tree] | None"
T = TypeVar("T")

MAX_LEVELS = 500
"""How deep a stored text may nest. A tagged node counts twice, for it costs two frames to walk."""

# Above this length a list is checked at the speed of C first, which costs more for short ones.
_LONG = 16
_ATOMS = frozenset({str, int, bool, type(None)})
_TAG_MARK = b'"$'
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_is_finite = math.isfinite


class CorruptText(ValueError):
    """A stored text is not what its format promises."""


class ClassUnavailable(Exception):
    """A stored value needs something this process does not have."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one type are written. `levels` is 0 for those without parts."""

    write: Callable[[TreeWriter, Any], Tree]
    levels: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way to write trees: what it knows, and how it refuses the rest."""

    find: Callable[[type], Kind | None]
    is_object: Callable[[dict[Any, Any]], bool]
    reason: Callable[[object], str]
    has_tags: bool


Read: TypeAlias = "Callable[[TreeReader, dict[str, Tree]], object]"


def write_text(dialect: Dialect, value: object, root: str) -> str:
    """Write a value, or raise `DBOSSerializationError` with the path of what cannot be stored."""
    if is_plain(value):
        try:
            raw = _encode(value)
        except (ValueError, RecursionError):
            # A lone surrogate, or more digits than the interpreter converts: the slow walk decides.
            pass
        else:
            if not dialect.has_tags or _TAG_MARK not in raw:
                return raw.decode()
    return encoded(written(TreeWriter(dialect), value, root))


def write_leniently(dialect: Dialect, value: object, root: str) -> str:
    """Write a value, replacing what cannot be stored by its text."""
    return encoded(written(TreeWriter(dialect, lenient=True), value, root))


def written(writer: TreeWriter, value: object, root: str) -> Tree:
    """Walk a value, turning exhaustion of the stack into a plain refusal."""
    try:
        return writer.tree(value, root)
    except RecursionError:
        raise refusal(root, value, "is nested too deeply; pass its parts separately") from None


def encoded(tree: Tree) -> str:
    """The text of a tree that has been written."""
    return _encode(tree).decode()


def parsed(text: str) -> Tree:
    """The tree of a text, its nodes with tags as they are."""
    try:
        tree: Tree = _decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise CorruptText("the text is not JSON") from error
    return tree


def is_plain(value: object) -> bool:
    """Whether a value consists of exact JSON types only, with finite numbers, and not too deep."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if isinstance(value, float):
        return kind is float and _is_finite(value)
    return (kind is list or kind is dict) and _is_plain_container(value, 1)


class TreeWriter:
    """Writes one value. Knows where in the value it is, and what it is inside of."""

    __slots__ = ("_dialect", "_lenient", "_levels", "_open", "_path")

    def __init__(self, dialect: Dialect, *, lenient: bool = False) -> None:
        self._dialect = dialect
        self._lenient = lenient
        self._path: list[str] = []
        self._open: set[int] = set()
        self._levels = 0

    @property
    def lenient(self) -> bool:
        """Whether parts that cannot be stored are replaced by their text."""
        return self._lenient

    def tree(self, value: Any, segment: str) -> Tree:
        """Write a part of the value; `segment` is the step that leads to it.

        Lists and objects are walked here and not by a function of their kind: one frame for each of
        their levels keeps `MAX_LEVELS` within the recursion limit of the interpreter.
        """
        self._path.append(segment)
        cls = class_of(value)
        kind = self._dialect.find(cls)
        is_object = cls is dict and self._dialect.is_object(value)
        levels = 1 if is_object else kind.levels if kind else 0
        tree: Tree
        if kind is None:
            tree = self.refused(value, self._dialect.reason(value))
        elif levels == 0:
            tree = kind.write(self, value)
        elif reason := self._obstacle(levels, value):
            tree = self.refused(value, reason)
        else:
            self._open.add(id(value))
            self._levels += levels
            if cls is list:
                items: list[Tree] = []
                tree = items
                for index, item in enumerate(value):
                    items.append(self.tree(item, f"[{index}]"))
            elif is_object:
                fields: dict[str, Tree] = {}
                tree = fields
                for key, item in value.items():
                    fields[key] = self.tree(item, key_segment(key))
            else:
                tree = kind.write(self, value)
            self._levels -= levels
            self._open.discard(id(value))
        self._path.pop()
        return tree

    def refused(self, value: object, reason: str) -> Tree:
        """Refuse the value where the walk stands: by its text if lenient, else by an error."""
        if self._lenient:
            return text_of(value)
        raise refusal(shown_path(self._path), value, reason)

    def refused_at(self, segment: str, value: object, reason: str) -> Tree:
        """Refuse a part of the value where the walk stands."""
        self._path.append(segment)
        tree = self.refused(value, reason)
        self._path.pop()
        return tree

    def _obstacle(self, levels: int, value: object) -> str | None:
        if id(value) in self._open:
            return "contains itself; values are stored as trees, without cycles"
        if self._levels + levels > MAX_LEVELS:
            return "is nested too deeply; pass its parts separately"
        return None


class TreeReader:
    """Reads one tree, its nodes with tags by the given readers."""

    __slots__ = ("_readers",)

    def __init__(self, readers: Mapping[str, Read]) -> None:
        self._readers = readers

    def value(self, tree: Tree) -> Any:
        """Return the value of a tree."""
        if type(tree) is list:
            items: list[Any] = []
            for item in tree:
                items.append(self.value(item))
            return items
        if type(tree) is dict:
            tag = next(iter(tree), "")
            if tag.startswith("$"):
                read = self._readers.get(tag)
                if read is None:
                    raise CorruptText("a tag is unknown")
                return read(self, tree)
            fields: dict[str, Any] = {}
            for key, item in tree.items():
                fields[key] = self.value(item)
            return fields
        return tree


def expect(tree: Tree, kind: type[T]) -> T:
    """Return the node if it is exactly of that type."""
    if type(tree) is not kind:
        raise CorruptText(f"a {kind.__name__} is missing")
    return tree


def arguments_of(value: Any, positional: type[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the parts of a stored call, if it is one."""
    if not is_exactly(value, dict):
        raise CorruptText("the text is not that of arguments")
    args, kwargs = value["args"], value["kwargs"]
    if not is_exactly(args, positional) or not is_exactly(kwargs, dict):
        raise CorruptText("the text is not that of arguments")
    return tuple(args), kwargs


def is_exactly(value: object, kind: type) -> bool:
    """Whether a value is of a type and not of a subclass."""
    return type(value) is kind


def class_of(value: object) -> type:
    """The type of a value of the user, of which nothing else is known."""
    return type(value)


def items_of(tree: Tree) -> list[Tree]:
    """Return the node if it is a list."""
    if type(tree) is not list:
        raise CorruptText("a list is missing")
    return tree


def fields_of(tree: Tree) -> dict[str, Tree]:
    """Return the node if it is an object."""
    if type(tree) is not dict:
        raise CorruptText("an object is missing")
    return tree


def integers(tree: Tree, count: int) -> list[int]:
    """Return the node if it is a list of that many integers."""
    items = [expect(item, int) for item in items_of(tree)]
    if len(items) != count:
        raise CorruptText("a list has the wrong length")
    return items


def _is_plain_container(container: Any, level: int) -> bool:
    parts = container
    cls = type(container)  # pyright: ignore[reportUnknownVariableType]
    if cls is dict:
        for key in container:
            if type(key) is not str:
                return False
        parts = container.values()
    elif len(container) > _LONG and _ATOMS.issuperset(map(type, container)):
        return True
    for part in parts:
        kind = type(part)  # pyright: ignore[reportUnknownVariableType]
        if kind in _ATOMS:
            continue
        if kind is list or kind is dict:
            if level == MAX_LEVELS or not _is_plain_container(part, level + 1):
                return False
        elif kind is not float or not _is_finite(part):
            return False
    return True
