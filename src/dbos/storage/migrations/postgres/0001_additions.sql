-- What Perdure adds to the published tables, level 1. The reference neither reads nor misses any of it.

ALTER TABLE {schema}.workflow_status ADD COLUMN incarnation_id TEXT DEFAULT NULL;
ALTER TABLE {schema}.workflow_status ADD COLUMN code_hash TEXT DEFAULT NULL;
ALTER TABLE {schema}.workflow_status ADD COLUMN not_before_epoch_ms BIGINT DEFAULT NULL;
ALTER TABLE {schema}.workflow_status ADD COLUMN claim_error TEXT DEFAULT NULL;
ALTER TABLE {schema}.workflow_status ADD COLUMN claim_returns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {schema}.operation_outputs ADD COLUMN record_order INTEGER DEFAULT NULL;
ALTER TABLE {schema}.notifications ADD COLUMN consumed_function_id INTEGER DEFAULT NULL;
ALTER TABLE {schema}.workflow_schedules ADD COLUMN serialization TEXT DEFAULT NULL;

-- The defaults come after the columns, so that rows of before stay NULL and sort first.
ALTER TABLE {schema}.workflow_status ADD COLUMN enqueue_seq BIGINT;
CREATE SEQUENCE {schema}.workflow_status_enqueue_seq OWNED BY {schema}.workflow_status.enqueue_seq;
ALTER TABLE {schema}.workflow_status ALTER COLUMN enqueue_seq
    SET DEFAULT nextval('{schema_in_literal}.workflow_status_enqueue_seq'::regclass);
ALTER TABLE {schema}.notifications ADD COLUMN message_seq BIGINT;
CREATE SEQUENCE {schema}.notifications_message_seq OWNED BY {schema}.notifications.message_seq;
ALTER TABLE {schema}.notifications ALTER COLUMN message_seq
    SET DEFAULT nextval('{schema_in_literal}.notifications_message_seq'::regclass);

CREATE INDEX idx_workflow_status_incarnation ON {schema}.workflow_status (incarnation_id)
    WHERE status = 'PENDING';

-- What waits on a queue, without a key and by key, in the order of the queue to its end; and the runs
-- that wait to be continued. A claim reads only as much of these as it takes.
CREATE INDEX idx_workflow_status_keyless ON {schema}.workflow_status (queue_name, priority, created_at, enqueue_seq NULLS FIRST)
    WHERE status = 'ENQUEUED' AND queue_partition_key IS NULL;
CREATE INDEX idx_workflow_status_keyed ON {schema}.workflow_status (queue_name, queue_partition_key, priority, created_at, enqueue_seq NULLS FIRST)
    WHERE status = 'ENQUEUED' AND queue_partition_key IS NOT NULL;
CREATE INDEX idx_workflow_status_begun ON {schema}.workflow_status (queue_name, queue_partition_key)
    WHERE status = 'ENQUEUED' AND recovery_attempts > 0;

CREATE TABLE {schema}.perdure_executors (
    incarnation_id TEXT NOT NULL PRIMARY KEY,
    executor_id TEXT NOT NULL,
    application_name TEXT DEFAULT NULL,
    application_version TEXT NOT NULL,
    version_policy TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_started TEXT NOT NULL,
    lease_ms BIGINT NOT NULL,
    lease_until_epoch_ms BIGINT NOT NULL,
    started_at_epoch_ms BIGINT NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    capabilities TEXT NOT NULL DEFAULT '{}'
);

-- Starts that a rate limit counts although their run was resumed, rewound or deleted since.
CREATE TABLE {schema}.perdure_starts (
    queue_name TEXT NOT NULL,
    queue_partition_key TEXT DEFAULT NULL,
    started_at_epoch_ms BIGINT NOT NULL,
    starts BIGINT NOT NULL
);

CREATE INDEX idx_perdure_starts ON {schema}.perdure_starts (queue_name, started_at_epoch_ms);

CREATE TABLE {schema}.perdure_migrations (
    version INTEGER NOT NULL PRIMARY KEY
);

INSERT INTO {schema}.perdure_migrations (version) VALUES (1);
