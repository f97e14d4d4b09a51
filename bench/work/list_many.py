"""Times lists of a database that is full already. Parameters: runs, samples."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from bench.many_runs import FIRST_MS, PERIOD_MS
from bench.work.program import launched, parameters, report
from dbos import DBOS

PAGE = 50
SETTLING_S = 4.0
COUNTS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "count_by_status": {},
        "count_of_failed": {"status": ["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]},
    }
)


def questions(runs: int) -> dict[str, dict[str, Any]]:
    """What is asked, by the name of its figure."""
    deep = {f"offset_{offset}": offset for offset in (50_000, 150_000, 500_000) if offset < runs}
    return {
        "newest": {"sort_desc": True},
        "oldest": {},
        "filtered": {
            "name": "workflow_3",
            "status": "ERROR",
            "start_time": _iso(runs // 10),
            "end_time": _iso(runs * 9 // 10),
            "sort_desc": True,
        },
        "failed": {"status": "CANCELLED", "sort_desc": True},
        "pending": {"status": "PENDING"},
        "queued": {"queues_only": True},
        "children": {"parent_workflow_id": f"run-{runs // 10}"},
        "prefix": {"workflow_id_prefix": f"run-{runs // 100}"},
        "unknown_name": {"name": "nobody"},
        **{name: {"sort_desc": True, "offset": offset} for name, offset in deep.items()},
        "bare_page": {"sort_desc": True, "load_input": False, "load_output": False},
        "errors_of_a_name": {
            "name": "workflow_3",
            "status": "ERROR",
            "limit": None,
            "load_input": False,
            "load_output": False,
        },
    }


def _iso(number: int) -> str:
    return datetime.fromtimestamp((FIRST_MS + number * PERIOD_MS) / 1000, UTC).isoformat()


def elapsed_ms(filters: Mapping[str, Any]) -> float:
    started = time.perf_counter()
    DBOS.list_workflows(**{"limit": PAGE, **filters})
    return (time.perf_counter() - started) * 1000


def counted_ms(filters: Mapping[str, Any]) -> float:
    started = time.perf_counter()
    DBOS.count_workflows(**filters)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    given = parameters()
    samples = int(given["samples"])
    with launched():
        # The beginning of a process is not what is measured: its services connect and look around.
        time.sleep(SETTLING_S)
        figures: dict[str, float] = {}
        for name, filters in questions(int(given["runs"])).items():
            elapsed_ms(filters)
            figures[name] = statistics.median(elapsed_ms(filters) for _ in range(samples))
        # The reference has no such call.
        for name, filters in COUNTS.items() if hasattr(DBOS, "count_workflows") else ():
            counted_ms(filters)
            figures[name] = statistics.median(counted_ms(filters) for _ in range(samples))
    report(figures)


if __name__ == "__main__":
    main()
