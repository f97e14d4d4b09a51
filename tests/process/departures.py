"""Programs that end in other ways than by DBOS.destroy().

python -m tests.process.departures DATABASE_URL MANNER
"""

from __future__ import annotations

import signal
import sys
import threading

from dbos import DBOS, SetWorkflowID

ASLEEP_S = 3600.0


@DBOS.step()
def shut_an_eye() -> None:
    print("asleep", flush=True)


@DBOS.workflow()
def sleep_long() -> None:
    shut_an_eye()
    DBOS.sleep(ASLEEP_S)


@DBOS.workflow()
def greet() -> str:
    return "hello"


def main() -> None:
    # A shell that runs the tests in the background has its children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    database_url, manner = sys.argv[1:]
    if manner == "never constructed":
        return
    DBOS(config={"name": "departures", "system_database_url": database_url, "log_level": "WARNING"})
    if manner == "never launched":
        return
    DBOS.launch()
    if manner == "idle":
        print(greet(), flush=True)
    elif manner == "waiting":
        with SetWorkflowID("long"):
            DBOS.start_workflow(sleep_long).get_result()
    elif manner == "calling":
        with SetWorkflowID("long"):
            sleep_long()
    elif manner == "parked":
        with SetWorkflowID("long"):
            DBOS.start_workflow(sleep_long)
        # In slices: a signal that comes just before one long wait would not end it (CPython looks
        # for signals before it blocks, not while it does).
        while True:
            threading.Event().wait(0.05)
    else:
        raise ValueError(f"No such manner of departure: {manner}")


if __name__ == "__main__":
    main()
