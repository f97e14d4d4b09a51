"""One attempt of a transaction: a connection, a session, the body, and one commit or none."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy.engine import Connection, Engine, RootTransaction
from sqlalchemy.exc import SQLAlchemyError

from dbos.engine.io import Io
from dbos.errors import DBOSUsageError
from dbos.storage.sqlite import BEGIN_WRITING
from dbos.transactions.faults import FAULTS, Passing, is_passing, watch
from dbos.transactions.sessions import GuardedSession

SessionFactory = Callable[[Connection], GuardedSession]

FAILED_STATEMENT = (
    "A statement of the transaction failed and the function went on: PostgreSQL accepts nothing "
    "more in such a transaction. Let the error pass, or put the statement in a "
    "`with session.begin_nested():` block."
)


def plain_session(connection: Connection) -> GuardedSession:
    return GuardedSession(bind=connection, expire_on_commit=False)


class Attempt:
    """An open transaction on a connection of our own."""

    def __init__(
        self,
        connection: Connection,
        root: RootTransaction,
        session: GuardedSession,
        faults: list[BaseException],
    ) -> None:
        self.connection = connection
        self.session: object = session.shown
        self.io: Io | None = None
        self._root = root
        self._guarded = session
        self._faults = faults
        self._is_committing = False

    def settle(self) -> None:
        """After the body: write out what the session still holds."""
        self._guarded.refuse_if_ended(self.connection)
        self._guarded.flush()

    def commit(self) -> None:
        self._guarded.refuse_if_ended(self.connection)
        self._is_committing = True
        self._root.commit()

    def roll_back(self) -> None:
        # A connection that is lost has rolled back by itself.
        with suppress(SQLAlchemyError):
            self._root.rollback()

    def abandon(self) -> None:
        """Drop the connection without a word to the server, which then rolls back."""
        with suppress(SQLAlchemyError):
            self.connection.invalidate()

    def judged(self, error: Exception) -> Exception:
        """What an error of the body, of our statements or of the commit amounts to."""
        if is_passing(error) or (self._is_committing and isinstance(error, OSError)):
            return Passing(error, in_doubt=self._is_committing)
        if _is_aftermath(error):
            # The statement that failed first was caught by the body; what it was counts.
            for fault in self._faults:
                if is_passing(fault):
                    return Passing(fault, in_doubt=False)
            return DBOSUsageError(FAILED_STATEMENT)
        return error


@contextmanager
def attempt(
    engine: Engine,
    isolation: str,
    make_session: SessionFactory = plain_session,
    *,
    writes: bool = True,
) -> Generator[Attempt, None, None]:
    """An open transaction; rolled back at the end of the block unless it was committed.

    Raises `Passing` in place of faults that may pass.
    """
    watch(engine)
    faults: list[BaseException] = []
    try:
        connection = engine.connect()
    except Exception as error:
        # asyncpg tells with an error of the system that the server cannot be reached.
        if is_passing(error) or isinstance(error, OSError):
            raise Passing(error, in_doubt=False) from error
        raise
    try:
        root = begin(connection, isolation, faults, writes=writes)
        session = make_session(connection)
    except Exception as error:
        connection.close()
        if is_passing(error):
            raise Passing(error, in_doubt=False) from error
        raise
    opened = Attempt(connection, root, session, faults)
    try:
        yield opened
    except Exception as error:
        opened.roll_back()
        judged = opened.judged(error)
        if judged is error:
            raise
        raise judged from error
    except BaseException:
        opened.roll_back()
        raise
    finally:
        session.release()
        _close(connection)


def begin(
    connection: Connection, isolation: str, faults: list[BaseException], *, writes: bool = True
) -> RootTransaction:
    """Begin; on SQLite with the write lock, since waiting for it later could never end."""
    if connection.dialect.name == "sqlite":
        connection.execution_options(**{FAULTS: faults})
        root = connection.begin()
        driver: Any = connection.connection.driver_connection
        if writes and not driver.in_transaction:
            connection.exec_driver_sql(BEGIN_WRITING)
        return root
    connection.execution_options(isolation_level=isolation, **{FAULTS: faults})
    return connection.begin()


def _close(connection: Connection) -> None:
    with suppress(SQLAlchemyError):
        connection.close()


def _is_aftermath(error: BaseException) -> bool:
    return getattr(getattr(error, "orig", None), "sqlstate", None) == "25P02"
