"""Renaming an application: everything that it owns gets a new owner."""

from __future__ import annotations

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.site import Site
from dbos.errors import DBOSException
from dbos.ops.verb import verb
from dbos.storage import renaming
from dbos.storage.protocol import Write
from dbos.storage.renaming import Renaming


@verb(step_ids=0)
async def rename_application(
    rt: Runtime,
    site: Site,
    old_name: str | None,
    new_name: str,
    *,
    batch_size: int = 10000,
    adopt_unclaimed_rows: bool = False,
) -> dict[str, int]:
    """Move everything that an application owns to another name; durable when this returns.

    Queues, schedules, versions and active workflows move together in one transaction, the rest in
    batches: a call that was interrupted is made again. Stop the processes of the old name first,
    for what they still write is theirs.

    Args:
        old_name: None: nobody's rows but unclaimed ones, with `adopt_unclaimed_rows=True`.
        new_name: may be in use; then the two become one.
        batch_size: rows of history in a transaction.
        adopt_unclaimed_rows: also move rows without an owner, such as a nameless client writes.

    Returns:
        How many "queues", "schedules", "versions", "workflows" and "steps" have moved.

    Raises:
        DBOSException: "Invalid application name"; or nothing to move is named.
    """
    request = Renaming(
        None if old_name is None else validation.application_name(old_name),
        validation.application_name(new_name),
        validation.flag(adopt_unclaimed_rows, "adopt_unclaimed_rows"),
        validation.whole_number(batch_size, "batch_size", 1),
    )
    if request.old_name is None and not request.adopts:
        raise DBOSException(
            "rename_application() has nothing to move: give old_name, or adopt_unclaimed_rows=True"
        )
    if request.old_name == request.new_name:
        # Its own rows are where they belong.
        request = Renaming(None, request.new_name, request.adopts, request.batch)
    live = await rt.io.commit(renaming.move_live, request, "")
    return {
        "queues": live.queues,
        "schedules": len(live.schedules),
        "versions": live.versions,
        "workflows": live.workflows + await _in_batches(rt, renaming.move_runs, request),
        "steps": await _in_batches(rt, renaming.move_steps, request),
    }


async def _in_batches(rt: Runtime, write: Write[Renaming, int], request: Renaming) -> int:
    total = 0
    while moved := await rt.io.commit(write, request, ""):
        total += moved
        if moved < request.batch:
            break
    return total
