"""The program under test: an example of the seed, served by uvicorn, whose steps may never end.

    python -m tests.process.web EXAMPLE DATABASE_URL PORT [hangs] [integrated]

With `hangs` every step says `in step` on standard output and then waits to be killed. With
`integrated` the application is given to `DBOS(fastapi=...)`, and nobody else launches.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi
import uvicorn

from dbos import DBOS

SERVE = uvicorn.run


def hanging_step(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A step whose effect is never known."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def hang(*args: Any) -> Any:
            print("in step", flush=True)
            threading.Event().wait()

        hang.__qualname__ = function.__qualname__
        return DBOS.step(**options)(hang)

    return decorate


class HangingDBOS(DBOS):
    step = staticmethod(hanging_step)  # type: ignore[assignment, misc]


def main() -> None:
    path, database_url, port, *manner = sys.argv[1:]
    web = fastapi.FastAPI()
    DBOS(
        config={"name": "orders", "system_database_url": database_url},
        fastapi=web if "integrated" in manner else None,
    )

    def run(app: fastapi.FastAPI, **_: Any) -> None:
        SERVE(app, host="127.0.0.1", port=int(port))

    uvicorn.run = run  # type: ignore[assignment]
    program: dict[str, Any] = {
        "__name__": "__main__",
        "DBOS": HangingDBOS if "hangs" in manner else DBOS,
    }
    text = Path(path).read_text()
    if "integrated" in manner:
        program["web"] = web
        text = text.replace("app = FastAPI()", "app = web").replace("DBOS.launch()", "pass")
    exec(compile(text, path, "exec"), program)


if __name__ == "__main__":
    main()
