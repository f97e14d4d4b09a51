"""What a web request means to us: a DBOS context, and the id of the first workflow in it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from dbos.api.options import DBOSContextEnsure, SetWorkflowID

IDEMPOTENCY_HEADER = "dbos-idempotency-key"


def request_context(idempotency_key: str | None) -> AbstractContextManager[None]:
    """The context of one request.

    Raises:
        DBOSInvalidInputError: the key cannot be the id of a workflow.
    """
    if idempotency_key is None or not idempotency_key.strip():
        return DBOSContextEnsure()
    return SetWorkflowID(idempotency_key)
