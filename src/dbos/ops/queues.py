"""Registered queues: kept in the database, and followed by running workers."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.errors import DBOSException
from dbos.ops.queue_settings import GivenSettings, Setting, checked
from dbos.storage import queues
from dbos.storage.queues import QueueSettings, Registration, Revision
from dbos.validation import shown

T = TypeVar("T")


async def register(
    rt: Runtime,
    name: str,
    given: GivenSettings,
    on_conflict: object,
    application_version: str | None,
    application_name: str | None,
) -> QueueSettings:
    """Make a queue or, as `on_conflict` says, give it these settings; what is stored then."""
    policy = validation.conflict_policy(on_conflict)
    settings = replace(checked(name, given), application_name=application_name)
    registration = Registration(rt.engine.new_id(), settings, policy, application_version)
    registered = await rt.io.commit(queues.register, registration, name)
    if registered.is_foreign:
        owner = registered.settings.application_name or ""
        raise DBOSException(
            f"Queue {shown(name)} is already registered by application {shown(owner)}: "
            "choose another name."
        )
    return registered.settings


async def find(rt: Runtime, name: str) -> QueueSettings | None:
    """The stored settings of a queue of any application; None if it is not registered."""
    return await rt.io.read(queues.find, validation.identifier(name, "queue name"))


async def in_scope(
    rt: Runtime, applications: object, own_application: str | None
) -> list[QueueSettings]:
    """The registered queues of these applications and unclaimed ones; by default, of our own."""
    asked = validation.filter_values(applications, "application_name")
    if asked is None and own_application is not None:
        asked = [own_application]
    return await rt.io.read(queues.in_scope, asked)


async def delete(rt: Runtime, name: str) -> None:
    """Have no worker serve a registered queue any more; unknown ones are ignored."""
    checked_name = validation.identifier(name, "queue name")
    await rt.io.commit(queues.delete, checked_name, checked_name)


async def settings_of(rt: Runtime, name: str) -> QueueSettings:
    """The stored settings of a queue that must be registered."""
    found = await rt.io.read(queues.find, name)
    if found is None:
        raise not_found(name)
    return found


async def change(rt: Runtime, name: str, setting: Setting[T], value: T) -> None:
    """Give a registered queue a new setting, judged against the others that are stored."""
    revision = Revision(name, lambda settings: setting.revise(settings, value))
    answer = await rt.io.commit(queues.revise, revision, name)
    if answer is None:
        raise not_found(name)
    if isinstance(answer, DBOSException):
        raise answer


def not_found(name: str) -> DBOSException:
    return DBOSException(
        f"Queue {shown(name)} was not found in the database: it was deleted; register it again."
    )
