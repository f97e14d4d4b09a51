"""The published tables and our additions, written down a second time to hold the migrations to."""

from __future__ import annotations

from dataclasses import dataclass

# One column a line: name, type (PostgreSQL/SQLite where they differ), then what applies of
# `required`, `key` and a default. `only=` names the one database that has the column or table.
_TABLES = """
workflow_status
  workflow_uuid TEXT required key
  status TEXT
  name TEXT
  authenticated_user TEXT
  assumed_role TEXT
  authenticated_roles TEXT
  request TEXT
  output TEXT
  error TEXT
  executor_id TEXT
  created_at BIGINT/INTEGER required default=NOW_MS
  updated_at BIGINT/INTEGER required default=NOW_MS
  application_version TEXT
  application_id TEXT
  class_name VARCHAR(255)/TEXT
  config_name VARCHAR(255)/TEXT
  recovery_attempts BIGINT/INTEGER default=0
  queue_name TEXT
  workflow_timeout_ms BIGINT/INTEGER
  workflow_deadline_epoch_ms BIGINT/INTEGER
  inputs TEXT
  started_at_epoch_ms BIGINT/INTEGER
  deduplication_id TEXT
  priority INTEGER required default=0
  queue_partition_key TEXT
  forked_from TEXT
  owner_xid TEXT
  parent_workflow_id TEXT
  serialization TEXT
  delay_until_epoch_ms BIGINT
  was_forked_from BOOLEAN required default=FALSE
  rate_limited BOOLEAN required default=FALSE
  completed_at BIGINT
  attributes JSONB/TEXT
  schedule_name TEXT
  debounce_deadline_epoch_ms BIGINT
  is_debounced BOOLEAN required default=FALSE
  application_name TEXT
  incarnation_id TEXT
  code_hash TEXT
  not_before_epoch_ms BIGINT/INTEGER
  claim_error TEXT
  claim_returns INTEGER required default=0
  enqueue_seq BIGINT default=SEQUENCE only=postgres
operation_outputs
  workflow_uuid TEXT required key
  function_id INTEGER required key
  function_name TEXT required default=''
  output TEXT
  error TEXT
  child_workflow_id TEXT
  started_at_epoch_ms BIGINT
  completed_at_epoch_ms BIGINT
  serialization TEXT
  application_name TEXT
  record_order INTEGER
notifications
  message_uuid TEXT required key default=UUID
  destination_uuid TEXT required
  topic TEXT
  message TEXT required
  created_at_epoch_ms BIGINT/INTEGER required default=NOW_MS
  serialization TEXT
  consumed BOOLEAN required default=FALSE
  message_seq BIGINT default=SEQUENCE only=postgres
  consumed_function_id INTEGER
workflow_events
  workflow_uuid TEXT required key
  key TEXT required key
  value TEXT required
  serialization TEXT
workflow_events_history
  workflow_uuid TEXT required key
  function_id INTEGER required key
  key TEXT required key
  value TEXT required
  serialization TEXT
streams
  workflow_uuid TEXT required key
  key TEXT required key
  value TEXT required
  offset INTEGER required key
  function_id INTEGER required default=0
  serialization TEXT
workflow_schedules
  schedule_id TEXT required key
  schedule_name TEXT required
  workflow_name TEXT required
  workflow_class_name TEXT
  schedule TEXT required
  status TEXT required default='ACTIVE'
  context TEXT required
  last_fired_at TEXT
  automatic_backfill BOOLEAN required default=FALSE
  cron_timezone TEXT
  queue_name TEXT
  application_name TEXT
  serialization TEXT
application_versions
  version_id TEXT required key
  version_name TEXT required
  version_timestamp BIGINT required default=NOW_MS
  created_at BIGINT required default=NOW_MS
  application_name TEXT
queues
  queue_id TEXT required key default=UUID
  name TEXT required
  concurrency INTEGER
  worker_concurrency INTEGER
  rate_limit_max INTEGER
  rate_limit_period_sec DOUBLE/REAL
  priority_enabled BOOLEAN required default=FALSE
  partition_queue BOOLEAN required default=FALSE
  polling_interval_sec DOUBLE/REAL required default=1.0
  created_at BIGINT/INTEGER required default=NOW_MS
  updated_at BIGINT/INTEGER required default=NOW_MS
  application_name TEXT
  partition_concurrency INTEGER
  partition_worker_concurrency INTEGER
  partition_rate_limit_max INTEGER
  partition_rate_limit_period_sec DOUBLE/REAL
event_dispatch_kv only=postgres
  service_name TEXT required key
  workflow_fn_name TEXT required key
  key TEXT required key
  value TEXT
  update_seq NUMERIC(38,0)
  update_time NUMERIC(38,15)
dbos_migrations
  version BIGINT/INTEGER required key
perdure_executors
  incarnation_id TEXT required key
  executor_id TEXT required
  application_name TEXT
  application_version TEXT required
  version_policy TEXT required
  host TEXT required
  pid INTEGER required
  process_started TEXT required
  lease_ms BIGINT/INTEGER required
  lease_until_epoch_ms BIGINT/INTEGER required
  started_at_epoch_ms BIGINT/INTEGER required default=NOW_MS
  capabilities TEXT required default='{}'
perdure_starts
  queue_name TEXT required
  queue_partition_key TEXT
  started_at_epoch_ms BIGINT/INTEGER required
  starts BIGINT/INTEGER required
perdure_wakeups only=sqlite
  id INTEGER key
  topics TEXT required
  created_at INTEGER required default=NOW_MS
perdure_host_clock only=sqlite
  boot_id TEXT required key
  offset_ms INTEGER required
perdure_migrations
  version INTEGER required key
"""

