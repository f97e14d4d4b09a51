"""What every engine stands on: its database, and how it is read, written, heard and told to."""

from __future__ import annotations

from dbos.api.transactors import open_system_database
from dbos.config import Settings
from dbos.engine.io import Closed
from dbos.runtime.aio import settle_all
from dbos.runtime.committer import Committer
from dbos.runtime.reader import Reader
from dbos.runtime.wakeups import WakeupHub
from dbos.serialization.codec import Serializer
from dbos.serialization.typed import JSONSerializer
from dbos.services.listener import NotifierService
from dbos.storage.open import OpenOptions
from dbos.storage.protocol import Database, Topic


class Ground:
    """The database of one engine and the parts around it. Nothing is connected or started."""

    def __init__(
        self, settings: Settings, *, is_patient: bool = True, closed: type[Closed] = Closed
    ) -> None:
        """Without patience a database that is away is an error and not waited for.

        `closed` is what who still reads or writes at the end is told.
        """
        self.database: Database = open_system_database(settings, _open_options(settings))
        self.hub: WakeupHub = WakeupHub()
        self.reader: Reader = Reader(self.database, is_patient=is_patient, closed=closed)
        announcer = self.database.announcer()
        self.notifier: NotifierService | None = (
            NotifierService(announcer, settings.notification_coalesce_s) if announcer else None
        )
        self.committer: Committer = Committer(
            self.database, self.publish, settle_all, is_patient=is_patient, closed=closed
        )

    def publish(self, topics: list[Topic]) -> None:
        """Ring here what became durable, and have other processes told."""
        self.hub.publish(topics)
        if self.notifier is not None:
            self.notifier.tell(topics)


def serializer_of(settings: Settings) -> Serializer:
    """The configured serializer, or the default one."""
    configured = settings.serializer
    if configured is None:
        return JSONSerializer()
    assert isinstance(configured, Serializer), "settings are checked when they are made"
    return configured


def _open_options(settings: Settings) -> OpenOptions:
    return OpenOptions(
        schema=settings.schema,
        use_listen_notify=settings.use_listen_notify,
        pool=settings.system_pool,
        idle_transaction_timeout_s=settings.idle_transaction_timeout_s,
        lease_s=settings.lease_s,
    )
