"""The transactions whose crashes are explored, each placed where the exploration puts them."""

from __future__ import annotations

from sqlalchemy import text

from dbos import DBOS, SetWorkflowID


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
