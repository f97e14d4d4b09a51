"""A client in a process of its own: it enqueues, talks to, steers and awaits many runs.

    python -m tests.process.client_errands DATABASE_URL DIRECTORY SEED RUNS

Every second errand goes through the async calls. What it was promised and what it was told is
written to the directory when all is done.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine

from dbos import DBOSClient, EnqueueOptions, SendMessage
from dbos.error import DBOSAwaitedWorkflowCancelledError

QUEUE, TALK = "errands", "talk"
MESSAGES, CHAIN = 3, 4
AT_ONCE = 24
COMMANDS = 6
"""How many commands each run of a storm provokes."""
BULK = 5
CUT_OFF = "a part of it was cancelled"
KINDS = ("job", "chat", "chain", "chain", "within", "rolled back")


@dataclass(slots=True)
class Told:
    """What a client was promised, and what it was told about it."""

    expected: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    """The results that each run may have, by id; all were acknowledged."""
    results: dict[str, Any] = field(default_factory=dict[str, Any])
    rolled_back: list[str] = field(default_factory=list[str])
    forks: dict[str, str] = field(default_factory=dict[str, str])
    """Of each fork its source."""
    commands: dict[str, int] = field(default_factory=dict[str, int])

    def save(self, directory: Path) -> None:
        (directory / "told.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> Told:
        return cls(**json.loads((directory / "told.json").read_text()))

    def count(self, command: str, times: int = 1) -> None:
        self.commands[command] = self.commands.get(command, 0) + times


class Caller:
    """One client, called through its blocking or its async methods."""

    def __init__(self, client: DBOSClient, told: Told, *, is_async: bool) -> None:
        self._client = client
        self._told = told
        self._is_async = is_async

    async def do(self, call: str, *args: Any, **kwargs: Any) -> Any:
        self._told.count(call)
        if self._is_async:
            return await getattr(self._client, f"{call}_async")(*args, **kwargs)
        return await asyncio.to_thread(getattr(self._client, call), *args, **kwargs)

    async def result(self, workflow_id: str) -> Any:
        handle = await self.do("retrieve_workflow", workflow_id)
        return await (handle.get_result() if self._is_async else asyncio.to_thread(_result, handle))

    async def final(self, workflow_id: str) -> Any:
        """What a run comes to, resumed whenever it was cancelled itself."""
        while True:
            try:
                return await self.result(workflow_id)
            except DBOSAwaitedWorkflowCancelledError as error:
                if error.workflow_id != workflow_id:
                    return CUT_OFF
                await self.do("resume_workflow", workflow_id)


class Errands:
    """All that the clients of one process do."""

    def __init__(self, client: DBOSClient, own: Engine, seed: int, runs: int) -> None:
        self.told = Told()
        self._client = client
        self._own = own
        self._chance = random.Random(seed)
        self._runs = runs
        self._pool: list[str] = []
        """The runs that commands may hit."""

    async def run(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(AT_ONCE))
        turns = asyncio.Semaphore(AT_ONCE)

        async def take_turn(number: int) -> None:
            async with turns:
                await self._errand(number)

        await asyncio.gather(*(take_turn(number) for number in range(self._runs)))
        async with asyncio.TaskGroup() as settling:
            for number, workflow_id in enumerate(self._pool):
                settling.create_task(self._settle(self._caller(number), workflow_id))

    def _caller(self, number: int) -> Caller:
        return Caller(self._client, self.told, is_async=number % 2 == 0)

    async def _errand(self, number: int) -> None:
        kind = KINDS[number // 2 % len(KINDS)]
        caller, workflow_id = self._caller(number), f"{kind.replace(' ', '-')}-{number}"
        match kind:
            case "job":
                await self._job(caller, workflow_id, number)
            case "chat":
                await self._chat(caller, workflow_id)
            case "chain":
                await self._chain(caller, workflow_id)
            case _:
                await asyncio.to_thread(self._within, workflow_id, number, kind == "within")
                if kind == "within":
                    self.told.results[workflow_id] = await caller.result(workflow_id)

    async def _job(self, caller: Caller, workflow_id: str, number: int) -> None:
        for _ in range(2):
            await caller.do("enqueue", _options("job", workflow_id), number)
        self.told.expected[workflow_id] = [[number, 0, 1]]
        self.told.results[workflow_id] = await caller.result(workflow_id)

    async def _chat(self, caller: Caller, workflow_id: str) -> None:
        await caller.do("enqueue", _options("chat", workflow_id), MESSAGES)
        self.told.expected[workflow_id] = [list(range(MESSAGES))]
        for message in range(MESSAGES - 1):
            for _ in range(2):
                await caller.do("send", workflow_id, message, TALK, f"{workflow_id}-{message}")
        last = SendMessage(workflow_id, MESSAGES - 1, TALK, f"{workflow_id}-last")
        for _ in range(2):
            await caller.do("send_bulk", [last])
        await caller.do("get_event", workflow_id, "heard", 60)
        self.told.results[workflow_id] = await caller.result(workflow_id)

    async def _chain(self, caller: Caller, workflow_id: str) -> None:
        await caller.do("enqueue", _options("chain", workflow_id), CHAIN)
        self._promise_chain(workflow_id)
        for _ in range(COMMANDS):
            await self._command(caller)

    def _promise_chain(self, workflow_id: str) -> None:
        self._pool.append(workflow_id)
        self.told.expected[workflow_id] = [list(range(CHAIN)), CUT_OFF]

    async def _command(self, caller: Caller) -> None:
        """One command at random on runs at random, most of them young."""
        young = self._pool[-3 * AT_ONCE :]
        target = self._chance.choice(young)
        targets = self._chance.sample(young, min(BULK, len(young)))
        cascade = self._chance.random() < 0.5
        match self._chance.randrange(9):
            case 0 | 1:
                await caller.do("cancel_workflow", target, cancel_children=cascade)
            case 2 | 3:
                await caller.do("cancel_workflows", targets, cancel_children=cascade)
            case 4 | 5:
                await caller.do("resume_workflow", target)
            case 6 | 7:
                await caller.do("resume_workflows", targets)
            case _:
                step = self._chance.randrange(2 * CHAIN)
                fork = await caller.do("fork_workflow", target, step)
                self.told.forks[fork.workflow_id] = target
                self._promise_chain(fork.workflow_id)

    def _within(self, workflow_id: str, number: int, commits: bool) -> None:
        """Enqueue in a transaction of ours, which is committed or rolled back."""
        with self._own.connect() as connection:
            options = _options("job", workflow_id)
            self._client.enqueue_in_transaction(connection, options, number)
            self.told.count("enqueue_in_transaction")
            if commits:
                connection.commit()
                self.told.expected[workflow_id] = [[number, 0, 1]]
            else:
                connection.rollback()
                self.told.rolled_back.append(workflow_id)

    async def _settle(self, caller: Caller, workflow_id: str) -> None:
        self.told.results[workflow_id] = await caller.final(workflow_id)


def _options(workflow_name: str, workflow_id: str) -> EnqueueOptions:
    return {"workflow_name": workflow_name, "queue_name": QUEUE, "workflow_id": workflow_id}


def _result(handle: Any) -> Any:
    return handle.get_result()


def main() -> None:
    url, directory, seed, runs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    own = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    client = DBOSClient(system_database_url=url, use_listen_notify=True)
    errands = Errands(client, own, seed, runs)
    try:
        asyncio.run(errands.run())
    finally:
        errands.told.save(directory)
        client.destroy()
        own.dispose()


if __name__ == "__main__":
    main()
