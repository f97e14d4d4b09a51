"""Bells and the hub that rings them: how a durable change reaches those who wait for it.

Theory of operation. A waiter leaves a bell at the hub for a topic, looks, waits for the bell, and
looks again. Whoever makes a change durable publishes its topics after the commit. A bell stays
rung until its owner clears it, so a change between the look and the wait is not missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager

from dbos.storage.protocol import Topic


class Bell:
    """A signal that one waiter waits for. Its lock guards both fields and is not held in a wake."""

    __slots__ = ("_is_rung", "_lock", "_wake")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_rung = False
        self._wake: Callable[[], None] | None = None

    def ring(self) -> None:
        with self._lock:
            self._is_rung = True
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def clear(self) -> None:
        with self._lock:
            self._is_rung = False

    def arm(self, wake: Callable[[], None]) -> bool:
        """Have `wake` called at the next ring. False, and nothing armed, if it has rung already."""
        with self._lock:
            if self._is_rung:
                return False
            self._wake = wake
            return True

    def disarm(self) -> bool:
        """Forget the armed call; whether the bell rang, which is cleared."""
        with self._lock:
            self._wake = None
            rang, self._is_rung = self._is_rung, False
            return rang


class WakeupHub:
    """The bells of one engine, by topic. The lock guards the table, not the bells."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bells: dict[Topic, set[Bell]] = {}
        self._subjects: dict[Topic, tuple[str, ...]] = {}

    @contextmanager
    def watch(
        self, topic: Topic, *subject: str, also: Sequence[Topic] = ()
    ) -> Generator[Bell, None, None]:
        """A bell for a topic, for the length of a block, rung for further topics too if given.

        `subject` is what the lookout asks the database about, should no bell ring.
        """
        bell = Bell()
        self.attach(topic, bell, *subject)
        for topic_too in also:
            self.attach(topic_too, bell)
        try:
            yield bell
        finally:
            self.detach(topic, bell)
            for topic_too in also:
                self.detach(topic_too, bell)

    def attach(self, topic: Topic, bell: Bell, *subject: str) -> None:
        """Have a bell rung for one more topic; one with an empty key stands for its whole kind."""
        with self._lock:
            self._bells.setdefault(topic, set()).add(bell)
            if subject:
                self._subjects[topic] = subject

    def detach(self, topic: Topic, bell: Bell) -> None:
        with self._lock:
            bells = self._bells.get(topic)
            if bells is not None:
                bells.discard(bell)
                if not bells:
                    del self._bells[topic]
                    self._subjects.pop(topic, None)

    def publish(self, topics: Iterable[Topic]) -> None:
        """Ring all bells of these topics."""
        if not self._bells:
            return
        with self._lock:
            rung = [
                bell
                for topic in topics
                for known in (topic, Topic(topic.kind, ""))
                for bell in self._bells.get(known, ())
            ]
        for bell in rung:
            bell.ring()

    def publish_all(self) -> None:
        """Ring every bell: anything may have changed."""
        with self._lock:
            rung = [bell for bells in self._bells.values() for bell in bells]
        for bell in rung:
            bell.ring()

    def subjects(self, kind: str) -> list[tuple[str, ...]]:
        """What is waited for, of one kind."""
        with self._lock:
            return [subject for topic, subject in self._subjects.items() if topic.kind == kind]

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for anything that another process might do."""
        return not self._subjects
