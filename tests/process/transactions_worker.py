"""The program under test: pays orders in transactions, and may be killed at any time.

    python -m tests.process.transactions_worker SYSTEM_URL APPLICATION_URL|- DIRECTORY SEAT ORDERS

It starts the orders of its seat, each under its own id, so that a later life finds what an earlier
one began. Each payment adds a row to `payments` and the amount to `accounts`, without any
constraint that would hide a second one. What a transaction returned is noted in a file of the
process, flushed to the disk, before the workflow goes on.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from sqlalchemy import text

from dbos import DBOS, SetWorkflowID, WorkflowHandle
from tests.process.transactions_plan import AMOUNT, PARTS, order_id

SYSTEM_URL, APPLICATION_URL, DIRECTORY, SEAT, ORDERS = sys.argv[1:]
NOTES = os.open(
    Path(DIRECTORY) / f"{time.monotonic_ns()}-{os.getpid()}.paid",
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    0o644,
)


@DBOS.transaction()
def pay(order: str, part: int) -> int:
    session = DBOS.sql_session
    row = {"order_id": order, "part": part, "amount": AMOUNT}
    session.execute(
        text("INSERT INTO payments (order_id, part, amount) VALUES (:order_id, :part, :amount)"),
        row,
    )
    session.execute(text("UPDATE accounts SET balance = balance + :amount WHERE id = :part"), row)
    return AMOUNT


@DBOS.step()
def note(order: str, part: int) -> None:
    """The payment is durable by now: that it returned must never be untrue."""
    os.write(NOTES, f"{order} {part}\n".encode())
    os.fsync(NOTES)


@DBOS.workflow()
def settle(order: str) -> int:
    total = 0
    for part in range(PARTS):
        total += pay(order, part)
        note(order, part)
    return total


@DBOS.workflow()
async def settle_async(order: str) -> int:
    total = 0
    for part in range(PARTS):
        total += await asyncio.to_thread(pay, order, part)
        note(order, part)
    return total


def main() -> None:
    DBOS(
        config={
            "name": "payments",
            "system_database_url": SYSTEM_URL,
            "log_level": "ERROR",
            **({} if APPLICATION_URL == "-" else {"application_database_url": APPLICATION_URL}),
        }
    )
    DBOS.launch()
    print("ready", flush=True)
    handles: list[WorkflowHandle[int]] = []
    for number in range(int(ORDERS)):
        order = order_id(int(SEAT), number)
        with SetWorkflowID(order):
            workflow = settle_async if number % 2 else settle
            handles.append(DBOS.start_workflow(workflow, order))
    expected = AMOUNT * PARTS
    wrong = [handle.workflow_id for handle in handles if handle.get_result() != expected]
    DBOS.destroy()
    if wrong:
        raise SystemExit(f"wrong results: {wrong}")


if __name__ == "__main__":
    main()
