"""A tiny HTTP server on loopback, and the two client libraries of the examples, talking to it.

Whatever host an example names, the request goes to the server here.
"""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, TracebackType
from typing import Any


@dataclass
class Site:
    """What the server was asked for, and what it answers."""

    port: int = 0
    failures_left: int = 0
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)

    def fetch(self, method: str, url: str, body: bytes | None = None) -> Response:
        path = urllib.parse.urlsplit(url).path or "/"
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=body, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Response(answer.status, answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return Response(refused.code, refused.read())


class HTTPError(Exception):
    """The server answered with an error status."""


@dataclass(frozen=True)
class Response:
    """The part of `requests.Response` that the examples use."""

    status_code: int
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise HTTPError(self.status_code)


@contextmanager
def serving() -> Iterator[Site]:
    """Serve on a free port for the length of the block."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            site.asked.append((self.command, self.path, body))
            if site.failures_left:
                site.failures_left -= 1
                self.send_error(503)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "ok", "path": self.path}).encode())

        def log_message(self, format: str, *args: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def requests_for(site: Site) -> ModuleType:
    """A module with the part of `requests` that the examples use."""

    def get(url: str) -> Response:
        return site.fetch("GET", url)

    def post(url: str, *, json: Any) -> Response:
        return site.fetch("POST", url, _encoded(json))

    module = ModuleType("requests")
    module.__dict__.update(get=get, post=post)
    return module


def aiohttp_for(site: Site) -> ModuleType:
    """A module with the part of `aiohttp` that the examples use."""

    class Answer:
        def __init__(self, url: str) -> None:
            self._url = url

        async def __aenter__(self) -> Answer:
            self._response = await asyncio.to_thread(site.fetch, "GET", self._url)
            return self

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            return None

        async def text(self) -> str:
            return self._response.text

    class ClientSession:
        async def __aenter__(self) -> ClientSession:
            return self

        async def __aexit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            return None

        def get(self, url: str) -> Answer:
            return Answer(url)

    module = ModuleType("aiohttp")
    module.__dict__.update(ClientSession=ClientSession)
    return module


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()
