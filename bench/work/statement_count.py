"""A relay in front of a PostgreSQL server that counts the statements passing through.

It reads the frames of the wire protocol, which begin with a letter and a length; only the first
frame of a connection has no letter. 'Q' is a simple query, 'E' executes a prepared one.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import BinaryIO
from urllib.parse import urlsplit, urlunsplit

STATEMENT_FRAMES = (b"Q", b"E")


class StatementCounter:
    """Listens on a port of its own; `count` is how many statements came by so far."""

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        account, _, _ = parts.netloc.rpartition("@")
        here = f"{account}@127.0.0.1:{port}"
        # Encryption would hide the frames.
        query = "sslmode=disable&gssencmode=disable"
        self.url = urlunsplit(("postgresql", here, parts.path, query, ""))
        self.count = 0
        self._guard = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._server)
            for target, ends in ((self._upstream, (client, server)), (_copy, (server, client))):
                threading.Thread(target=target, args=ends, daemon=True).start()

    def _upstream(self, client: socket.socket, server: socket.socket) -> None:
        # Either end may go at any moment; what it leaves unfinished nobody waits for.
        with suppress(OSError, struct.error), client.makefile("rb") as frames:
            letter = b""
            while True:
                server.sendall(letter + _rest_of_frame(frames))
                letter = frames.read(1)
                if not letter:
                    break
                with self._guard:
                    self.count += letter in STATEMENT_FRAMES
        server.close()


def _rest_of_frame(frames: BinaryIO) -> bytes:
    """The length, which counts itself, and the body."""
    length = frames.read(4)
    (number,) = struct.unpack("!I", length)
    return length + frames.read(number - len(length))


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    target.close()
