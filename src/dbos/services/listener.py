"""The ear and the voice of a process: topics heard from others, and topics told to them."""

from __future__ import annotations

import time
from contextlib import suppress
from queue import Empty, SimpleQueue

from dbos.runtime.service import Service
from dbos.runtime.wakeups import WakeupHub
from dbos.storage.protocol import Announcer, Database, Listener, Topic

LISTEN_S = 5.0
MOST_TOPICS = 10_000
"""More than this in one window is told as: anything may have changed."""


class ListenerService(Service):
    """Rings here what other processes changed; everything, after it was deaf for a while."""

    name = "listener"

    def __init__(self, database: Database, hub: WakeupHub) -> None:
        super().__init__()
        self._database = database
        self._hub = hub
        self._listener: Listener | None = None
        self._was_deaf = True
        """Whether something may have been missed; a process that starts has heard nothing yet."""

    def tick(self) -> float:
        try:
            listener = self._listening()
            topics = listener.wait(LISTEN_S)
        except BaseException:
            self._was_deaf = True
            self._close()
            raise
        if topics is None:
            self._hub.publish_all()
        elif topics:
            self._hub.publish(topics)
        return 0.0

    def stop(self) -> None:
        self.is_stopping = True
        listener = self._listener
        if listener is not None:
            listener.interrupt()
        super().stop()
        self._close()

    def _listening(self) -> Listener:
        if self._listener is None:
            self._listener = self._database.listen()
            if self.is_stopping:
                self._listener.interrupt()
        if self._was_deaf:
            # What happened meanwhile rang nobody here.
            self._was_deaf = False
            self._hub.publish_all()
        return self._listener

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()


class NotifierService(Service):
    """Tells other processes what was committed here: at once after a pause, else once a window."""

    name = "notifier"

    def __init__(self, announcer: Announcer, coalesce_s: float) -> None:
        super().__init__()
        self._announcer = announcer
        self._coalesce_s = coalesce_s
        self._queue: SimpleQueue[Topic] = SimpleQueue()
        self._sent_at = 0.0

    def tell(self, topics: list[Topic]) -> None:
        """Hand over topics that are durable. Never waits."""
        for topic in topics:
            self._queue.put(topic)
        self.bell.ring()

    def tick(self) -> float:
        early_s = self._sent_at + self._coalesce_s - time.monotonic()
        if early_s > 0 and not self._queue.empty():
            time.sleep(early_s)
        topics = self._taken()
        if topics:
            self._sent_at = time.monotonic()
            self._announcer.announce(topics)
        return LISTEN_S if self._queue.empty() else 0.0

    def stop(self) -> None:
        super().stop()
        with suppress(Exception):
            # Others find what this could not tell them by their own lookout.
            if topics := self._taken():
                self._announcer.announce(topics)
        self._announcer.close()

    def _taken(self) -> list[Topic]:
        topics: list[Topic] = []
        while len(topics) < MOST_TOPICS:
            try:
                topics.append(self._queue.get_nowait())
            except Empty:
                break
        return topics
