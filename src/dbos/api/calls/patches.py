"""Calls of `DBOS` in workflow code that changes while runs of it are on their way."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from dbos.api import reservations
from dbos.api.slot import around
from dbos.api.twins import refuse_under_a_loop
from dbos.engine.site import here
from dbos.ops import patching
from dbos.runtime.drive import drive


class PatchCalls:
    """Patches, and step ids that are reserved."""

    reserve_step: Final = staticmethod(reservations.reserve_step)

    @staticmethod
    def patch(patch_name: str) -> bool:
        """Whether this run takes the new way: True for new runs, False for those of the old code.

        For a new run a marker is recorded at the next step id; it is durable on return.

        Raises:
            DBOSException: patching is not enabled.
            DBOSUsageError: called outside workflow code.
        """
        engine = around()
        refuse_under_a_loop("patch")
        placed = patching.place_patch(engine.blocking, here(0), patch_name, is_deprecated=False)
        return drive(patching.apply_patch(engine.blocking, placed))

    @staticmethod
    def patch_async(patch_name: str) -> Coroutine[Any, Any, bool]:
        """As `patch`, awaited. Await it before the next patch.

        Raises:
            DBOSPatchNondeterminismError: another patch of the workflow is under way.
        """
        rt = around().aio
        placed = patching.place_patch(rt, here(0), patch_name, is_deprecated=False)
        return patching.apply_patch(rt, placed)

    @staticmethod
    def deprecate_patch(patch_name: str) -> bool:
        """Replace a `patch` that no run of the old code needs any more; always True.

        A run that recorded the marker passes it; a new one records none.

        Raises:
            DBOSException: patching is not enabled.
            DBOSUsageError: called outside workflow code.
        """
        engine = around()
        refuse_under_a_loop("deprecate_patch")
        placed = patching.place_patch(engine.blocking, here(0), patch_name, is_deprecated=True)
        return drive(patching.apply_patch(engine.blocking, placed))

    @staticmethod
    def deprecate_patch_async(patch_name: str) -> Coroutine[Any, Any, bool]:
        """As `deprecate_patch`, awaited."""
        rt = around().aio
        placed = patching.place_patch(rt, here(0), patch_name, is_deprecated=True)
        return patching.apply_patch(rt, placed)
