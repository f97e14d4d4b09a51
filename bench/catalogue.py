"""The measurements there are, with their bars and goals."""

from __future__ import annotations

from bench.plan import Database, Figure, Limit, Ratio, Row, Targets


def _times(bar: float, goal: float) -> Targets:
    return Targets(Ratio(bar), Ratio(goal))


def _limits(bar: float, goal: float, unit: str) -> Targets:
    return Targets(Limit(bar, unit), Limit(goal, unit))


def _both(targets: Targets) -> dict[Database, Targets]:
    return {"sqlite": targets, "postgres": targets}


ROWS = (
    Row(
        name="sequential_10",
        program="sequential",
        figures=(
            Figure(
                "p50_ms",
                "sequential workflow, 10 steps, p50",
                "ms",
                targets={"sqlite": _times(7, 10), "postgres": _times(3, 4)},
            ),
        ),
        parameters={"steps": 10, "seconds": 3},
        quick={"seconds": 1},
    ),
    Row(
        name="sequential_0",
        program="sequential",
        figures=(
            Figure(
                "p50_ms",
                "sequential workflow, no step, p50",
                "ms",
                targets={"sqlite": _times(4, 5), "postgres": _times(1.7, 2)},
            ),
        ),
        parameters={"steps": 0, "seconds": 2},
        quick={"seconds": 1},
    ),
    Row(
        name="threads",
        program="threads",
        figures=(
            Figure(
                "steps_per_s",
                "32 threads, 10-step workflows",
                "steps/s",
                more_is_better=True,
                targets={"sqlite": _times(15, 30), "postgres": _times(12, 23)},
            ),
        ),
        parameters={"threads": 32, "seconds": 4},
        quick={"seconds": 1},
    ),
    Row(
        name="tasks",
        program="tasks",
        figures=(
            Figure(
                "steps_per_s",
                "200 asyncio tasks, 10-step workflows",
                "steps/s",
                more_is_better=True,
                targets={"sqlite": _times(60, 150), "postgres": _times(30, 60)},
            ),
        ),
        parameters={"tasks": 200, "seconds": 4},
        quick={"tasks": 50, "seconds": 1},
    ),
    Row(
        name="recovery",
        program="recovery",
        figures=(
            Figure(
                "workflows_per_s",
                "recovery, 5 recorded steps each",
                "workflows/s",
                more_is_better=True,
                targets={"sqlite": _times(30, 100), "postgres": _times(20, 40)},
            ),
        ),
        parameters={"runs": 500},
        quick={"runs": 60},
    ),
    Row(
        name="imports",
        program="imports",
        figures=(
            Figure(
                "import_ms",
                "`import dbos` over the bare interpreter",
                "ms",
                targets={"sqlite": _times(2, 3)},
            ),
            Figure("times_psycopg", "the same in imports of psycopg", "x"),
        ),
        parameters={"rounds": 7},
        quick={"rounds": 2},
        databases=("sqlite",),
    ),
    Row(
        name="launch",
        program="launch",
        figures=(
            Figure("launch_ms", "construct and launch", "ms"),
            Figure("first_launch_ms", "the same on an empty database", "ms"),
            Figure("whole_process_ms", "process that imports and launches", "ms"),
        ),
        parameters={"rounds": 5},
        quick={"rounds": 2},
    ),
    Row(
        name="queue_one_worker",
        program="queue_drain",
        figures=(
            Figure(
                "workflows_per_s",
                "queue drain, one worker",
                "workflows/s",
                more_is_better=True,
                targets={"sqlite": _times(12, 27), "postgres": _times(3, 5)},
            ),
        ),
        parameters={"runs": 3000, "workers": 1},
        quick={"runs": 150},
    ),
    Row(
        name="queue_two_workers",
        program="queue_drain",
        figures=(
            Figure("workflows_per_s", "queue drain, two workers", "workflows/s", True),
            Figure(
                "smallest_share_percent",
                "share of the less busy of two workers",
                "%",
                more_is_better=True,
                targets=_both(_limits(20, 40, "%")),
            ),
        ),
        parameters={"runs": 3000, "workers": 2},
        quick={"runs": 150},
    ),
    Row(
        name="enqueue_latency",
        program="enqueue_latency",
        figures=(
            Figure(
                "p50_ms",
                "idle queue, enqueue to start, p50",
                "ms",
                targets=_both(_limits(10, 2, "ms")),
            ),
            Figure("p99_ms", "idle queue, enqueue to start, p99", "ms"),
        ),
        parameters={"samples": 20},
        quick={"samples": 6},
    ),
    Row(
        name="enqueue_latency_across",
        program="enqueue_latency",
        figures=(
            Figure("p50_ms", "enqueue to start in another process, p50", "ms"),
            Figure("p99_ms", "enqueue to start in another process, p99", "ms"),
        ),
        parameters={"samples": 20, "processes": 2},
        quick={"samples": 6},
    ),
    Row(
        name="backlog_rate",
        program="backlog",
        figures=(
            Figure("workflows_per_s", "queue drain, backlog of 100,000", "workflows/s", True),
        ),
        parameters={"runs": 100_000, "seconds": 5},
        quick={"runs": 3000, "seconds": 1},
    ),
    Row(
        name="backlog_beside",
        program="backlog",
        figures=(
            Figure("p50_ms", "enqueue to start beside a backlog of 100,000, p50", "ms"),
            Figure("p99_ms", "enqueue to start beside a backlog of 100,000, p99", "ms"),
        ),
        parameters={"runs": 100_000, "samples": 20},
        quick={"runs": 3000, "samples": 4},
    ),
    Row(
        name="send_latency",
        program="send_latency",
        figures=(
            Figure(
                "p50_ms",
                "send to waiting recv, p50",
                "ms",
                targets={"sqlite": _limits(10, 1, "ms"), "postgres": _limits(4, 1.5, "ms")},
            ),
            Figure("p99_ms", "send to waiting recv, p99", "ms"),
        ),
        parameters={"samples": 20},
        quick={"samples": 6},
    ),
    Row(
        name="send_latency_across",
        program="send_latency",
        figures=(
            Figure("p50_ms", "send to recv in another process, p50", "ms"),
            Figure("p99_ms", "send to recv in another process, p99", "ms"),
        ),
        parameters={"samples": 20, "processes": 2},
        quick={"samples": 6},
    ),
    Row(
        name="event_latency",
        program="event_latency",
        figures=(
            Figure("p50_ms", "set_event to waiting get_event, p50", "ms"),
            Figure("p99_ms", "set_event to waiting get_event, p99", "ms"),
        ),
        parameters={"samples": 20},
        quick={"samples": 6},
    ),
    Row(
        name="event_latency_across",
        program="event_latency",
        figures=(
            Figure("p50_ms", "set_event to get_event in another process, p50", "ms"),
            Figure("p99_ms", "set_event to get_event in another process, p99", "ms"),
        ),
        parameters={"samples": 20, "processes": 2},
        quick={"samples": 6},
    ),
    *(
        Row(
            name=f"clock_{way}",
            program="clock_jump",
            figures=(
                Figure(
                    "most_ms",
                    f"wall clock an hour {way}: largest error of a wait of 3 s",
                    "ms",
                    targets=_both(_limits(1000, 100, "ms")),
                ),
            ),
            parameters={"wait_s": 3, "limit_s": 12, "by_s": by_s},
            quick={},
        )
        for way, by_s in (("forward", 3600.0), ("back", -3600.0))
    ),
    Row(
        name="lost_listener",
        program="lost_listener",
        figures=(
            Figure(
                "most_ms",
                "listening session cut: latest arrival of a message",
                "ms",
                targets={"postgres": _limits(2000, 500, "ms")},
                databases=("postgres",),
            ),
        ),
        parameters={"samples": 5, "limit_s": 20},
        quick={"samples": 2},
        databases=("postgres",),
    ),
    Row(
        name="list_pages",
        program="list_pages",
        figures=(
            Figure("first_page_ms", "list_workflows, first page of 100", "ms"),
            Figure("last_page_ms", "list_workflows, last page of 100", "ms"),
        ),
        parameters={"runs": 2000, "samples": 15},
        quick={"runs": 300, "samples": 5},
    ),
    Row(
        name="transactions",
        program="transactions",
        figures=(Figure("p50_ms", "sequential workflow, 10 transactions, p50", "ms"),),
        parameters={"seconds": 3},
        quick={"seconds": 1},
    ),
    Row(
        name="transactions_threads",
        program="transactions",
        figures=(
            Figure("transactions_per_s", "32 threads, transactions", "/s", more_is_better=True),
        ),
        parameters={"seconds": 4, "threads": 32},
        quick={"seconds": 1},
    ),
    Row(
        name="waiters",
        program="waiters",
        figures=(
            Figure(
                "waiting",
                "waiting asyncio workflows started within 25 s",
                "",
                more_is_better=True,
                targets=_both(_limits(10_000, 10_000, "")),
            ),
            Figure(
                "kib_each",
                "memory of a waiting workflow",
                "KiB",
                targets={"postgres": _limits(12, 5, "KiB")},
            ),
            Figure("threads", "threads in that process", ""),
            Figure("ended_per_s", "waiting workflows sent a message and ended", "/s", True),
            Figure("unfinished", "of them unfinished a minute later", ""),
        ),
        parameters={"waiters": 10_000, "budget_s": 25},
        quick={"waiters": 300, "budget_s": 5},
    ),
    Row(
        name="waiters_blocking",
        program="waiters",
        figures=(
            Figure("waiting", "waiting sync workflows started within 25 s", "", True),
            Figure("kib_each", "memory of a waiting sync workflow", "KiB"),
            Figure("ended_per_s", "sync ones sent a message and ended", "/s", True),
            Figure("unfinished", "of them unfinished a minute later", ""),
        ),
        parameters={"waiters": 2_000, "budget_s": 25, "blocking": 1},
        quick={"waiters": 300, "budget_s": 5},
    ),
    Row(
        name="waiters_idle",
        program="waiters",
        figures=(
            Figure(
                "statements_per_s",
                "SQL statements of a process with 10,000 waiting workflows",
                "/s",
                databases=("postgres",),
            ),
        ),
        parameters={"waiters": 10_000, "budget_s": 25, "idle_s": 20},
        quick={"waiters": 300, "budget_s": 5, "idle_s": 4},
        databases=("postgres",),
    ),
    Row(
        name="idle",
        program="idle",
        figures=(
            Figure(
                "statements_per_s",
                "SQL statements of an idle process",
                "/s",
                targets={"postgres": _limits(1, 0.2, "/s")},
                databases=("postgres",),
            ),
            # On PostgreSQL the counting relay's own work would be part of this figure.
            Figure("cpu_ms_per_s", "CPU of an idle process", "ms/s", databases=("sqlite",)),
        ),
        parameters={"seconds": 20, "settling": 65},
        quick={"seconds": 4, "settling": 3},
    ),
    Row(
        name="idle_queue",
        program="idle",
        figures=(
            Figure(
                "statements_per_s",
                "SQL statements of an idle process that serves a queue",
                "/s",
                databases=("postgres",),
            ),
        ),
        parameters={"seconds": 20, "settling": 65, "queues": 1},
        quick={"seconds": 4, "settling": 3},
        databases=("postgres",),
    ),
)
