"""Bad input: the same verdict on both databases, before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from dbos import DBOS, SendMessage
from dbos.error import DBOSEventLoopError, DBOSInvalidInputError
from tests.behaviour.application import Application
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs

BAD_TEXTS: tuple[Any, ...] = ("", "  ", "nul\0", "\ud800", 7, b"x", "x" * 5000)
BAD_LIMITS: tuple[Any, ...] = (-1, float("nan"), float("inf"), "1", None, 4e9, True)


def bad_calls() -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for text in BAD_TEXTS:
        calls += [
            ("send", (text, 1), {}),
            ("send", ("here", 1, text), {}),
            ("send", ("here", 1), {"idempotency_key": text}),
            ("send_bulk", ([SendMessage("here", 1), SendMessage("here", 2, text)],), {}),
            ("recv", (text, 0), {}),
            ("set_event", (text, 1), {}),
            ("get_event", (text, "key", 0), {}),
            ("get_event", ("here", text, 0), {}),
            ("get_all_events", (text,), {}),
            ("write_stream", (text, 1), {}),
            ("close_stream", (text,), {}),
            ("read_stream_offset", (text, "s", 0), {}),
            ("read_stream_offset", ("here", text, 0), {}),
            ("get_result", (text,), {}),
            ("cancel_workflow", (text,), {}),
            ("cancel_workflows", (["here", text],), {}),
            ("resume_workflow", (text,), {}),
            ("resume_workflow", ("here",), {"queue_name": text}),
        ]
    for limit in BAD_LIMITS:
        calls += [("recv", ("t", limit), {}), ("get_event", ("here", "key", limit), {})]
        if limit != -1:
            calls.append(("sleep", (limit,), {}))
        if limit is not None:
            for name in ("timeout_seconds", "polling_interval_sec"):
                calls.append(("read_stream_offset", ("here", "s", 0), {name: limit}))
    for name in ("send", "set_event", "write_stream"):
        args = ("here", 1)
        calls += [(name, args, {"serialization_type": bad}) for bad in ("portable_json", 1)]
    return [
        *calls,
        ("send", ("here", 1, "__null__topic__"), {}),
        ("recv", ("__null__topic__", 0), {}),
        ("write_stream", ("s", "__DBOS_STREAM_CLOSED__"), {}),
        ("read_stream_offset", ("here", "s", -1), {}),
        ("read_stream_offset", ("here", "s", 1.5), {}),
        ("send_bulk", (["here"],), {}),
        ("cancel_workflows", ("here",), {}),
        ("resume_workflow", ("here",), {"queue_name": "_dbos_internal_queue"}),
    ]


def test_bad_input_is_refused_before_anything_is_written(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    accepted: list[str] = []

    @api.workflow()
    async def caller() -> None:
        for name, args, kwargs in bad_calls():
            try:
                await getattr(verbs, name)(*args, **kwargs)
            except DBOSInvalidInputError:
                continue
            except Exception as error:
                accepted.append(f"{name}{args!r}{kwargs!r} raised {error!r}")
            else:
                accepted.append(f"{name}{args!r}{kwargs!r}")

    api.run(caller)

    assert accepted == []
    for table in ("operation_outputs", "notifications", "workflow_events", "streams"):
        assert app.count(table) == 0


def test_texts_of_a_thousand_characters_fit_everywhere(
    app: Application, api: Flavour, verbs: Verbs
) -> None:
    long = "\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL A}" * 1000

    @api.workflow()
    async def worker() -> Any:
        await verbs.send(DBOS.workflow_id, 1, long, idempotency_key=long)
        await verbs.set_event(long, 2)
        await verbs.write_stream(long, 3)
        await verbs.close_stream(long)
        return [
            await verbs.recv(long, 5),
            await verbs.get_event(DBOS.workflow_id, long, 5),
            await verbs.read_all(DBOS.workflow_id, long),
        ]

    async def scenario() -> Any:
        return await worker()

    assert api.run(scenario) == [1, 2, [3]]


SYNC_CALLS: dict[str, tuple[Any, ...]] = {
    "send": ("here", 1),
    "send_bulk": ([],),
    "recv": (None, 0),
    "set_event": ("key", 1),
    "get_event": ("here", "key", 0),
    "get_all_events": ("here",),
    "write_stream": ("s", 1),
    "close_stream": ("s",),
    "read_stream_offset": ("here", "s", 0),
    "sleep": (1,),
    "get_result": ("here",),
    "wait_first": ([],),
    "cancel_workflow": ("here",),
    "cancel_workflows": ([],),
    "resume_workflow": ("here",),
    "resume_workflows": ([],),
}


def test_sync_calls_under_a_loop_are_refused_and_take_no_step_id(app: Application) -> None:
    @DBOS.workflow(name="caller")
    async def caller() -> None:
        for name, args in SYNC_CALLS.items():
            with pytest.raises(DBOSEventLoopError, match=f"{name}_async"):
                getattr(DBOS, name)(*args)
        with pytest.raises(DBOSEventLoopError, match="read_stream_async"):
            next(DBOS.read_stream("here", "s"))
        await DBOS.set_event_async("key", 1)

    handle = DBOS.start_workflow(caller)
    handle.get_result()

    assert app.steps(handle.workflow_id) == [(1, "DBOS.setEvent")]
