"""What runs the transactions of an engine, made from its settings when the first one runs."""

from __future__ import annotations

from sqlalchemy.engine import Engine

from dbos.config import Settings
from dbos.engine.transactions import Transactor
from dbos.storage.adopted import adopter
from dbos.storage.effects import TRANSACTIONS
from dbos.storage.protocol import Database
from dbos.transactions.drivers import BlockingDriver
from dbos.transactions.engines import engine_at
from dbos.transactions.transactor import Elsewhere, SeparateTransactor, SystemTransactor


def transactor(settings: Settings, database: Database) -> Transactor:
    """The transactor for the application database, which may be the system database."""
    address = settings.application_database
    assert address is not None, "without an application database no transaction is run"
    if settings.shares_database:
        given = settings.system_engine
        if isinstance(given, Engine):
            return SystemTransactor(given, database, is_ours=False)
        engine = engine_at(address, settings.application_pool, settings.engine_options)
        return SystemTransactor(engine, database, is_ours=True)
    engine = engine_at(address, settings.application_pool, settings.engine_options)
    adopt = adopter(address.kind, settings.schema)
    return SeparateTransactor(
        Elsewhere(BlockingDriver(engine), TRANSACTIONS, adopt), engine.dispose
    )
