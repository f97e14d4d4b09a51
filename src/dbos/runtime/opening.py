"""Something that many threads may need first, and that is opened once and closed once."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Opening:
    """The state of what is opened by whoever comes first. The lock guards both flags."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_open: bool = False
        self.is_closed: bool = False

    def open(self, action: Callable[[], None]) -> None:
        """Open unless it was opened or closed; others wait meanwhile. A failure leaves it shut."""
        with self._lock:
            if not self.is_open and not self.is_closed:
                action()
                self.is_open = True

    def close(self) -> bool:
        """From now on it is closed; whether this call made it so."""
        with self._lock:
            is_first, self.is_closed = not self.is_closed, True
            return is_first
