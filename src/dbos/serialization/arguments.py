"""Arguments at dispatch: validation by type hints, and dates in portable arguments."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from datetime import date, datetime
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

from dbos.errors import DBOSInvalidInputError, DBOSUsageError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
ArgsValidator: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Arguments]

_NEEDS_PYDANTIC = "validation by type hints needs pydantic 2 or newer: pip install 'pydantic>=2'"
_PARSERS: MappingProxyType[type, Callable[[str], date]] = MappingProxyType(
    {datetime: datetime.fromisoformat, date: date.fromisoformat}
)


def pydantic_args_validator(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The marker to pass as `validate_args` for validation by the workflow's type hints.

        @DBOS.workflow(validate_args=pydantic_args_validator)
        def ship(order_id: int, when: datetime) -> None: ...

    Needs pydantic 2 or newer. Arguments are validated, and converted as pydantic does, when a
    queued or recovered run is dispatched. Calling the marker itself raises `DBOSUsageError`.
    """
    raise DBOSUsageError(
        "pydantic_args_validator is a marker for validate_args; to validate by hand, call "
        "make_pydantic_args_validator(func)"
    )


def make_pydantic_args_validator(func: Callable[..., Any]) -> ArgsValidator:
    """Build a validator of a function's arguments from its type hints.

    The validator takes `(args, kwargs)` and returns them converted, or raises
    `DBOSInvalidInputError` ("Argument validation failed for workflow: ...") that lists every bad
    argument. Arguments without a hint pass as they are. Raises `ImportError` without pydantic 2.
    """
    adapters = _adapters(func)
    signature = inspect.signature(func)
    name = getattr(func, "__qualname__", type(func).__qualname__)

    def validate(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        faults: list[str] = []
        try:
            bound = signature.bind_partial(*args, **kwargs)
        except TypeError as error:
            raise _invalid(name, [str(error)]) from None
        for parameter, label, value, put in _each(bound):
            if parameter in adapters:
                put(_validated(adapters[parameter], label, value, faults))
        faults.extend(_missing(signature, bound))
        if faults:
            raise _invalid(name, faults)
        return bound.args, bound.kwargs

    return validate


def resolve_validator(
    validate_args: ArgsValidator | None, func: Callable[..., Any]
) -> ArgsValidator | None:
    """The validator to run for a workflow function: the marker becomes one for its type hints."""
    if validate_args is pydantic_args_validator:
        return make_pydantic_args_validator(func)
    return validate_args


def coerce_portable_arguments(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Arguments:
    """Parse text arguments of parameters annotated exactly `datetime` or `date`.

    JSON has no dates, so they arrive as text. Text that does not parse is left alone, and so are
    arguments that do not fit the function at all: the call then fails as any such call does.
    """
    parsers = {
        name: _PARSERS[hint]
        for name, hint in _hints(func).items()
        if isinstance(hint, type) and hint in _PARSERS
    }
    if not parsers:
        return args, kwargs
    try:
        bound = inspect.signature(func).bind(*args, **kwargs)
    except TypeError:
        return args, kwargs
    for parameter, _, value, put in _each(bound):
        if parameter in parsers and type(value) is str:
            put(_parsed(parsers[parameter], value))
    return bound.args, bound.kwargs


def _parsed(parse: Callable[[str], date], text: str) -> date | str:
    try:
        return parse(text)
    except ValueError:
        return text


def _hints(func: Callable[..., Any]) -> dict[str, Any]:
    """The type hints of a function, without those that cannot be resolved."""
    function = inspect.unwrap(func)
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        # One hint names what exists for type checkers only. The others still count.
        return dict(_resolvable(function))


def _resolvable(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    scope = getattr(function, "__globals__", {})
    for name, hint in getattr(function, "__annotations__", {}).items():
        holder = SimpleNamespace(__annotations__={name: hint})
        try:
            yield from typing.get_type_hints(holder, globalns=scope, include_extras=True).items()
        except Exception:
            # A parameter without a usable hint is not converted.
            continue


def _each(
    bound: inspect.BoundArguments,
) -> Iterator[tuple[str, str, Any, Callable[[Any], None]]]:
    """Every bound argument: its parameter, its label, its value, and how to replace it."""
    for name, value in list(bound.arguments.items()):
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            items = list(value)
            for index, item in enumerate(items):
                yield name, f"{name}[{index}]", item, partial(items.__setitem__, index)
            bound.arguments[name] = tuple(items)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            for key, item in list(value.items()):
                yield name, key, item, partial(value.__setitem__, key)
        else:
            yield name, name, value, partial(bound.arguments.__setitem__, name)


def _missing(signature: inspect.Signature, bound: inspect.BoundArguments) -> Iterator[str]:
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in signature.parameters.items():
        required = parameter.default is inspect.Parameter.empty and parameter.kind not in optional
        if required and name not in bound.arguments:
            yield f"{name}: Missing required argument"


def _adapters(func: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    try:
        import pydantic
    except ImportError:
        raise ImportError(_NEEDS_PYDANTIC) from None
    if pydantic.VERSION.startswith(("0.", "1.")):
        raise ImportError(_NEEDS_PYDANTIC)
    adapters: dict[str, TypeAdapter[Any]] = {}
    for name, hint in _hints(func).items():
        try:
            adapters[name] = pydantic.TypeAdapter(hint)
        except pydantic.errors.PydanticSchemaGenerationError:
            # A class pydantic knows nothing about: then being an instance of it is all there is.
            anything = pydantic.ConfigDict(arbitrary_types_allowed=True)
            adapters[name] = pydantic.TypeAdapter(hint, config=anything)
    return adapters


def _validated(adapter: TypeAdapter[Any], label: str, value: Any, faults: list[str]) -> Any:
    import pydantic

    try:
        return adapter.validate_python(value)
    except pydantic.ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            place = ".".join([label, *map(str, fault["loc"])])
            faults.append(f"{place}: {fault['msg']}")
        return value


def _invalid(name: str, faults: list[str]) -> DBOSInvalidInputError:
    return DBOSInvalidInputError(
        f"Argument validation failed for workflow: {name}: {'; '.join(faults)}"
    )
