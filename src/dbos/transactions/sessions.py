"""The session of a transaction: the user works in it, and only we end it."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, NoReturn, cast

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session, sessionmaker

from dbos.errors import DBOSUsageError
from dbos.transactions.rows import with_named_rows

ENDED_BY_THE_BODY = (
    "The body of a transaction called {call}() on its session: remove the call. The transaction "
    "commits when the function returns and rolls back when it raises; for a part that may fail, "
    "use `with session.begin_nested():`."
)


class GuardedSession(Session):
    """A session that keeps its transaction open until its owner ends it."""

    was_ended: str | None = None
    """What the body called to end the transaction, if it did."""
    _shown: object = None

    @property
    def shown(self) -> object:
        """What the user works in: this session, or the `AsyncSession` around it."""
        return self if self._shown is None else self._shown

    def show_as(self, shown: object) -> None:
        """Have the user work in something that is around this session."""
        self._shown = shown

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        return with_named_rows(super().execute(*args, **kwargs))

    def commit(self) -> NoReturn:
        """Refused: the transaction commits when its function returns."""
        self._refuse("commit")

    def rollback(self) -> NoReturn:
        """Refused: the transaction rolls back when its function raises."""
        self._refuse("rollback")

    def close(self) -> NoReturn:
        """Refused: the session is closed for the function."""
        self._refuse("close")

    def refuse_if_ended(self, connection: Connection) -> None:
        """Raise if the body ended the transaction, even if it caught the refusal."""
        if self.was_ended is not None:
            raise DBOSUsageError(ENDED_BY_THE_BODY.format(call=self.was_ended))
        transaction = connection.get_transaction()
        if transaction is None or not transaction.is_active:
            raise DBOSUsageError(ENDED_BY_THE_BODY.format(call="commit"))

    def release(self) -> None:
        """Forget every object; the connection's owner has ended the transaction."""
        super().close()
        self._shown = None

    def _refuse(self, call: str) -> NoReturn:
        self.was_ended = call
        raise DBOSUsageError(ENDED_BY_THE_BODY.format(call=call))


def guarded(maker: sessionmaker[Any] | None, connection: Connection) -> GuardedSession:
    """A guarded session of the user's own kind, bound to a connection."""
    if maker is None:
        return GuardedSession(bind=connection, expire_on_commit=False)
    options = {key: value for key, value in maker.kw.items() if key not in ("bind", "binds")}
    return guarded_kind(maker.class_)(bind=connection, **options)


def guarded_kind(plain: type[Session]) -> type[GuardedSession]:
    """The user's own kind of session, guarded."""
    return _guarded_kind(cast("Hashable", plain))


@lru_cache(maxsize=16)
def _guarded_kind(plain: Hashable) -> type[GuardedSession]:
    kind = cast("type[Any]", plain)
    if issubclass(kind, GuardedSession):
        return kind
    return type(kind.__name__, (GuardedSession, kind), {})
