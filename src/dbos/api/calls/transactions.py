"""Calls of `DBOS` that have to do with transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbos.api import decorators
from dbos.api.facade import ClassProperty
from dbos.engine.context import current_scope
from dbos.errors import DBOSUsageError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def _sql_session() -> Session:
    """The SQLAlchemy session of the transaction that this code runs in.

    Raises:
        DBOSUsageError: this code does not run in a transaction.
    """
    step = current_scope().step
    if step is None or step.transaction is None:
        raise DBOSUsageError(
            "DBOS.sql_session was used outside of a transaction: use it in a function decorated "
            "with @DBOS.transaction(), on the thread that runs it."
        )
    session: Session = step.transaction.session
    return session


class TransactionCalls:
    """Transactions on the database of the application."""

    transaction: Final = staticmethod(decorators.transaction)
    sql_session: ClassProperty[Session] = ClassProperty(_sql_session)
