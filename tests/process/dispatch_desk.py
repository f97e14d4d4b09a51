"""An application to deploy: tests copy this file, run it, and edit one of its three workflows.

    python dispatch_desk.py DATABASE_URL DIARY SETTINGS [WORKFLOW RUN_ID]...

SETTINGS is a JSON object, laid over the configuration. It starts the runs it is told, says `ready`,
and goes on until its input ends. Each step leaves a line in the diary.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dbos import DBOS, DBOSConfig, SetWorkflowID

DIARY = Path(sys.argv[2])
PAUSE_S = 1.0


@DBOS.step()
def do(what: str) -> None:
    with DIARY.open("a") as diary:
        diary.write(f"{DBOS.workflow_id} {what}\n")


@DBOS.workflow()
def bill() -> str:
    do("weigh")
    return f"billed to {DBOS.recv('payer', 60)}"


@DBOS.workflow()
def pack() -> str:
    do("fetch")
    DBOS.sleep(PAUSE_S)
    do("wrap")
    return "packed"


@DBOS.workflow()
def ship() -> str:
    do("label")
    return f"shipped by {DBOS.recv('carrier', 60)}"


def main() -> None:
    url, _, settings, *runs = sys.argv[1:]
    config: DBOSConfig = {"name": "desk", "system_database_url": url}
    config.update(json.loads(settings))
    DBOS(config=config)
    DBOS.launch()
    workflows = {"bill": bill, "pack": pack, "ship": ship}
    for name, run_id in zip(runs[::2], runs[1::2], strict=True):
        with SetWorkflowID(run_id):
            DBOS.start_workflow(workflows[name])
    print("ready", flush=True)
    sys.stdin.read()
    DBOS.destroy()


if __name__ == "__main__":
    main()
