"""Workflows of the simulation that talk: messages, events, streams, and the ticks of a schedule."""

from __future__ import annotations

from datetime import datetime

from dbos import DBOS

PATIENCE_S = 550.0
"""Longer than any storm: what was sent must arrive."""


@DBOS.workflow(name="sim.collect")
async def collect(count: int) -> int:
    """Receive the numbers from 1 on. Each is told on, as an event and on a stream."""
    digits = 0
    for _ in range(count):
        number = await DBOS.recv_async("numbers", PATIENCE_S)
        digits = digits * 10 + number
        await DBOS.set_event_async("last", number)
        await DBOS.write_stream_async("numbers", number)
    return digits


@DBOS.workflow(name="sim.talk")
async def talk(count: int) -> int:
    """Send a child its numbers. An event that went back while it worked is an error."""
    handle = await DBOS.start_workflow_async(collect, count)
    seen: list[int] = []
    for number in range(1, count + 1):
        await DBOS.send_async(handle.workflow_id, number, "numbers")
        seen.append(await DBOS.get_event_async(handle.workflow_id, "last", PATIENCE_S))
    digits: int = await handle.get_result()
    seen.append(await DBOS.get_event_async(handle.workflow_id, "last", 0))
    return digits if seen == sorted(seen) and seen[-1] == count else -1


@DBOS.workflow(name="sim.tick")
async def tick(scheduled_at: datetime, _: datetime) -> str:
    return scheduled_at.isoformat()


def digits_up_to(count: int) -> int:
    """What both come to."""
    return int("".join(str(number) for number in range(1, count + 1)))
