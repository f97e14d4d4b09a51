"""Events: values that a workflow shows to the world under a key."""

from __future__ import annotations

from typing import Any

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.site import Site, recorded_operation
from dbos.engine.waits import DurableWait, wait_durably
from dbos.engine.writes import RunWrite, write_in_run
from dbos.ops.verb import verb
from dbos.serialization.codec import Stored, WorkflowSerializationFormat
from dbos.storage import events
from dbos.storage.events import EventSetting, Observing, event_topic
from dbos.storage.waits import Look

SET_EVENT = "DBOS.setEvent"
GET_EVENT = "DBOS.getEvent"
GET_EVENTS = "DBOS.get_events"
DEFAULT = WorkflowSerializationFormat.DEFAULT


@verb(step_ids=1)
async def set_event(
    rt: Runtime,
    site: Site,
    key: str,
    value: Any,
    *,
    serialization_type: WorkflowSerializationFormat | None = DEFAULT,
) -> None:
    """Set an event of this workflow; durable when this returns. The last value of a key stays.

    From workflow code this is one step, exactly once. From a step it has no record of its own: a
    repeated attempt sets it again.

    Raises:
        DBOSUsageError: called outside a workflow or step.
        DBOSSerializationError: the value cannot be stored.
        DBOSInvalidInputError: the key is not valid.
    """
    checked = validation.identifier(key, "key")

    def argument(write: RunWrite) -> EventSetting:
        return EventSetting(
            write.run.workflow_id,
            checked,
            rt.engine.codec.dump(value, "value", write.format),
            write.format,
            write.function_id,
            write.run.claim,
            write.record,
        )

    await write_in_run(rt, site, SET_EVENT, events.set_event, argument, serialization_type)


@verb(step_ids=2)
async def get_event(
    rt: Runtime, site: Site, workflow_id: str, key: str, timeout_seconds: float = 60
) -> Any:
    """The value of a workflow's event, waited for if need be; None if it is not set in time.

    May be called anywhere. In workflow code the answer and a durable deadline are recorded. An
    unknown workflow id just times out.

    Args:
        timeout_seconds: 0 looks once.

    Raises:
        DBOSInvalidInputError: an id, key or timeout is not valid.
    """
    target = validation.workflow_id(workflow_id)
    checked = validation.identifier(key, "key")
    timeout_s = validation.waiting_limit(timeout_seconds)
    if site.run is None:
        return await _await_event(rt, target, checked, timeout_s)

    def argument(look: Look) -> Observing:
        return Observing(target, checked, look)

    return await wait_durably(
        rt,
        site.run,
        DurableWait(
            GET_EVENT,
            site.step_id,
            timeout_s,
            event_topic(target, checked),
            (target, checked),
            events.observe,
            argument,
        ),
    )


async def _await_event(rt: Runtime, workflow_id: str, key: str, timeout_s: float) -> Any:
    give_up_at_ms = rt.io.now_ms() + (round(timeout_s * 1000) if rt.io.waits else 0)
    with rt.engine.hub.watch(event_topic(workflow_id, key), workflow_id, key) as bell:
        while True:
            left_ms = give_up_at_ms - rt.io.now_ms()
            payload = await rt.io.read(events.value_of, workflow_id, key)
            if payload is not None:
                where = Stored(workflow_id, None, "event")
                return rt.engine.codec.load(payload[0], payload[1], where)
            if left_ms <= 0:
                return None
            await rt.io.wait(bell, left_ms / 1000)


@verb(step_ids=1)
async def get_all_events(rt: Runtime, site: Site, workflow_id: str) -> dict[str, Any]:
    """All events of a workflow as they stand now; {} for an unknown id. May be called anywhere.

    In workflow code the answer is recorded.

    Raises:
        DBOSInvalidInputError: the id is not valid.
    """
    target = validation.workflow_id(workflow_id)

    async def look() -> dict[str, Any]:
        where = Stored(target, None, "event")
        return {
            key: rt.engine.codec.load(value, format, where)
            for key, value, format in await rt.io.read(events.all_of, target)
        }

    return await recorded_operation(rt, site, GET_EVENTS, look)
