"""A web server that is killed in the middle of a request: the workflow of the request finishes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import RemoteDisconnected
from pathlib import Path

import pytest

from dbos import DBOS
from tests.process.lives import ROOT, environment
from tests.support.postgres import PostgresAddress

EXAMPLE = ROOT / "examples" / "seed" / "fastapi_integration.py"


class Server:
    """One life of the server. What it says on both outputs is read line by line."""

    def __init__(self, database_url: str, *manner: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        command = [sys.executable, "-m", "tests.process.web", str(EXAMPLE), database_url]
        self._process = subprocess.Popen(
            [*command, str(self.port), *manner],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._await_saying("Uvicorn running")

    def _await_saying(self, words: str) -> None:
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if words in line:
                return
        raise RuntimeError(f"The server ended by itself:\n{''.join(said)}")

    def post(self, path: str, **headers: str) -> object:
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, b"", headers, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def kill_in_step(self, path: str, **headers: str) -> None:
        """Post, and kill the server with -9 while a step of the request runs."""

        def post() -> None:
            with suppress(urllib.error.URLError, RemoteDisconnected, ConnectionError):
                self.post(path, **headers)

        client = threading.Thread(target=post)
        client.start()
        self._await_saying("in step")
        os.kill(self._process.pid, signal.SIGKILL)
        client.join(60)
        assert self._process.wait(60) == -signal.SIGKILL

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.communicate(timeout=60)


@contextmanager
def serving(database_url: str, *manner: str) -> Iterator[Server]:
    server = Server(database_url, *manner)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    DBOS.destroy()
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'orders.sqlite'}"
        DBOS.destroy()
        return
    server: PostgresAddress = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    DBOS.destroy()
    server.drop_database(name)


@pytest.mark.timeout(300)
def test_the_seeds_route_finishes_after_a_kill(database_url: str) -> None:
    with serving(database_url, "hangs") as server:
        server.kill_in_step("/orders/7")
    DBOS(config={"name": "orders", "system_database_url": database_url})
    DBOS.launch()
    [interrupted] = DBOS.list_workflows()

    with serving(database_url) as server:
        assert DBOS.get_result(interrupted.workflow_id) == {"order_id": "7", "status": "processed"}
        assert server.post("/orders/8") == {"order_id": "8", "status": "processed"}


@pytest.mark.timeout(300)
def test_a_client_that_asks_again_gets_the_result_of_its_first_request(database_url: str) -> None:
    key = {"dbos-idempotency-key": "order-7"}
    with serving(database_url, "hangs", "integrated") as server:
        server.kill_in_step("/orders/7", **key)

    with serving(database_url, "integrated") as server:
        assert server.post("/orders/7", **key) == {"order_id": "7", "status": "processed"}

    DBOS(config={"name": "orders", "system_database_url": database_url})
    DBOS.launch()
    status = DBOS.get_workflow_status("order-7")
    assert status is not None
    assert (status.status, status.recovery_attempts) == ("SUCCESS", 2)
