"""The committer over real databases: the order of writes, interrupts, and collisions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from typing import Any

import pytest

from dbos.engine.io import Closed
from dbos.errors import DBOSInvalidInputError
from dbos.runtime.aio import settle_all
from dbos.runtime.blocking import BlockingIo
from dbos.runtime.committer import Committer, Ticket
from dbos.runtime.drive import drive_parking
from dbos.runtime.loops import LoopHouse
from dbos.runtime.reader import ASYNC_READERS, Reader
from dbos.runtime.threads import WorkerThreads
from dbos.storage import executors, workflows
from dbos.storage.protocol import Statement, Topic, Tx, Write
from dbos.storage.rows import FinishRow, NewRun
from tests.storage.conftest import AnyDatabase
from tests.storage.test_postgres import opened

WITHIN_S = 30.0


def ignore(_: list[Topic]) -> None:
    return None


@pytest.fixture
def committer(database: AnyDatabase) -> Iterator[Committer]:
    made = Committer(database, ignore, settle_all, (0,))
    made.start()
    yield made
    made.stop()


class Notebook:
    """Writes that note in which order they were applied, and can be held up amid it."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.reached = threading.Event()
        self.released = threading.Event()
        self.write: Write[str, None] = Write("note", self._note, single=True)

    def _note(self, tx: Tx, names: Sequence[str]) -> list[None]:
        for name in names:
            if name == "held up":
                self.reached.set()
                assert self.released.wait(WITHIN_S)
            self.notes.append(name)
        return [None] * len(names)


