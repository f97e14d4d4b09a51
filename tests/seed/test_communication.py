"""The seed's examples of messages, events, sleep and timeouts run as printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID

EXAMPLES = Path(__file__).parents[2] / "examples" / "seed"


@pytest.fixture(autouse=True)
def launched(database_url: str) -> Iterator[None]:
    DBOS.destroy(destroy_registry=True)
    DBOS(config={"name": "my-app", "system_database_url": database_url})
    DBOS.launch()
    yield
    DBOS.destroy(destroy_registry=True)


def run_example(name: str, **given: Any) -> dict[str, Any]:
    """Run an example as a program, with the names it takes for granted; its globals."""
    path = EXAMPLES / f"{name}.py"
    program: dict[str, Any] = {"__name__": "__main__", "DBOS": DBOS, **given}
    exec(compile(path.read_text(), str(path), "exec"), program)
    return program


@pytest.mark.parametrize(
    ("status", "outcome"), [("completed", "order_completed"), ("refused", "payment_failed")]
)
def test_messages(status: str, outcome: str) -> None:
    program = run_example("workflow_communication_messages")
    with SetWorkflowID("order-1"):
        handle = DBOS.start_workflow(program["checkout_workflow"], "order-1")

    program["payment_webhook"]("order-1", status)

    assert handle.get_result() == outcome


def test_events() -> None:
    def generate_payment_url(order: dict[str, Any]) -> str:
        return f"https://pay.example.com/{order['id']}"

    program = run_example(
        "workflow_communication_events", generate_payment_url=generate_payment_url
    )

    answer = program["checkout_handler"]({"id": 7})

    assert answer == {"redirect_url": "https://pay.example.com/7"}


def test_durable_sleep() -> None:
    def execute_task(task: str) -> str:
        return f"{task} done"

    program = run_example("durable_sleep", execute_task=execute_task)

    assert program["scheduled_task_workflow"](1, "backup") == "backup done"


def test_workflow_timeout() -> None:
    program = run_example("workflow_timeout")

    assert program["result"] == "completed"
