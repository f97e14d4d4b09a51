"""What this process can run, as its claims and its peers are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dbos.engine.engine import Engine
from dbos.storage.claims import Claimant, Runnable


def claimant(engine: Engine) -> Claimant:
    """This engine as it claims now: functions may be registered at any time."""
    settings, identity = engine.settings, engine.identity
    return Claimant(
        incarnation_id=identity.incarnation_id,
        executor_id=identity.executor_id,
        application_name=settings.name,
        application_version=identity.application_version,
        is_latest=identity.is_latest_version,
        any_version=settings.version_policy == "any",
        by_source=settings.version_policy == "compatible",
        formats=sorted(engine.codec.readable),
        functions=_functions(engine),
        instances=engine.registry.instances(),
        unnamed_format=engine.codec.unnamed,
    )


def capabilities(engine: Engine, queues: Sequence[str]) -> str:
    """The JSON text of `perdure_executors.capabilities` (schema.md, section 6)."""
    told: dict[str, Any] = {
        "functions": [
            [known.name, known.class_name, known.code_hash] for known in _functions(engine)
        ],
        "upgraded": [
            [known.name, known.class_name] for known in _functions(engine) if known.any_version
        ],
        "instances": [list(instance) for instance in engine.registry.instances()],
        "queues": list(queues),
        "formats": sorted(engine.codec.readable),
    }
    return msgspec.json.encode(told).decode()


def _functions(engine: Engine) -> list[Runnable]:
    registry = engine.registry
    return [
        Runnable(
            known.run_name,
            registry.code_hash(known),
            class_name,
            known.is_async,
            known.any_version,
        )
        for known in registry.all()
        for class_name in registry.classes.class_names(known)
    ]
