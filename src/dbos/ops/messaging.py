"""Messages: sent to a workflow by id, received in order and exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.site import Site, only_in_workflow
from dbos.engine.steps import Operation, commit_in_order, once, step_row
from dbos.engine.waits import DurableWait, wait_durably
from dbos.errors import (
    DBOSException,
    DBOSInvalidInputError,
    DBOSNonExistentWorkflowError,
    DBOSUsageError,
)
from dbos.models import SendMessage
from dbos.ops.verb import verb
from dbos.serialization.codec import WorkflowSerializationFormat, requested_format
from dbos.storage import messages, receiving
from dbos.storage.messages import NO_TOPIC, Message, Sending, Sent
from dbos.storage.receiving import Receiving
from dbos.storage.rows import Recorded
from dbos.storage.waits import Look

SEND = "DBOS.send"
SEND_BULK = "DBOS.send_bulk"
RECV = "DBOS.recv"
DEFAULT = WorkflowSerializationFormat.DEFAULT


@verb(step_ids=1)
async def send(
    rt: Runtime,
    site: Site,
    destination_id: str,
    message: Any,
    topic: str | None = None,
    *,
    idempotency_key: str | None = None,
    serialization_type: WorkflowSerializationFormat | None = DEFAULT,
    send_to_forks: bool = False,
) -> None:
    """Send a message to a workflow; durable when this returns.

    From workflow code the call is one step and sends exactly once. From a step or from outside it
    is not recorded: give an `idempotency_key` to send once.

    Args:
        destination_id: a workflow, active or finished.
        message: any value that can be stored.
        topic: the receiver asks for the same one; None is a topic of its own.
        idempotency_key: a message under a key that this destination has seen is not sent again.
        serialization_type: format of the message; default: that of the calling workflow.
        send_to_forks: also send to every workflow forked from the destination up to now.

    Raises:
        DBOSNonExistentWorkflowError: "Non-existent `send` destination"; nothing was sent.
        DBOSSerializationError: the message cannot be stored.
        DBOSInvalidInputError: an id, topic or key is not valid.
    """
    outgoing = [SendMessage(destination_id, message, topic, idempotency_key)]
    sending = _sending(rt, site, outgoing, serialization_type, send_to_forks)
    await _send(rt, site, SEND, sending)


@verb(step_ids=1)
async def send_bulk(
    rt: Runtime,
    site: Site,
    messages: Sequence[SendMessage],
    *,
    serialization_type: WorkflowSerializationFormat | None = DEFAULT,
    send_to_forks: bool = False,
) -> None:
    """Send several messages, all or none; durable when this returns.

    They are received in list order. From workflow code the call is one step and sends exactly once.

    Raises:
        DBOSNonExistentWorkflowError: one destination does not exist; nothing was sent.
        DBOSException: "duplicate idempotency keys" for one destination in one call; nothing was
        sent. DBOSSerializationError: a message cannot be stored. DBOSInvalidInputError: an id,
        topic or key is not valid.
    """
    sending = _sending(rt, site, messages, serialization_type, send_to_forks)
    await _send(rt, site, SEND_BULK, sending)


@verb(step_ids=2)
async def recv(
    rt: Runtime, site: Site, topic: str | None = None, timeout_seconds: float = 60
) -> Any:
    """Receive the oldest message that this workflow has not yet received on a topic.

    The message is consumed together with the step record: exactly once. Nothing in time gives
    None. The deadline is durable: a restarted workflow waits only the remainder.

    Args:
        topic: exactly this one; None is a topic of its own.
        timeout_seconds: 0 looks once.

    Raises:
        DBOSUsageError: called outside workflow code, or while another `recv` of the workflow waits
        on
            the topic.
        DBOSInvalidInputError: the topic or the timeout is not valid.
    """
    run = only_in_workflow(site, "recv")
    stored_topic = _stored_topic(topic)
    timeout_s = validation.waiting_limit(timeout_seconds)
    if stored_topic in run.receiving:
        raise DBOSUsageError(
            "Another recv() of this workflow waits on the same topic: await it first, or "
            "receive on another topic."
        )

    def argument(look: Look) -> Receiving:
        return Receiving(stored_topic, look)

    run.receiving.add(stored_topic)
    try:
        return await wait_durably(
            rt,
            run,
            DurableWait(
                RECV,
                site.step_id,
                timeout_s,
                messages.message_topic(run.workflow_id, stored_topic),
                (run.workflow_id, stored_topic),
                receiving.receive,
                argument,
            ),
        )
    finally:
        run.receiving.discard(stored_topic)


def _sending(
    rt: Runtime,
    site: Site,
    outgoing: object,
    serialization_type: WorkflowSerializationFormat | None,
    to_forks: bool,
) -> Sending:
    run = site.scope.run
    format = rt.engine.codec.format_for(
        requested_format(serialization_type), run.format if run is not None else None
    )
    if not isinstance(outgoing, Iterable):
        raise DBOSInvalidInputError("messages must be a list of SendMessage")
    seen: set[tuple[str, str]] = set()
    stored: list[Message] = []
    for message in cast("Iterable[object]", outgoing):
        if not isinstance(message, SendMessage):
            raise DBOSInvalidInputError("messages must be a list of SendMessage")
        destination = validation.workflow_id(message.destination_id, "destination_id")
        key = validation.optional_identifier(message.idempotency_key, "idempotency_key")
        if key is not None and (destination, key) in seen:
            raise DBOSException("duplicate idempotency keys for one destination in one send_bulk()")
        if key is not None:
            seen.add((destination, key))
        stored.append(
            Message(
                rt.engine.new_id() if key is None else messages.keyed_message_id(destination, key),
                destination,
                _stored_topic(message.topic),
                rt.engine.codec.dump(message.message, "message", format),
                format,
                key,
            )
        )
    return Sending(tuple(stored), None, validation.flag(to_forks, "send_to_forks"))


async def _send(rt: Runtime, site: Site, name: str, sending: Sending) -> None:
    run = site.run
    if run is None:
        if len(sending.messages) == 1 and not sending.to_forks:
            message = sending.messages[0]
            _check(await rt.io.commit(messages.send_one, message, message.destination_uuid))
        elif sending.messages:
            _check(await rt.io.commit(messages.send, sending, sending.messages[0].destination_uuid))
        return

    async def perform(operation: Operation) -> None:
        row = step_row(rt, run, operation, output=None, error=None)
        recorded = Sending(sending.messages, row, sending.to_forks)
        _check(await commit_in_order(rt, run, messages.send, recorded, _verdict))

    await once(rt, run, site.step_id, name, perform)


def _check(sent: Sent) -> None:
    if sent.unknown_destination is not None:
        raise DBOSNonExistentWorkflowError("`send` destination", sent.unknown_destination)


def _verdict(sent: Sent) -> Recorded | None:
    # An unknown destination is the caller's error and leaves the run as it is.
    return sent.recorded


def _stored_topic(topic: str | None) -> str:
    checked = validation.topic(topic)
    return NO_TOPIC if checked is None else checked
