"""Why a value cannot be stored, in words that name its type and never its content."""

from __future__ import annotations

import types
from collections.abc import Iterable

from dbos.errors import DBOSSerializationError

OPT_IN = "set serializer=PickleSerializer()"

_NOT_EVEN_PICKLE = "(PickleSerializer cannot store it either)"
_MAX_SEGMENTS = 16
_MAX_PATH = 500
_MAX_TEXT = 4000

_GENERATORS = frozenset(
    {
        types.GeneratorType,
        types.AsyncGeneratorType,
        types.CoroutineType,
        map,
        filter,
        zip,
        enumerate,
        reversed,
    }
)
_FUNCTIONS = frozenset(
    {
        types.FunctionType,
        types.BuiltinFunctionType,
        types.MethodType,
        types.MethodWrapperType,
        types.WrapperDescriptorType,
        types.MethodDescriptorType,
    }
)
_LOCK_MODULES = frozenset(
    {"_thread", "threading", "asyncio.locks", "asyncio.queues", "multiprocessing.synchronize"}
)
_SOCKET_MODULES = frozenset({"_socket", "socket", "ssl", "_ssl"})
_HANDLES = ("Handle", "HandleAsync")
_CONVERTIBLE = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset)


def refusal(path: str, value: object, reason: str) -> DBOSSerializationError:
    """The error for a value at a path."""
    kind = type_name(type(value))
    return DBOSSerializationError(f"cannot store {path}: {kind} {reason}", path, kind)


def reason_for(value: object) -> str:
    """Say why the typed format does not take this kind of value, and what to do instead."""
    kind = type(value)
    names = {(base.__module__, base.__name__) for base in kind.__mro__}
    modules = {module for module, _ in names}
    if hint := _hint_of_use(value, kind, names, modules):
        return f"is not serializable; {hint}"
    for builtin in _CONVERTIBLE:
        if builtin in kind.__mro__:
            advice = f"convert it with {builtin.__name__}(...)"
            return (
                f"is a subclass of {builtin.__name__} and not stored as one; {advice}, or {OPT_IN}"
            )
    if kind in (bytearray, memoryview):
        return f"is not serializable; convert it with bytes(...), or {OPT_IN}"
    return f"is not serializable; pass plain data, or {OPT_IN}"


def type_name(kind: type) -> str:
    """The name of a type as a reader of its module would write it."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def shown_path(segments: Iterable[str]) -> str:
    """Join a path, leaving out its middle where a value is nested very deeply."""
    steps = list(segments)
    if len(steps) > _MAX_SEGMENTS:
        steps = [*steps[: _MAX_SEGMENTS - 4], "...", *steps[-4:]]
    path = "".join(steps)
    return path if len(path) <= _MAX_PATH else path[:_MAX_PATH] + "..."


def key_segment(key: object) -> str:
    """The step of a path into a mapping."""
    if type(key) is str:
        return f"[{key[:60]!r}]"
    if type(key) in (int, bool):
        return f"[{key!r}]"
    return f"[<{type_name(type(key))}>]"


def text_of(value: object) -> str:
    """The text that stands for a part of an error that cannot be stored. Never raises."""
    try:
        text = str(value)
    except Exception:
        return f"<{type_name(type(value))}>"
    # A str subclass may bring methods of its own, and text that no database can hold.
    return storable(str.__str__(text)[:_MAX_TEXT])


def storable(text: str) -> str:
    """Replace lone surrogates, which have no UTF-8 form."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _hint_of_use(
    value: object, kind: type, names: set[tuple[str, str]], modules: set[str]
) -> str | None:
    if any(name.endswith(_HANDLES) for _, name in names) and hasattr(kind, "get_result"):
        return f"pass its workflow_id and use DBOS.retrieve_workflow {_NOT_EVEN_PICKLE}"
    if any(module.partition(".")[0] == "sqlalchemy" for module in modules):
        return f"pass dict(row) or tuple(row), or plain values of the object, or {OPT_IN}"
    if modules & _LOCK_MODULES:
        return f"create the lock where it is used {_NOT_EVEN_PICKLE}"
    if modules & _SOCKET_MODULES:
        return f"open the socket in the step that uses it {_NOT_EVEN_PICKLE}"
    if "_io" in modules:
        return f"open the file in the step that uses it {_NOT_EVEN_PICKLE}"
    if kind in _GENERATORS:
        return f"pass a list of its items {_NOT_EVEN_PICKLE}"
    if kind in _FUNCTIONS:
        return f"pass a name and look the function up where it is called, or {OPT_IN}"
    if isinstance(value, type):
        return f"pass the name of the class, or {OPT_IN}"
    return None
