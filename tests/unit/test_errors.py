"""The error hierarchy: codes, bases, texts, and copies through pickle and the default format."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from dbos import error
from dbos.serialization import Codec, JSONSerializer, Stored

CODEC = Codec(JSONSerializer())

# One row for each class: the error, its code, the builtin it is besides, a fragment of its text.
ROWS: list[tuple[BaseException, int | None, type, str]] = [
    (error.DBOSWorkflowConflictIDError("w"), 1, BaseException, "no longer owns workflow w"),
    (error.DBOSRecoveryError("w", "why"), 2, Exception, "why"),
    (error.DBOSInitializationError("m"), 3, Exception, "m"),
    (error.DBOSWorkflowFunctionNotFoundError("w", "f is not registered"), 4, Exception, "f is not"),
    (error.DBOSWorkflowFunctionNotFoundError("w"), 4, Exception, "is not registered"),
    (
        error.DBOSNonExistentWorkflowError("`send` destination", "w"),
        5,
        Exception,
        "Non-existent `send` destination workflow ID: w",
    ),
    (error.MaxRecoveryAttemptsExceededError("w", 5), 6, Exception, "5"),
    (error.DBOSMaxStepRetriesExceeded("s", 3, [ValueError(1)]), 7, Exception, "s has exceeded"),
    (error.DBOSNotAuthorizedError("no"), 8, Exception, "no"),
    (error.DBOSConflictingWorkflowError("w"), 9, Exception, "already exists with a different"),
    (error.DBOSWorkflowCancelledError("gone"), 10, BaseException, "gone"),
    (
        error.DBOSUnexpectedStepError("w", 3, "now", "then"),
        11,
        Exception,
        "Check that your workflow is deterministic",
    ),
    (error.DBOSQueueDeduplicatedError("w", "q", "d"), 12, Exception, "d"),
    (error.DBOSAwaitedWorkflowCancelledError("w"), 13, Exception, "was cancelled"),
    (error.DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded("w"), 14, Exception, "w"),
    (error.DBOSPatchNondeterminismError("w", "p", "d"), 15, Exception, "concurrently"),
    (error.DBOSStreamTimeoutError("w", "k", 2.5), 16, Exception, "within 2.5"),
    (error.DBOSStreamNondeterminismError("w", "k"), 17, Exception, "k"),
    (error.DBOSStepTimeoutError("s", 2), 18, Exception, "s timed out after 2"),
    (
        error.DBOSConflictingRegistrationError("f"),
        25,
        Exception,
        "f is already registered with a conflicting function type",
    ),
    (error.DBOSQueryTimeoutError(30), 26, Exception, "30 seconds"),
    (error.DBOSWorkflowIDInUseError("w", "PENDING", "f"), 27, Exception, "is already in use"),
    (error.DBOSStepNondeterminismError("w", 4), 28, Exception, "4"),
    (error.DBOSSerializationError("m", "args[0]", "T"), 100, TypeError, "m"),
    (error.DBOSInvalidInputError("m"), 101, ValueError, "m"),
    (error.DBOSUsageError("m"), 102, AssertionError, "m"),
    (error.DBOSEventLoopError("m"), 103, RuntimeError, "m"),
    (error.DBOSStoredDataError("m", "w", 2, "output"), 104, Exception, "m"),
    (error.DBOSDatabaseError("m", "42501"), 105, Exception, "m"),
    (error.DBOSTypeError("not methods"), 106, TypeError, "not methods"),
    (error.DBOSException("m", 77), 77, Exception, "DBOS Error 77: m"),
    (error.DBOSException("m"), None, Exception, "DBOS Error: m"),
    (error.DBOSBaseException("m", 78), 78, BaseException, "DBOS Error 78: m"),
    (error.RestoredError("a.B", "text", (1, "x")), None, Exception, "text"),
    (error.PortableWorkflowError("text", "B", 5, {"k": 1}), None, Exception, "text"),
]
ERRORS = [row[0] for row in ROWS]


def _name(value: object) -> str | None:
    return type(value).__name__ if isinstance(value, BaseException) else None


def _parts(value: BaseException) -> tuple[Any, ...]:
    attributes = dict(vars(value))
    # Exceptions are not equal to their copies.
    if "errors" in attributes:
        attributes["errors"] = list(map(repr, attributes["errors"]))
    return type(value), value.args, attributes, str(value)


@pytest.mark.parametrize(("raised", "code", "builtin", "fragment"), ROWS, ids=_name)
def test_an_error_has_its_code_its_builtin_base_and_its_fragment(
    raised: BaseException, code: int | None, builtin: type, fragment: str
) -> None:
    assert isinstance(raised, builtin)
    assert fragment in str(raised)
    assert getattr(raised, "dbos_error_code", None) == code


@pytest.mark.parametrize("raised", ERRORS, ids=_name)
def test_an_error_is_a_dbos_exception_of_exactly_one_root(raised: BaseException) -> None:
    is_stand_in = isinstance(raised, error.RestoredError | error.PortableWorkflowError)

    roots = [isinstance(raised, error.DBOSException), isinstance(raised, error.DBOSBaseException)]

    assert sum(roots) == (0 if is_stand_in else 1)
    assert isinstance(raised, Exception) is not roots[1]


@pytest.mark.parametrize("raised", ERRORS, ids=_name)
def test_an_error_keeps_everything_through_pickle_and_copy(raised: BaseException) -> None:
    raised.add_note("a note")

    for copied in (pickle.loads(pickle.dumps(raised)), copy.copy(raised)):
        assert _parts(copied) == _parts(raised)


@pytest.mark.parametrize("raised", ERRORS, ids=_name)
def test_an_error_keeps_everything_through_the_default_format(raised: BaseException) -> None:
    stored = CODEC.dump_error(raised, "json")

    assert _parts(CODEC.load_error(stored, "json", Stored())) == _parts(raised)


def test_every_public_class_of_the_module_is_covered_here() -> None:
    covered = {type(raised).__name__ for raised in ERRORS} | {"DBOSErrorCode"}

    assert covered == set(error.__all__)


def test_constructor_parameters_are_attributes() -> None:
    raised = error.DBOSUnexpectedStepError("w", 3, "now", "then")
    refused = error.DBOSSerializationError("m", path="args[0]", type_name="T")
    failed = error.DBOSMaxStepRetriesExceeded("s", 3, [ValueError("x")])

    assert (raised.workflow_id, raised.step_id) == ("w", 3)
    assert (raised.expected_name, raised.recorded_name) == ("now", "then")
    assert (refused.message, refused.path, refused.type_name) == ("m", "args[0]", "T")
    assert (failed.step_name, failed.max_retries) == ("s", 3)
    assert [str(one) for one in failed.errors] == ["x"]


def test_only_a_lack_of_authorization_has_a_status_code() -> None:
    codes = {type(raised).__name__: getattr(raised, "status_code", None) for raised in ERRORS}

    assert {name: code for name, code in codes.items() if code is not None} == {
        "DBOSNotAuthorizedError": 403
    }


def test_every_numbered_class_has_its_number_in_the_enum() -> None:
    numbered = {code for raised, code, _, _ in ROWS if type(raised) not in _ROOTS and code}

    assert numbered == {member.value for member in error.DBOSErrorCode}


def test_a_stream_that_ended_early_does_not_speak_of_time() -> None:
    text = str(error.DBOSStreamTimeoutError("w", "k"))

    assert "No value arrived on stream" in text
    assert "within" not in text


def test_a_restored_error_tells_the_original_name_text_and_arguments() -> None:
    restored = error.RestoredError("a.B", "text", (1, "x"))

    assert (restored.name, str(restored), restored.args) == ("a.B", "text", (1, "x"))


def test_portable_error_content_leaves_out_what_is_none() -> None:
    full = error.PortableWorkflowError("m", "N", code="E1", data=[1])
    bare = error.PortableWorkflowError("m", "N")

    assert full.to_error_data() == {"name": "N", "message": "m", "code": "E1", "data": [1]}
    assert bare.to_error_data() == {"name": "N", "message": "m"}


_ROOTS = (error.DBOSException, error.DBOSBaseException)
