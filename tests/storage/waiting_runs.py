"""Rows on queues, and the claims of made-up processes, for the tests of the claim."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count

from dbos.storage import claims, executors, served, workflows
from dbos.storage.claims import Claimant, Claimed, ClaimRequest, Runnable
from dbos.storage.protocol import Database, Row, Statement
from dbos.storage.queue_limits import QueueLimits
from dbos.storage.rows import ExecutorRow, FinishRow, NewRun

QUEUE = "work"
APPLICATION = "shop"


@dataclass
class Process:
    """A made-up process that claims from one queue."""

    database: Database
    incarnation: str = "one"
    version: str = "v1"
    functions: tuple[Runnable, ...] = (Runnable("ship", "h1"),)
    instances: tuple[tuple[str, str], ...] = ()
    formats: tuple[str, ...] = ("json",)
    is_latest: bool = True
    after: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    tokens: count[int] = field(default_factory=count)

    def claim(
        self,
        limits: QueueLimits | None = None,
        *,
        batch: int = 100,
        threads: int | None = None,
    ) -> list[str]:
        """Claim once; the ids, in the order of the queue."""
        return [run.workflow_id for run in self.claimed(limits, batch, threads).runs]

    def claimed(
        self, limits: QueueLimits | None = None, batch: int = 100, threads: int | None = None
    ) -> Claimed:
        request = self.request(limits or QueueLimits(QUEUE), batch, threads)
        with self.database.write() as tx:
            answer = claims.claim_all(tx, [request])[0]
        self.after[request.limits.name] = answer.after
        return answer

    def request(self, limits: QueueLimits, batch: int, threads: int | None = None) -> ClaimRequest:
        """What this process asks for."""
        with self.database.read() as tx:
            states = served.look(tx, APPLICATION, [limits.name]).queues
        return ClaimRequest(
            Claimant(
                self.incarnation,
                self.incarnation,
                APPLICATION,
                self.version,
                is_latest=self.is_latest,
                any_version=False,
                by_source=True,
                formats=self.formats,
                functions=self.functions,
                instances=self.instances,
            ),
            limits,
            f"{self.incarnation}-{next(self.tokens)}",
            batch,
            threads,
            has_keys=any(state.has_keys for state in states if state.name == limits.name),
            after=self.after.get(limits.name),
        )

    def claim_all(self, limits: QueueLimits | None = None, *, batch: int = 100) -> list[str]:
        """Claim until nothing more can start."""
        taken: list[str] = []
        while True:
            answer = self.claimed(limits, batch)
            taken += [run.workflow_id for run in answer.runs]
            if not answer.is_more:
                return taken

    def with_other(self, incarnation: str) -> Process:
        return replace(self, incarnation=incarnation, after={}, tokens=count())


def waiting(workflow_id: str, **fields: object) -> NewRun:
    """A run that waits on the queue."""
    run = NewRun(
        workflow_uuid=workflow_id,
        status="ENQUEUED",
        name="ship",
        inputs="{}",
        serialization="json",
        owner_xid="nobody",
        application_name=APPLICATION,
        application_version="v1",
        queue_name=QUEUE,
    )
    return replace(run, **fields)  # type: ignore[arg-type]


def enqueue(database: Database, *runs: NewRun) -> None:
    """Enqueue runs, each by a call of its own."""
    for run in runs:
        with database.write() as tx:
            workflows.admit_rows(tx, [run])


def finish(database: Database, *workflow_ids: str) -> None:
    """End running runs with success."""
    for workflow_id in workflow_ids:
        row = find(database, workflow_id, "owner_xid")
        with database.write() as tx:
            ended = FinishRow(workflow_id, "SUCCESS", None, None, row[0])
            assert workflows.finish_rows(tx, [ended]) == [True]


def find(database: Database, workflow_id: str, columns: str) -> Row:
    """Columns of a run as they are stored."""
    select = Statement(f"SELECT {columns} FROM {{workflow_status}} WHERE workflow_uuid = :id")
    with database.read() as tx:
        row = tx.one(select, id=workflow_id)
    assert row is not None
    return row


def change(database: Database, workflow_id: str, assignments: str, **values: object) -> None:
    """Change a stored run by hand."""
    update = Statement(f"UPDATE {{workflow_status}} SET {assignments} WHERE workflow_uuid = :id")
    with database.write() as tx:
        assert tx.run(update, id=workflow_id, **values) == 1


def live(database: Database, incarnation: str, capabilities: str) -> None:
    """Have a process live that says it can run something."""
    row = ExecutorRow(
        incarnation, "local", APPLICATION, "v1", "compatible", "h", 1, "", 60_000, capabilities
    )
    with database.write() as tx:
        executors.renew_rows(tx, [row])
