"""A relay in front of a PostgreSQL server that can cut a connection around its commit."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import BinaryIO, Literal
from urllib.parse import urlsplit, urlunsplit

Cut = Literal["before", "after", "late"]


class Relay:
    """Listens on a port of its own and passes on what comes, until it is told to cut.

    The client of the next commit is cut off then. Its commit never reaches the server (`before`),
    was answered by the server but not to the client (`after`), or reaches the server only when
    `release` is called (`late`).
    """

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        account, _, _ = parts.netloc.rpartition("@")
        here = f"{account}@127.0.0.1:{self._listener.getsockname()[1]}"
        # Encryption would hide the frames.
        self.url = urlunsplit(
            (parts.scheme, here, parts.path, "sslmode=disable&gssencmode=disable", "")
        )
        self.cuts = 0
        self._next: Cut | None = None
        self._released = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_next(self, cut: Cut) -> None:
        """Cut off the client that commits next."""
        self._next = cut

    def release(self) -> None:
        """Let a late commit reach the server."""
        self._released.set()

    def close(self) -> None:
        self._released.set()
        _hang_up(self._listener)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                link = _Link(client, socket.create_connection(self._server))
                threading.Thread(target=self._upstream, args=(link,), daemon=True).start()
                threading.Thread(target=link.copy_down, daemon=True).start()

    def _upstream(self, link: _Link) -> None:
        # Either end may go at any moment; what it leaves unfinished nobody waits for.
        with suppress(OSError, struct.error), link.client.makefile("rb") as frames:
            letter = b""
            while True:
                frame = letter + _rest_of_frame(frames)
                cut = self._next
                if cut is not None and frame[0:1] == b"Q" and frame[5:11].upper() == b"COMMIT":
                    self._next = None
                    self.cuts += 1
                    self._cut(cut, frame, link)
                    break
                link.server.sendall(frame)
                letter = frames.read(1)
                if not letter:
                    break
        _hang_up(link.server)

    def _cut(self, cut: Cut, frame: bytes, link: _Link) -> None:
        link.is_mute = True
        if cut == "after":
            link.server.sendall(frame)
            link.answered.wait()
        _hang_up(link.client)
        if cut == "late":
            self._released.wait()
            link.server.sendall(frame)
            link.answered.wait()


class _Link:
    """One connection of a client, and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.is_mute = False
        """Whether what the server says is kept from the client."""
        self.answered = threading.Event()
        """Set when the server has said something that was kept."""

    def copy_down(self) -> None:
        with suppress(OSError):
            while chunk := self.server.recv(65536):
                if self.is_mute:
                    self.answered.set()
                else:
                    self.client.sendall(chunk)
        self.answered.set()
        # A mere close does nothing while the other thread reads.
        _hang_up(self.client)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _rest_of_frame(frames: BinaryIO) -> bytes:
    """The length, which counts itself, and the body."""
    length = frames.read(4)
    (number,) = struct.unpack("!I", length)
    return length + frames.read(number - len(length))