def in_thread(function: Callable[..., Any], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def test_a_commit_on_the_callers_thread_overtakes_nothing_that_was_handed_over(
    committer: Committer,
) -> None:
    book, handed = Notebook(), Ticket(Notebook().write, "")

    def hold_up_and_go_on() -> None:
        committer.run(book.write, "held up", "lane")
        committer.run(book.write, "inline", "lane")

    thread = in_thread(hold_up_and_go_on)
    assert book.reached.wait(WITHIN_S)
    handed = Ticket(book.write, "handed over")
    handed.prepare_to_block()
    committer.submit("lane", handed)
    book.released.set()
    thread.join(WITHIN_S)
    handed.block()

    assert book.notes == ["held up", "handed over", "inline"]


def test_the_last_write_of_a_background_run_keeps_no_thread_waiting(
    database: AnyDatabase, committer: Committer
) -> None:
    book, ended = Notebook(), threading.Event()
    io = BlockingIo(Reader(database), committer, LoopHouse(), WorkerThreads(None))

    async def run() -> None:
        await io.commit_last(book.write, "last", "lane")
        ended.set()

    thread = in_thread(committer.run, book.write, "held up", "lane")
    assert book.reached.wait(WITHIN_S)
    drive_parking(run())
    went_on_before = ended.is_set()
    book.released.set()

    assert ended.wait(WITHIN_S)
    thread.join(WITHIN_S)
    assert not went_on_before
    assert book.notes == ["held up", "last"]


class InterruptedOnce:
    """A lock whose first acquisition is the last thing before Ctrl-C arrives."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_due = True
        self.release = self._lock.release

    def acquire(self, blocking: bool = True) -> bool:
        acquired = self._lock.acquire(blocking)
        if self._is_due:
            self._is_due = False
            raise KeyboardInterrupt
        return acquired

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_an_interrupt_right_after_the_lock_was_taken_leaves_the_lane_free(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Notebook()
    lane = committer._lane("lane")  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(lane, "lock", InterruptedOnce())

    with pytest.raises(KeyboardInterrupt):
        committer.run(book.write, "interrupted", "lane")
    thread = in_thread(committer.run, book.write, "next", "lane")
    thread.join(WITHIN_S)

    assert book.notes == ["next"]


def test_an_asyncio_caller_is_answered_in_the_order_of_the_lane(committer: Committer) -> None:
    book = Notebook()

    async def scenario() -> list[str]:
        answered: list[str] = []
        loop = asyncio.get_running_loop()
        tickets = [Ticket(book.write, str(number)) for number in range(600)]
        for ticket in tickets:
            ticket.prepare_to_block()
            committer.submit("lane", ticket)
        for ticket in tickets:
            await loop.run_in_executor(None, ticket.block)
            answered.append(ticket.arg)
        return answered

    answered = asyncio.run(scenario())

    assert answered == book.notes == [str(number) for number in range(600)]


RAISE = Statement("DO $$ BEGIN RAISE EXCEPTION SQLSTATE '40P01'; END $$")
IDS = Statement("SELECT workflow_uuid, status FROM {workflow_status} ORDER BY workflow_uuid")


def test_a_collision_is_tried_again_at_once_and_without_a_word(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = opened(postgres_url)
    database.migrate()
    committer = Committer(database, ignore, settle_all)
    tries: list[int] = []

    def collide(tx: Tx, args: Sequence[int]) -> list[int]:
        tries.append(1)
        if len(tries) < 4:
            tx.run(RAISE)
        return [len(tries)] * len(args)

    # An outage is not waited out any more after this; a collision is none.
    answer = committer.run(Write("collide", collide), 0, "")
    committer.stop()
    database.close()

    assert answer == 4
    assert caplog.records == []


def new_run(workflow_id: str, claim: str = "claim", **columns: Any) -> NewRun:
    return NewRun(workflow_id, "PENDING", "w", "[]", "json", claim, "shop", "v1", **columns)


def test_two_batches_that_end_the_same_runs_never_deadlock(postgres_url: str) -> None:
    database = opened(postgres_url)
    database.migrate()
    ids = [f"run-{number:03}" for number in range(200)]
    with database.write() as tx:
        workflows.admit_rows(tx, [new_run(workflow_id) for workflow_id in ids])
    failures: list[BaseException] = []
    together = threading.Barrier(2, timeout=WITHIN_S)

    def end_all(lane: int, order: list[str]) -> None:
        try:
            for _ in range(5):
                together.wait()
                rows = [FinishRow(name, "PENDING", None, None, "claim") for name in order]
                with database.write(lane) as tx:
                    workflows.finish_rows(tx, rows)
        except BaseException as error:
            failures.append(error)

    threads = [in_thread(end_all, 0, ids), in_thread(end_all, 1, ids[::-1])]
    for thread in threads:
        thread.join(WITHIN_S)
    database.close()

    assert failures == []


def test_a_key_too_large_for_an_index_is_bad_input(postgres_url: str) -> None:
    database = opened(postgres_url)
    database.migrate()
    committer = Committer(database, ignore, settle_all)
    letters = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(9_000))

    with pytest.raises(DBOSInvalidInputError, match="shorten it"):
        committer.run(workflows.admit, new_run(letters), "")
    committer.stop()
    database.close()


def test_a_refused_write_fails_alone(committer: Committer, database: AnyDatabase) -> None:
    book = Notebook()
    thread = in_thread(committer.run, book.write, "held up", "lane")
    assert book.reached.wait(WITHIN_S)
    runs = [new_run("good"), new_run("bad", attributes="{no json"), new_run("fine")]
    tickets = [Ticket(workflows.admit, run) for run in runs]
    for ticket in tickets:
        ticket.prepare_to_block()
        committer.submit("lane", ticket)
    book.released.set()
    for ticket in tickets:
        ticket.block()
    thread.join(WITHIN_S)

    with database.read() as tx:
        stored = [row[0] for row in tx.all(IDS)]
    if tickets[1].error is not None:
        assert stored == ["fine", "good"]
    else:
        # SQLite stores any text.
        assert stored == ["bad", "fine", "good"]
    assert tickets[0].error is None
    assert tickets[2].error is None


def test_reads_that_come_too_late_are_told_that_it_is_over(database: AnyDatabase) -> None:
    reader = Reader(database)
    released = threading.Event()
    running = [reader.submit(lambda _: released.wait(WITHIN_S)) for _ in range(ASYNC_READERS)]
    waiting = reader.submit(executors.ping)

    reader.stop()
    released.set()

    assert isinstance(waiting.exception(WITHIN_S), Closed)
    with pytest.raises(Closed):
        reader.submit(executors.ping)
    wait(running, WITHIN_S)
