"""Transactions of an engine on demand: SQLAlchemy is loaded by the first one that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbos.config import Settings
from dbos.engine.engine import Runtime
from dbos.engine.transactions import TransactionCall, Transactor
from dbos.storage import effects
from dbos.storage.effects import Records
from dbos.storage.open import OpenOptions, open_database
from dbos.storage.protocol import Database


class TransactorOnDemand:
    """Makes the transactor of an engine when the first transaction runs."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._made: dict[str, Transactor] = {}

    async def run(self, rt: Runtime, placed: TransactionCall) -> Any:
        __tracebackhide__ = True
        return await self._transactor().run(rt, placed)

    async def forget(self, rt: Runtime, workflow_ids: Sequence[str], start_step: int = 0) -> None:
        """Remove the outcomes kept in an application database of its own."""
        address = self._settings.application_database
        if address is None or self._settings.shares_database or not workflow_ids:
            return
        records = Records(tuple(workflow_ids), start_step)
        settings = self._settings

        async def commit() -> None:
            effects.forget_at(address, settings.schema, settings.application_pool, records)

        await rt.io.commit_carried(effects.forget, records, commit)

    def close(self) -> None:
        for transactor in list(self._made.values()):
            transactor.close()

    def _transactor(self) -> Transactor:
        found = self._made.get("one")
        if found is None:
            from dbos.transactions.build import transactor

            # Of several threads that come first one wins; the engine of another opened nothing.
            made = transactor(self._settings, self._database)
            found = self._made.setdefault("one", made)
        return found


def open_system_database(settings: Settings, options: OpenOptions) -> Database:
    """The system database, through the user's engine if the configuration gives one."""
    if settings.system_engine is None:
        return open_database(settings.system_database, options)
    from dbos.transactions.engines import connections_of

    source = connections_of(settings.system_engine)
    return open_database(settings.system_database, options, source)


def transactor_for(settings: Settings, database: Database) -> TransactorOnDemand | None:
    """What runs an engine's transactions; None if the configuration wants none."""
    if settings.application_database is None:
        return None
    return TransactorOnDemand(settings, database)


def prepare_application_database(settings: Settings) -> None:
    """At launch: have the application database ready, if it is one of its own."""
    address = settings.application_database
    if address is None or settings.shares_database:
        return
    address.check()
    effects.prepare_at(
        address,
        settings.schema,
        settings.application_pool,
        run_migrations=settings.run_migrations,
    )