# Name | table | columns | predicate; before the name `unique`, and `postgres` if only there.
_INDEXES = """
workflow_status_created_at_index | workflow_status | created_at |
unique uq_workflow_status_dedup_id | workflow_status | queue_name, deduplication_id | deduplication_id IS NOT NULL
idx_workflow_status_pending | workflow_status | created_at | status = 'PENDING'
idx_workflow_status_failed | workflow_status | status, created_at | status IN 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
idx_workflow_status_in_flight | workflow_status | queue_name, status, priority, created_at | status IN 'ENQUEUED', 'PENDING'
idx_workflow_status_partition_dequeue_v2 | workflow_status | queue_name, status, queue_partition_key, priority, created_at, workflow_uuid | status IN 'ENQUEUED', 'PENDING' AND queue_partition_key IS NOT NULL
idx_workflow_status_delayed | workflow_status | delay_until_epoch_ms | status = 'DELAYED'
idx_workflow_status_rate_limited | workflow_status | queue_name, started_at_epoch_ms | rate_limited = TRUE
idx_workflow_status_completed_at | workflow_status | completed_at | completed_at IS NOT NULL
idx_workflow_status_started_at | workflow_status | started_at_epoch_ms | started_at_epoch_ms IS NOT NULL
idx_workflow_status_forked_from | workflow_status | forked_from | forked_from IS NOT NULL
idx_workflow_status_parent_workflow_id | workflow_status | parent_workflow_id | parent_workflow_id IS NOT NULL
idx_workflow_status_schedule_name | workflow_status | schedule_name | schedule_name IS NOT NULL
postgres idx_workflow_status_attributes | workflow_status | attributes | attributes IS NOT NULL
idx_workflow_status_incarnation | workflow_status | incarnation_id | status = 'PENDING'
sqlite idx_workflow_status_keyless | workflow_status | queue_name, priority, created_at | status = 'ENQUEUED' AND queue_partition_key IS NULL
postgres idx_workflow_status_keyless | workflow_status | queue_name, priority, created_at, enqueue_seq | status = 'ENQUEUED' AND queue_partition_key IS NULL
sqlite idx_workflow_status_keyed | workflow_status | queue_name, queue_partition_key, priority, created_at | status = 'ENQUEUED' AND queue_partition_key IS NOT NULL
postgres idx_workflow_status_keyed | workflow_status | queue_name, queue_partition_key, priority, created_at, enqueue_seq | status = 'ENQUEUED' AND queue_partition_key IS NOT NULL
idx_workflow_status_begun | workflow_status | queue_name, queue_partition_key | status = 'ENQUEUED' AND recovery_attempts > 0
idx_perdure_starts | perdure_starts | queue_name, started_at_epoch_ms |
idx_operation_outputs_completed_at_function_name | operation_outputs | completed_at_epoch_ms, function_name |
idx_workflow_topic | notifications | destination_uuid, topic |
idx_notifications | notifications | destination_uuid, topic |
unique uq_application_versions_owner_version | application_versions | application_name, version_name | application_name IS NOT NULL
unique uq_application_versions_unclaimed_version | application_versions | version_name | application_name IS NULL
"""  # noqa: E501 - one index a line is what makes this readable.

FOREIGN_KEYS = {
    ("operation_outputs", "workflow_uuid"),
    ("notifications", "destination_uuid"),
    ("workflow_events", "workflow_uuid"),
    ("workflow_events_history", "workflow_uuid"),
    ("streams", "workflow_uuid"),
}
UNIQUE_COLUMNS = {
    ("workflow_schedules", "schedule_name"),
    ("application_versions", "version_name"),
    ("queues", "name"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """What there is to know of a column. `default` is one of the words above, or None."""

    name: str
    type: str
    is_required: bool
    is_key: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class Index:
    """What there is to know of a named index."""

    name: str
    table: str
    columns: tuple[str, ...]
    is_unique: bool
    predicate: str


def expected_tables(kind: str) -> dict[str, list[Column]]:
    """Table by table, the columns a database of that kind must have."""
    tables: dict[str, list[Column]] = {}
    table = ""
    for line in _TABLES.strip().splitlines():
        words = line.split()
        is_here = f"only={'sqlite' if kind == 'postgres' else 'postgres'}" not in words
        if not line.startswith(" "):
            table = words[0]
            if is_here:
                tables[table] = []
        elif is_here and table in tables:
            tables[table].append(_column(words, kind))
    return tables


def expected_indexes(kind: str) -> set[Index]:
    indexes: set[Index] = set()
    for line in _INDEXES.strip().splitlines():
        head, table, columns, predicate = (part.strip() for part in line.split("|"))
        *marks, name = head.split()
        if {"postgres", "sqlite"} & set(marks) - {kind}:
            continue
        named = tuple(column.strip() for column in columns.split(","))
        indexes.add(Index(name, table, named, "unique" in marks, predicate))
    return indexes


def _column(words: list[str], kind: str) -> Column:
    name, types, *marks = words
    choices = types.split("/")
    default = next((mark[8:] for mark in marks if mark.startswith("default=")), None)
    type_ = choices[-1] if kind == "sqlite" else choices[0]
    return Column(name, type_, "required" in marks, "key" in marks, default)
