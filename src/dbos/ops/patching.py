"""Patching: changing workflow code while runs of the old code are still on their way."""

from __future__ import annotations

from dataclasses import dataclass

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.execution import Execution
from dbos.engine.site import Site, only_in_workflow
from dbos.engine.steps import Operation, commit_in_order, itself, once, step_row
from dbos.errors import DBOSException, DBOSPatchNondeterminismError
from dbos.storage import steps


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch as the call found it: whether this run takes the new way, and the marker's id."""

    run: Execution
    name: str
    applies: bool
    step_id: int
    """0: no marker is recorded or replayed."""
    overlaps: str | None = None
    """The patch that was under way when this one was called."""

    @property
    def marker(self) -> str:
        return f"DBOS.patch-{self.name}"


def place_patch(rt: Runtime, site: Site, patch_name: str, *, is_deprecated: bool) -> Patch:
    """Decide at the moment of the call, by what the next step id holds."""
    call = "deprecate_patch" if is_deprecated else "patch"
    run = only_in_workflow(site, call)
    settings = rt.engine.settings
    if not settings.patching and settings.version_policy != "any":
        raise DBOSException(
            f"{call}() needs patching: set enable_patching to True in the configuration."
        )
    name = validation.identifier(patch_name, "patch_name")
    if run.patching is not None:
        return Patch(run, name, False, 0, run.patching)
    patch = Patch(run, name, True, run.next_step_id)
    known = run.replay.steps.get(run.next_step_id)
    holds_marker = known is not None and known.name == patch.marker
    if holds_marker or (known is None and not is_deprecated):
        run.patching = name
        run.take_step_ids(1)
        return patch
    return Patch(run, name, is_deprecated, 0)


async def apply_patch(rt: Runtime, patch: Patch) -> bool:
    """Whether the run takes the new way; a marker that is new is durable when this returns."""
    run = patch.run
    if patch.overlaps is not None:
        raise DBOSPatchNondeterminismError(
            run.workflow_id, patch.name, f"patch {patch.overlaps} was still under way"
        )
    if not patch.step_id:
        await run.ensure_alive(rt)
        return patch.applies

    async def mark(operation: Operation) -> None:
        row = step_row(rt, run, operation, output=None, error=None)
        await commit_in_order(rt, run, steps.record_wait, row, itself)

    try:
        await once(rt, run, patch.step_id, patch.marker, mark)
    finally:
        run.patching = None
    return patch.applies
