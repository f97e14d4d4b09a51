-- What Perdure adds to the published tables, level 1. The reference neither reads nor misses any of it.

ALTER TABLE workflow_status ADD COLUMN incarnation_id TEXT DEFAULT NULL;
ALTER TABLE workflow_status ADD COLUMN code_hash TEXT DEFAULT NULL;
ALTER TABLE workflow_status ADD COLUMN not_before_epoch_ms INTEGER DEFAULT NULL;
ALTER TABLE workflow_status ADD COLUMN claim_error TEXT DEFAULT NULL;
ALTER TABLE workflow_status ADD COLUMN claim_returns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operation_outputs ADD COLUMN record_order INTEGER DEFAULT NULL;
ALTER TABLE notifications ADD COLUMN consumed_function_id INTEGER DEFAULT NULL;
ALTER TABLE workflow_schedules ADD COLUMN serialization TEXT DEFAULT NULL;

CREATE INDEX idx_workflow_status_incarnation ON workflow_status (incarnation_id)
    WHERE status = 'PENDING';

-- What waits on a queue, without a key and by key, in the order of the queue to its end; and the runs
-- that wait to be continued. A claim reads only as much of these as it takes.
CREATE INDEX idx_workflow_status_keyless ON workflow_status (queue_name, priority, created_at)
    WHERE status = 'ENQUEUED' AND queue_partition_key IS NULL;
CREATE INDEX idx_workflow_status_keyed ON workflow_status (queue_name, queue_partition_key, priority, created_at)
    WHERE status = 'ENQUEUED' AND queue_partition_key IS NOT NULL;
CREATE INDEX idx_workflow_status_begun ON workflow_status (queue_name, queue_partition_key)
    WHERE status = 'ENQUEUED' AND recovery_attempts > 0;

CREATE TABLE perdure_executors (
    incarnation_id TEXT NOT NULL PRIMARY KEY,
    executor_id TEXT NOT NULL,
    application_name TEXT DEFAULT NULL,
    application_version TEXT NOT NULL,
    version_policy TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_started TEXT NOT NULL,
    lease_ms INTEGER NOT NULL,
    lease_until_epoch_ms INTEGER NOT NULL,
    started_at_epoch_ms INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)),
    capabilities TEXT NOT NULL DEFAULT '{}'
);

-- Starts that a rate limit counts although their run was resumed, rewound or deleted since.
CREATE TABLE perdure_starts (
    queue_name TEXT NOT NULL,
    queue_partition_key TEXT DEFAULT NULL,
    started_at_epoch_ms INTEGER NOT NULL,
    starts INTEGER NOT NULL
);

CREATE INDEX idx_perdure_starts ON perdure_starts (queue_name, started_at_epoch_ms);

CREATE TABLE perdure_wakeups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topics TEXT NOT NULL,
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER))
);

CREATE TABLE perdure_host_clock (
    boot_id TEXT NOT NULL PRIMARY KEY,
    offset_ms INTEGER NOT NULL
);

CREATE TABLE perdure_migrations (
    version INTEGER NOT NULL PRIMARY KEY
);

INSERT INTO perdure_migrations (version) VALUES (1);
