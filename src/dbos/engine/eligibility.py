"""Who may run a run: why none of the live processes can, if none can (contract, core 6.4, 6.5)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dbos.storage.executors import Capabilities, Capable
from dbos.storage.listing import ACTIVE, Fleet, Kin, RunRow
from dbos.storage.recovery import INTERNAL_QUEUE

if TYPE_CHECKING:
    from dbos.engine.engine import Engine

ALWAYS_SERVED = frozenset({None, INTERNAL_QUEUE})


def as_of_now(fleet: Fleet, engine: Engine) -> Fleet:
    """The fleet, with what this process can run now: the others were told at its last renewal."""
    own = engine.identity.incarnation_id
    return replace(
        fleet,
        live=tuple(
            one._replace(can=_own(one.can, engine)) if one.incarnation_id == own else one
            for one in fleet.live
        ),
    )


def _own(told: Capabilities, engine: Engine) -> Capabilities:
    registry = engine.registry
    declared = [name for name in registry.queues if registry.listens_to(name)]
    return Capabilities(
        functions=[
            (known.run_name, of, registry.code_hash(known))
            for known in registry.all()
            for of in registry.classes.class_names(known)
        ],
        instances=registry.instances(),
        queues=[*told.queues, *declared],
        formats=sorted(engine.codec.readable),
        upgraded=[
            (known.run_name, of)
            for known in registry.all()
            if known.any_version
            for of in registry.classes.class_names(known)
        ],
    )


def kin_of(row: RunRow) -> Kin:
    """What decides who may run a run."""
    return Kin(
        row.name,
        row.class_name,
        row.config_name,
        row.app_version,
        row.code_hash,
        row.serialization,
        row.queue_name,
        row.application_name,
        row.incarnation_id if row.status == "PENDING" else None,
    )


def stranded_reason(row: RunRow, fleet: Fleet, unnamed_format: str) -> str | None:
    """Why no live process may run this run; None if one may, or if it has ended."""
    if row.status not in ACTIVE:
        return None
    return reason(kin_of(row), fleet, unnamed_format)


def reason(kin: Kin, fleet: Fleet, unnamed_format: str) -> str | None:
    """Why no live process may run runs of this kind: the first thing that all of them lack."""
    if kin.owner is not None and any(one.incarnation_id == kin.owner for one in fleet.live):
        return None
    left = [one for one in fleet.live if kin.application_name in (None, one.application_name)]
    if not left:
        return "no_process"
    left = [one for one in left if _serves(one, kin)]
    if not left:
        return "no_listener"
    left = [one for one in left if _knows(one, kin)]
    if not left:
        return "not_registered"
    left = [one for one in left if (kin.serialization or unnamed_format) in one.can.formats]
    if not left:
        return "format"
    return None if any(_passes(one, kin, fleet) for one in left) else "version"


def _serves(one: Capable, kin: Kin) -> bool:
    return kin.queue_name in ALWAYS_SERVED or kin.queue_name in one.can.queues


def _knows(one: Capable, kin: Kin) -> bool:
    known = any((name, of) == (kin.name, kin.class_name) for name, of, _ in one.can.functions)
    if not known or kin.config_name is None:
        return known
    return (kin.class_name, kin.config_name) in one.can.instances


def _passes(one: Capable, kin: Kin, fleet: Fleet) -> bool:
    """Whether the version rules of core 6.4 let this process run it."""
    if one.version_policy == "any" or one.application_version == kin.app_version:
        return True
    if (kin.name, kin.class_name) in one.can.upgraded:
        return True
    if kin.app_version is None:
        return fleet.latest.get(one.application_name) == one.application_version
    return (
        one.version_policy == "compatible"
        and kin.code_hash is not None
        and any(
            (name, of, code) == (kin.name, kin.class_name, kin.code_hash)
            for name, of, code in one.can.functions
        )
    )
