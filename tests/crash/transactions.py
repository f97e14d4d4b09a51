"""The transactions whose crashes are explored, each placed where the exploration puts them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from sqlalchemy import text

from dbos import DBOS, AsyncSQLAlchemyDatasource, SetWorkflowID


@DBOS.transaction(name="crash_increment")
def increment(amount: int) -> int:
    session = DBOS.sql_session
    session.execute(text("CREATE TABLE IF NOT EXISTS crash_effects (amount INTEGER)"))
    session.execute(text("INSERT INTO crash_effects VALUES (:amount)"), {"amount": amount})
    total: int = session.execute(text("SELECT SUM(amount) FROM crash_effects")).scalar_one()
    return total


@DBOS.transaction(name="crash_refuse")
def refuse() -> int:
    DBOS.sql_session.execute(text("INSERT INTO crash_effects VALUES (1000)"))
    raise LookupError("refused")


@DBOS.step(name="crash_double")
def double(value: int) -> int:
    return 2 * value


@DBOS.workflow(name="crash_effects")
def effects_workflow() -> list[int]:
    totals = [increment(1), double(increment(2))]
    try:
        refuse()
    except LookupError:
        totals.append(increment(3))
    return totals


def effects_of_a_workflow() -> list[int]:
    with SetWorkflowID("effects"):
        return effects_workflow()


def effects_outside_a_workflow() -> int:
    with SetWorkflowID("outside"):
        return increment(5)


def effects_in_a_datasource(
    source: AsyncSQLAlchemyDatasource,
) -> Callable[[], Coroutine[Any, Any, list[int]]]:
    """A scenario of async transactions on a datasource that has the table `crash_effects`."""

    @source.transaction(name="crash_add")
    async def add(amount: int) -> int:
        session = source.sql_session()
        await session.execute(
            text("INSERT INTO crash_effects VALUES (:amount)"), {"amount": amount}
        )
        total = await session.execute(text("SELECT SUM(amount) FROM crash_effects"))
        found: int = total.scalar_one()
        return found

    @source.transaction(name="crash_add_in_vain")
    async def add_in_vain() -> int:
        await source.sql_session().execute(text("INSERT INTO crash_effects VALUES (1000)"))
        raise LookupError("refused")

    @DBOS.workflow(name="crash_datasource")
    async def datasource_workflow() -> list[int]:
        totals = [await add(1), await add(2)]
        try:
            await add_in_vain()
        except LookupError:
            totals.append(await add(3))
        return totals

    async def scenario() -> list[int]:
        with SetWorkflowID("effects"):
            return await datasource_workflow()

    return scenario
