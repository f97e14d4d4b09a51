"""Admission of runs that must win a place: a deduplication id on their queue, or a new workflow id.

Theory of operation. A run takes its id and its deduplication id with one insert that does nothing
where either is taken. Who comes second then looks for the run with its own id, which is what it
asked for, and else for the holder of its key. A holder that ends between the two leaves neither, so
the insert is tried again. Runs of one batch compete in the same way, in the order in which they
were handed over. Keys are taken in one order everywhere, so that two batches do not deadlock.

A caller in workflow code gets its record in the same transaction: the child, the holder that it
follows, or the refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import msgspec

from dbos.storage.protocol import Statement, Topic, Tx, Write
from dbos.storage.rows import RUN_COLUMNS, Admitted, NewRun, Recorded, StepRow
from dbos.storage.steps import check_claims, find_one, record_pending

_COLUMNS = ", ".join(RUN_COLUMNS)
_ANSWER = (
    "workflow_uuid, status, name, class_name, config_name, queue_name, owner_xid, output, error,"
    " serialization"
)


@dataclass(frozen=True, slots=True)
class Contender:
    """A run to admit, and what becomes of its parent's record."""

    run: NewRun
    on_held: Literal["refuse", "follow"] = "refuse"
    """What a held deduplication id does: refuse the run, or have its holder followed."""
    must_be_new: bool = False
    """Whether a known workflow id refuses it."""
    record: StepRow | None = None
    """The parent's record of the launch, in workflow code."""
    refusal: str | None = None
    """The stored error of a refusal, for the record."""


class Contest(NamedTuple):
    """The run that has the place: with the contender's own id, or the holder of its key."""

    recorded: Recorded | None
    admitted: Admitted | None
    """None if the parent may not launch anything any more, or was refused before."""
    record: StepRow | None = None
    """The parent's record as it was made."""


TAKE = Statement(
    f"""
    INSERT INTO {{workflow_status}} ({_COLUMNS}, created_at, updated_at)
    SELECT {", ".join(f"r.{column}" for column in RUN_COLUMNS)}, {{now_ms}}, {{now_ms}}
    FROM {{rows}} WHERE TRUE
    ON CONFLICT DO NOTHING
    RETURNING {_ANSWER}
    """,
    RUN_COLUMNS,
)

FOUND = Statement(
    f"""
    UPDATE {{workflow_status}} SET updated_at = {{now_ms}}
    WHERE workflow_uuid {{any_of(workflow_ids)}} RETURNING {_ANSWER}
    """
)

HOLDERS = Statement(
    f"""
    SELECT {", ".join(f"held.{column.strip()}" for column in _ANSWER.split(","))},
        held.deduplication_id
    FROM {{workflow_status}} AS held
    JOIN {{rows}} ON held.queue_name = r.queue_name AND held.deduplication_id = r.deduplication_id
    """,
    {"queue_name": "text", "deduplication_id": "text"},
)


def contend_all(tx: Tx, contenders: Sequence[Contender]) -> list[Contest]:
    """Admit runs, or tell for each which run has its place; record the launches of parents."""
    verdicts = _verdicts(tx, contenders)
    open_ = [index for index, verdict in enumerate(verdicts) if _may_launch(verdict)]
    admitted = _admit(tx, [contenders[index].run for index in open_])
    places: dict[int, Admitted] = dict(zip(open_, admitted, strict=True))
    records = {
        index: record
        for index, place in places.items()
        if (record := _record_of(contenders[index], place)) is not None
    }
    if records:
        kept = record_pending(tx, list(records.values()))
        verdicts = [*verdicts]
        for index, verdict in zip(records, kept, strict=True):
            verdicts[index] = verdict
    return [
        Contest(verdict, places.get(index), records.get(index))
        for index, verdict in enumerate(verdicts)
    ]


def contend_again(tx: Tx, contenders: Sequence[Contender]) -> list[Contest]:
    """Once a commit is in doubt: a parent's record tells what was decided then."""
    return [_again(tx, contender) for contender in contenders]


def _contest_topics(contender: Contender, contest: Contest) -> Iterable[Topic]:
    run, place = contender.run, contest.admitted
    if run.queue_name is not None and place is not None and place.claim == run.owner_xid:
        yield Topic("queue", run.queue_name)


contend: Final = Write("contend", contend_all, _contest_topics, rank=16, again=contend_again)


def _verdicts(tx: Tx, contenders: Sequence[Contender]) -> list[Recorded | None]:
    """Whether each parent may still launch; None without a parent."""
    records = [contender.record for contender in contenders if contender.record is not None]
    answers = iter(check_claims(tx, records) if records else ())
    return [None if contender.record is None else next(answers) for contender in contenders]


def _may_launch(verdict: Recorded | None) -> bool:
    return verdict is None or verdict.verdict == "kept"


def _again(tx: Tx, contender: Contender) -> Contest:
    record = contender.record
    if record is not None:
        known = find_one(tx, record.workflow_uuid, record.function_id)
        if known is not None:
            [verdict] = check_claims(tx, [record])
            child = known.child_workflow_id
            found = tx.all(FOUND, workflow_ids=[] if child is None else [child])
            made = msgspec.structs.replace(record, child_workflow_id=child, error=known.error)
            return Contest(verdict, Admitted(*found[0]) if found else None, made)
    return contend_all(tx, [contender])[0]


def _admit(tx: Tx, runs: Sequence[NewRun]) -> list[Admitted]:
    """For each run the one that has its place: new, known by its id, or the holder of its key."""
    answers: dict[int, Admitted] = {}
    open_ = sorted(range(len(runs)), key=lambda index: (*_key(runs[index]), index))
    while open_:
        taken = tx.all(TAKE, rows=[runs[index] for index in open_])
        by_id = {row[0]: Admitted(*row) for row in taken}
        unknown = [runs[i].workflow_uuid for i in open_ if runs[i].workflow_uuid not in by_id]
        by_key: dict[tuple[str, str], Admitted] = {}
        if unknown:
            found = tx.all(FOUND, workflow_ids=sorted(set(unknown)))
            by_id.update((row[0], Admitted(*row)) for row in found)
            held = tx.all(HOLDERS, rows=[runs[index] for index in open_])
            by_key = {(row[5], row[-1]): Admitted(*row[:-1]) for row in held}
        for index in open_:
            run = runs[index]
            place = by_id.get(run.workflow_uuid) or by_key.get(_key(run))
            if place is not None:
                answers[index] = place
        open_ = [index for index in open_ if index not in answers]
    return [answers[index] for index in range(len(runs))]


def _key(run: NewRun) -> tuple[str, str]:
    return run.queue_name or "", run.deduplication_id or ""


def _record_of(contender: Contender, place: Admitted) -> StepRow | None:
    """The parent's record; None for a launch that fails without one."""
    record, run = contender.record, contender.run
    if record is None:
        return None
    if place.workflow_id != run.workflow_uuid:
        if contender.on_held == "follow":
            return msgspec.structs.replace(record, child_workflow_id=place.workflow_id)
        return msgspec.structs.replace(record, child_workflow_id=None, error=contender.refusal)
    if contender.must_be_new and place.claim != run.owner_xid:
        return None
    known = (place.name, place.class_name, place.config_name)
    return record if known == (run.name, run.class_name, run.config_name) else None
