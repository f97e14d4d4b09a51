"""Every filter of lists in any combination, against a model in memory, on both databases."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbos.models import WorkflowFilter
from dbos.storage import listing
from dbos.storage.listing import Fleet, Kin
from dbos.storage.protocol import Database, Statement
from tests.storage.waiting_runs import live

Run = dict[str, Any]

ALIVE = "alive"
UNKNOWN_NAMES = (None, "")
"""No process knows these functions."""

# What follows the last text with a prefix is not obvious beside surrogates and the last character.
IDS = [a + b + c for a in "aAé" for b in ("", "%", "_", "b") for c in ("", "a", "\U0010ffff")]
IDS += [*"\\\ud7ff\ue000\uffff\U00010000\U0001f600", "\ud7ff\U0010ffff", "a\\", "\\%", "e\u0301"]
TEXTS = ["", "a", "A", "%"]
LABELS = [None, *TEXTS]
INSTANTS = [1, 2, 3, 4]
STATUSES = [*listing.STATUSES, "strange"]
COLUMNS: Mapping[str, tuple[str, Sequence[Any]]] = {
    "status": ("text", [None, *STATUSES]),
    **dict.fromkeys(
        (
            "name",
            "class_name",
            "application_version",
            "forked_from",
            "parent_workflow_id",
            "authenticated_user",
            "queue_name",
            "executor_id",
            "schedule_name",
            "application_name",
        ),
        ("text", LABELS),
    ),
    "incarnation_id": ("text", [None, ALIVE, "dead"]),
    "attributes": ("json", [None, {}, {"a": 1}, {"a": 1, "b": {"c": [2]}}]),
    "created_at": ("integer", INSTANTS),
    "completed_at": ("integer", [None, *INSTANTS]),
    "started_at_epoch_ms": ("integer", [None, *INSTANTS]),
    "was_forked_from": ("boolean", [False, True]),
}


def drawn_runs(random: Random) -> list[Run]:
    """Runs that agree in much. Drawn by hand: hypothesis takes long for so many columns."""
    return [
        {"workflow_uuid": workflow_id}
        | {name: random.choice(values) for name, (_, values) in COLUMNS.items()}
        for workflow_id in random.sample(IDS, 20)
    ]


ids, texts, instants = st.sampled_from(IDS), st.sampled_from(TEXTS), st.sampled_from(INSTANTS)
statuses = st.sampled_from(STATUSES)
several = st.lists(texts, min_size=1, max_size=2).map(tuple)
maybe = st.one_of(st.none(), st.booleans())
FILTERS: Mapping[str, st.SearchStrategy[Any]] = {
    "workflow_ids": st.lists(ids, min_size=1, max_size=4).map(tuple),
    "status": st.lists(statuses, min_size=1, max_size=3).map(tuple),
    **dict.fromkeys(
        (
            "name",
            "app_version",
            "forked_from",
            "parent_workflow_id",
            "user",
            "queue_name",
            "executor_id",
            "schedule_name",
            "application_names",
        ),
        several,
    ),
    **dict.fromkeys(
        (
            "created_from_ms",
            "created_until_ms",
            "completed_from_ms",
            "completed_until_ms",
            "dequeued_from_ms",
            "dequeued_until_ms",
        ),
        instants,
    ),
    "workflow_id_prefix": st.lists(st.one_of(ids, st.just("")), min_size=1, max_size=2).map(tuple),
    "attributes": st.sampled_from(['{"a":1}', '{"b":{"c":[]}}', "{}", '{"a":2}']),
    **dict.fromkeys(("was_forked_from", "has_parent", "is_fork", "stranded"), maybe),
    **dict.fromkeys(("queues_only", "sort_desc", "load_input", "load_output"), st.booleans()),
    "limit": st.sampled_from([1, 3, 2**63 - 1]),
    "offset": st.sampled_from([1, 2, 2**63 - 1]),
}
# Some five of the filters at a time: all at once would let nothing pass.
filters = st.lists(st.sampled_from(sorted(FILTERS)), max_size=5, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FILTERS[name] for name in names})
)

FIELDS = {
    "name": "name",
    "app_version": "application_version",
    "forked_from": "forked_from",
    "parent_workflow_id": "parent_workflow_id",
    "user": "authenticated_user",
    "executor_id": "executor_id",
    "schedule_name": "schedule_name",
}


def expected(everything: Sequence[Run], wanted: WorkflowFilter) -> list[str]:
    """The ids to list, in order."""
    listed = [run for run in everything if passes(run, wanted)]
    listed.sort(key=lambda run: (run["created_at"], run["workflow_uuid"]), reverse=wanted.sort_desc)
    first = wanted.offset or 0
    most = len(listed) if wanted.limit is None else wanted.limit
    return [run["workflow_uuid"] for run in listed[first : first + most]]


def passes(run: Run, wanted: WorkflowFilter) -> bool:
    status = run["status"]
    queue = None if has_left(run) else run["queue_name"]
    started = None if status in (None, "CANCELLED") else run["started_at_epoch_ms"]
    chosen = (
        is_any(run["workflow_uuid"], wanted.workflow_ids),
        # A text that is no status matches nothing.
        wanted.status is None or (status in wanted.status and status in listing.STATUSES),
        all(is_any(run[column], getattr(wanted, field)) for field, column in FIELDS.items()),
        is_any(queue, wanted.queue_name),
        wanted.application_names is None
        or run["application_name"] in (None, *wanted.application_names),
        is_within(run["created_at"], wanted.created_from_ms, wanted.created_until_ms),
        is_within(run["completed_at"], wanted.completed_from_ms, wanted.completed_until_ms),
        is_within(started, wanted.dequeued_from_ms, wanted.dequeued_until_ms),
        wanted.workflow_id_prefix is None
        or run["workflow_uuid"].startswith(wanted.workflow_id_prefix),
        wanted.attributes is None or contains(run["attributes"], json.loads(wanted.attributes)),
        wanted.was_forked_from in (None, run["was_forked_from"]),
        wanted.has_parent in (None, run["parent_workflow_id"] is not None),
        wanted.is_fork in (None, run["forked_from"] is not None),
        wanted.stranded in (None, is_stranded(run)),
        not wanted.queues_only or queue is not None,
        not wanted.queues_only or wanted.status is not None or status in listing.ACTIVE,
    )
    return all(chosen)


def has_left(run: Run) -> bool:
    return run["status"] in (None, "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def is_any(value: object, wanted: Sequence[str] | None) -> bool:
    return wanted is None or value in wanted


def is_within(instant: int | None, first: int | None, last: int | None) -> bool:
    if first is None and last is None:
        return True
    return instant is not None and (first or instant) <= instant <= (last or instant)


def contains(value: object, part: object) -> bool:
    if isinstance(value, dict) and isinstance(part, dict):
        return all(key in value and contains(value[key], part[key]) for key in part)
    if isinstance(value, list) and isinstance(part, list):
        return all(any(contains(one, each) for one in value) for each in part)
    return value == part


def is_stranded(run: Run) -> bool:
    is_running = run["status"] == "PENDING" and run["incarnation_id"] == ALIVE
    is_unknown = run["name"] in UNKNOWN_NAMES[:1] or run["class_name"] == ""
    return run["status"] in listing.ACTIVE and is_unknown and not is_running


def are_stranded(kinds: Sequence[Kin], fleet: Fleet) -> list[Kin]:
    """What nobody knows: here runs without a name, and those of a class with an empty one."""
    assert [one.incarnation_id for one in fleet.live] == [ALIVE]
    return [kin for kin in kinds if kin.name is None or kin.class_name == ""]


INSERT = Statement(
    f"""
    INSERT INTO {{workflow_status}} (workflow_uuid, {", ".join(COLUMNS)})
    SELECT workflow_uuid, {", ".join(COLUMNS)} FROM {{rows}}
    """,
    {"workflow_uuid": "text"} | {name: kind for name, (kind, _) in COLUMNS.items()},
)
CLEAR = Statement("DELETE FROM {workflow_status}")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), asked=st.lists(filters, min_size=1, max_size=6))
def test_any_combination_of_filters_lists_what_the_model_says(
    database: Database, seed: int, asked: list[dict[str, Any]]
) -> None:
    everything = drawn_runs(Random(seed))
    live(database, ALIVE, "{}")
    stored = [
        run | {"attributes": None if run["attributes"] is None else json.dumps(run["attributes"])}
        for run in everything
    ]
    with database.write() as tx:
        tx.run(CLEAR)
        tx.run(INSERT, rows=stored)

    for chosen in asked:
        if database.rings_within:
            # SQLite has no such filter.
            chosen.pop("attributes", None)
        wanted = WorkflowFilter(**chosen)
        with database.read() as tx:
            page = listing.page(tx, wanted, are_stranded)
            counts = listing.counts(tx, wanted, are_stranded)
        assert [row.workflow_id for row in page.rows] == expected(everything, wanted), wanted
        assert counts == Counter(
            run["status"] or "" for run in everything if passes(run, wanted)
        ), wanted


PAGED: Sequence[dict[str, Any]] = (
    {},
    {"application_names": ("a",)},
    {"name": ("a",), "application_names": ("a", "")},
    {"created_from_ms": 2, "created_until_ms": 3},
    {"status": ("SUCCESS", "ERROR")},
    {"parent_workflow_id": ("a", "")},
)


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), is_newest_first=st.booleans())
def test_runs_of_one_instant_are_listed_once_however_pages_cut_them(
    database: Database, seed: int, is_newest_first: bool
) -> None:
    everything = [run | {"attributes": None} for run in drawn_runs(Random(seed))]
    with database.write() as tx:
        tx.run(CLEAR)
        tx.run(INSERT, rows=everything)

    for chosen in PAGED:
        for offset in range(len(everything) + 2):
            wanted = WorkflowFilter(**chosen, sort_desc=is_newest_first, limit=3, offset=offset)
            with database.read() as tx:
                listed = [row.workflow_id for row in listing.runs(tx, wanted)]
            assert listed == expected(everything, wanted), wanted


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_each_prefix_is_compared_letter_by_letter(database: Database, seed: int) -> None:
    everything = [run | {"attributes": None} for run in drawn_runs(Random(seed))]
    with database.write() as tx:
        tx.run(CLEAR)
        tx.run(INSERT, rows=everything)

    for prefix in IDS:
        wanted = WorkflowFilter(workflow_id_prefix=(prefix,))
        with database.read() as tx:
            listed = [row.workflow_id for row in listing.runs(tx, wanted)]
        assert listed == expected(everything, wanted), prefix
