"""Housekeeping on demand: deleting ended workflows, and cancelling old active ones."""

from __future__ import annotations

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.site import Site, refuse_in_transaction
from dbos.ops.verb import verb
from dbos.storage import retention
from dbos.storage.retention import Collection, GlobalTimeout

CANCEL_BATCH = 1000
EVERYTHING = 2**31 - 1
BEFORE_ALL = -1


@verb(step_ids=0)
async def garbage_collect(
    rt: Runtime,
    site: Site,
    cutoff_epoch_timestamp_ms: int | None = None,
    rows_threshold: int | None = None,
    *,
    batch_size: int | None = 10000,
) -> int:
    """Delete ended workflows of this application, with all that belongs to them.

    A workflow with an unfinished ancestor or descendant stays. Each batch is a transaction of its
    own, so a call that is interrupted has deleted some. Not a step.

    Args:
        cutoff_epoch_timestamp_ms: delete what completed before this instant.
        rows_threshold: delete what is beyond so many, counted from the newest completion.
        batch_size: workflows in a transaction; None: all in one.

    Returns:
        The number of workflows deleted; 0 without a cutoff and a threshold. With both, whichever
        deletes more counts.

    Raises:
        DBOSInvalidInputError: a number is out of range.
    """
    refuse_in_transaction(site, "DBOS.garbageCollect")
    cutoff, threshold = cutoff_epoch_timestamp_ms, rows_threshold
    before_ms = BEFORE_ALL
    if cutoff is not None:
        before_ms = validation.epoch_ms(cutoff, "cutoff_epoch_timestamp_ms")
    if threshold is not None:
        threshold = validation.whole_number(threshold, "rows_threshold", 0)
    batch = EVERYTHING
    if batch_size is not None:
        batch = validation.whole_number(batch_size, "batch_size", 1)
    if cutoff is None and threshold is None:
        return 0
    name = rt.engine.settings.name
    edge = None
    if threshold is not None:
        edge = await rt.io.read(retention.boundary, name, threshold)
    collection = Collection(name, before_ms, edge, batch)
    total = 0
    while deleted := await rt.io.commit(retention.collect, collection, ""):
        total += len(deleted)
        if rt.engine.transactor is not None:
            await rt.engine.transactor.forget(rt, deleted)
        if len(deleted) < batch:
            break
    return total


@verb(step_ids=0)
async def global_timeout(rt: Runtime, site: Site, cutoff_epoch_timestamp_ms: int) -> int:
    """Cancel the active workflows of this application that were created at a cutoff or before it.

    Children are cancelled by their own age only. Not a step.

    Args:
        cutoff_epoch_timestamp_ms: in milliseconds since the epoch, by the database's clock.

    Returns:
        The number of workflows cancelled.

    Raises:
        DBOSInvalidInputError: the cutoff is not an instant.
    """
    refuse_in_transaction(site, "DBOS.globalTimeout")
    cutoff_ms = validation.epoch_ms(cutoff_epoch_timestamp_ms, "cutoff_epoch_timestamp_ms")
    request = GlobalTimeout(rt.engine.settings.name, cutoff_ms, CANCEL_BATCH)
    total = 0
    while cancelled := await rt.io.commit(retention.cancel_old, request, ""):
        total += len(cancelled)
        for workflow_id, claim in cancelled:
            attempt = rt.engine.running.get(workflow_id)
            if attempt is not None and attempt.claim == claim:
                rt.engine.dismiss(attempt, "cancelled")
        if len(cancelled) < CANCEL_BATCH:
            break
    return total
