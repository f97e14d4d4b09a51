"""Stored payloads: values, errors and arguments as text, in the format their row names."""

from __future__ import annotations

from dbos.serialization.arguments import (
    ArgsValidator,
    coerce_portable_arguments,
    make_pydantic_args_validator,
    pydantic_args_validator,
    resolve_validator,
)
from dbos.serialization.codec import Codec
from dbos.serialization.pickled import PickleSerializer
from dbos.serialization.portable import DBOSPortableJSONSerializer
from dbos.serialization.serializer import Serializer, WorkflowSerializationFormat
from dbos.serialization.stored import Stored
from dbos.serialization.typed import JSONSerializer

__all__ = [
    "ArgsValidator",
    "Codec",
    "DBOSPortableJSONSerializer",
    "JSONSerializer",
    "PickleSerializer",
    "Serializer",
    "Stored",
    "WorkflowSerializationFormat",
    "coerce_portable_arguments",
    "make_pydantic_args_validator",
    "pydantic_args_validator",
    "resolve_validator",
]
