"""Times pages of the list of workflows. Parameters: runs, samples."""

from __future__ import annotations

import statistics
import time

from bench.work.program import launched, parameters, report
from dbos import DBOS

PAGE = 100


@DBOS.workflow()
def quick(number: int) -> int:
    return number


def page_ms(offset: int) -> float:
    started = time.perf_counter()
    page = DBOS.list_workflows(limit=PAGE, offset=offset, sort_desc=True)
    elapsed = (time.perf_counter() - started) * 1000
    if len(page) != PAGE:
        raise SystemExit(f"the page at {offset} has {len(page)} rows, not {PAGE}")
    return elapsed


def main() -> None:
    given = parameters()
    runs, samples = int(given["runs"]), int(given["samples"])
    with launched():
        for number in range(runs):
            quick(number)
        page_ms(0)
        first = statistics.median(page_ms(0) for _ in range(samples))
        last = statistics.median(page_ms(runs - PAGE) for _ in range(samples))
    report({"first_page_ms": first, "last_page_ms": last})


if __name__ == "__main__":
    main()
