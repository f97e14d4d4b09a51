"""Dispatch: claims runs from their queues and gives each a thread or a loop."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dbos.engine.context import Authentication
from dbos.engine.engine import Engine
from dbos.engine.execution import Execution
from dbos.engine.io import Call
from dbos.engine.registry import Registration
from dbos.engine.replay import Replay
from dbos.errors import MaxRecoveryAttemptsExceededError
from dbos.runtime.committer import Committer
from dbos.runtime.reader import Reader
from dbos.runtime.service import Service
from dbos.serialization import (
    DBOSPortableJSONSerializer,
    coerce_portable_arguments,
    resolve_validator,
)
from dbos.serialization.codec import Stored
from dbos.storage import management, recovery, steps, workflows
from dbos.storage.management import Command
from dbos.storage.recovery import ClaimRequest
from dbos.storage.rows import ClaimedRun, FinishRow, RecordedStep
from dbos.storage.workflows import DeadLetter
from dbos.telemetry import log

BATCH = 200
FALLBACK_S = 1.0


class Dispatcher(Service):
    """Claims bounded batches from the queues that this process serves."""

    name = "dispatcher"

    def __init__(
        self,
        engine: Engine,
        committer: Committer,
        reader: Reader,
        request: Callable[[str, int], ClaimRequest],
    ) -> None:
        super().__init__()
        self._engine = engine
        self._committer = committer
        self._reader = reader
        self._request = request
        self.queues = (recovery.INTERNAL_QUEUE,)

    def tick(self) -> float:
        is_full = [self._serve(queue) for queue in self.queues]
        return 0.0 if any(is_full) else FALLBACK_S

    def _serve(self, queue: str) -> bool:
        """Claim and start one batch of a queue; whether more may be waiting."""
        request = self._request(queue, BATCH)
        if not request.claimant.functions:
            return False
        claimed = self._committer.run(recovery.claim, request, queue)
        if claimed:
            histories = self._histories([run for run in claimed if run.recovery_attempts > 1])
            for run in claimed:
                self._start(run, histories.get(run.workflow_id, []))
        return len(claimed) == request.batch

    def _histories(self, runs: list[ClaimedRun]) -> dict[str, list[RecordedStep]]:
        """The recorded operations of runs that have begun before, in one read."""
        if not runs:
            return {}
        histories: dict[str, list[RecordedStep]] = {}
        for step in self._reader.run(steps.load, [run.workflow_id for run in runs]):
            histories.setdefault(step.workflow_id, []).append(step)
        return histories

    def _start(self, run: ClaimedRun, history: list[RecordedStep]) -> None:
        """Start one claimed run. What is wrong with its row concerns this run alone."""
        target = self._engine.registry.find(run.name)
        assert target is not None, "claims name registered functions only"
        limit = target.max_recovery_attempts
        if limit is not None and run.recovery_attempts > limit + 1:
            self._dead_letter(run, limit)
            return
        if run.deadline_ms is not None and run.deadline_ms <= self._reader.now_ms():
            self._committer.run(management.cancel, Command((run.workflow_id,)), run.workflow_id)
            return
        try:
            execution = self._execution(run, target, history)
        except Exception as error:
            self._end_with(run, error)
            return
        self._engine.launcher.start(execution)

    def _execution(
        self, run: ClaimedRun, target: Registration, history: list[RecordedStep]
    ) -> Execution:
        codec = self._engine.codec
        where = Stored(run.workflow_id, None, "inputs")
        args, kwargs = codec.load_arguments(run.inputs, run.serialization, where)
        validate = resolve_validator(target.validate_args, target.function)
        if validate is not None:
            args, kwargs = validate(args, kwargs)
        elif run.serialization == DBOSPortableJSONSerializer().name():
            args, kwargs = coerce_portable_arguments(target.function, args, kwargs)
        return Execution(
            self._engine,
            run.workflow_id,
            run.name,
            run.claim,
            Call(target.body, args, kwargs, target.is_async),
            format=run.serialization or codec.native,
            authentication=_authentication(run),
            deadline_ms=run.deadline_ms,
            replay=Replay(history),
            is_background=True,
        )

    def _dead_letter(self, run: ClaimedRun, limit: int) -> None:
        error = MaxRecoveryAttemptsExceededError(run.workflow_id, limit)
        log.dead_lettered(error)
        self._committer.run(
            workflows.dead_letter, DeadLetter(run.workflow_id, run.claim, None), run.workflow_id
        )

    def _end_with(self, run: ClaimedRun, error: Exception) -> None:
        log.cannot_start(run.workflow_id, error)
        codec = self._engine.codec
        format = run.serialization if run.serialization in codec.readable else codec.native
        text = codec.dump_error(error, format or codec.native)
        row = FinishRow(run.workflow_id, "ERROR", None, text, run.claim)
        self._committer.run(workflows.finish, row, run.workflow_id)


def _authentication(run: ClaimedRun) -> Authentication:
    roles = msgspec.json.decode(run.authenticated_roles or "null", type=tuple[str, ...] | None)
    return Authentication(run.authenticated_user, roles, run.assumed_role)
