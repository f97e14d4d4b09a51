-- The published system tables of DBOS Transact 2.31 at level 108, in one step.

CREATE TABLE {schema}.workflow_status (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    status TEXT,
    name TEXT,
    authenticated_user TEXT,
    assumed_role TEXT,
    authenticated_roles TEXT,
    request TEXT,
    output TEXT,
    error TEXT,
    executor_id TEXT,
    created_at BIGINT NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    updated_at BIGINT NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    application_version TEXT,
    application_id TEXT,
    class_name VARCHAR(255) DEFAULT NULL,
    config_name VARCHAR(255) DEFAULT NULL,
    recovery_attempts BIGINT DEFAULT 0,
    queue_name TEXT,
    workflow_timeout_ms BIGINT,
    workflow_deadline_epoch_ms BIGINT,
    inputs TEXT,
    started_at_epoch_ms BIGINT,
    deduplication_id TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    queue_partition_key TEXT,
    forked_from TEXT,
    owner_xid TEXT DEFAULT NULL,
    parent_workflow_id TEXT DEFAULT NULL,
    serialization TEXT DEFAULT NULL,
    delay_until_epoch_ms BIGINT DEFAULT NULL,
    was_forked_from BOOLEAN NOT NULL DEFAULT FALSE,
    rate_limited BOOLEAN NOT NULL DEFAULT FALSE,
    completed_at BIGINT,
    attributes JSONB,
    schedule_name TEXT,
    debounce_deadline_epoch_ms BIGINT DEFAULT NULL,
    is_debounced BOOLEAN NOT NULL DEFAULT FALSE,
    application_name TEXT DEFAULT NULL
);

CREATE INDEX workflow_status_created_at_index ON {schema}.workflow_status (created_at);

CREATE UNIQUE INDEX uq_workflow_status_dedup_id ON {schema}.workflow_status (queue_name, deduplication_id)
    WHERE deduplication_id IS NOT NULL;

CREATE INDEX idx_workflow_status_pending ON {schema}.workflow_status (created_at)
    WHERE status = 'PENDING';

CREATE INDEX idx_workflow_status_failed ON {schema}.workflow_status (status, created_at)
    WHERE status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED');

CREATE INDEX idx_workflow_status_in_flight ON {schema}.workflow_status (queue_name, status, priority, created_at)
    WHERE status IN ('ENQUEUED', 'PENDING');

CREATE INDEX idx_workflow_status_partition_dequeue_v2 ON {schema}.workflow_status (queue_name, status, queue_partition_key, priority, created_at, workflow_uuid)
    WHERE status IN ('ENQUEUED', 'PENDING') AND queue_partition_key IS NOT NULL;

CREATE INDEX idx_workflow_status_delayed ON {schema}.workflow_status (delay_until_epoch_ms)
    WHERE status = 'DELAYED';

CREATE INDEX idx_workflow_status_rate_limited ON {schema}.workflow_status (queue_name, started_at_epoch_ms)
    WHERE rate_limited = TRUE;

CREATE INDEX idx_workflow_status_completed_at ON {schema}.workflow_status (completed_at)
    WHERE completed_at IS NOT NULL;

CREATE INDEX idx_workflow_status_started_at ON {schema}.workflow_status (started_at_epoch_ms)
    WHERE started_at_epoch_ms IS NOT NULL;

CREATE INDEX idx_workflow_status_forked_from ON {schema}.workflow_status (forked_from)
    WHERE forked_from IS NOT NULL;

CREATE INDEX idx_workflow_status_parent_workflow_id ON {schema}.workflow_status (parent_workflow_id)
    WHERE parent_workflow_id IS NOT NULL;

CREATE INDEX idx_workflow_status_schedule_name ON {schema}.workflow_status (schedule_name)
    WHERE schedule_name IS NOT NULL;

CREATE INDEX idx_workflow_status_attributes ON {schema}.workflow_status USING GIN (attributes)
    WHERE attributes IS NOT NULL;

CREATE TABLE {schema}.operation_outputs (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    function_name TEXT NOT NULL DEFAULT '',
    output TEXT,
    error TEXT,
    child_workflow_id TEXT,
    started_at_epoch_ms BIGINT,
    completed_at_epoch_ms BIGINT,
    serialization TEXT DEFAULT NULL,
    application_name TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, function_id),
    FOREIGN KEY (workflow_uuid) REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE INDEX idx_operation_outputs_completed_at_function_name ON {schema}.operation_outputs (completed_at_epoch_ms, function_name);

CREATE TABLE {schema}.notifications (
    message_uuid TEXT NOT NULL DEFAULT (gen_random_uuid()::text) PRIMARY KEY,
    destination_uuid TEXT NOT NULL,
    topic TEXT,
    message TEXT NOT NULL,
    created_at_epoch_ms BIGINT NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    serialization TEXT DEFAULT NULL,
    consumed BOOLEAN NOT NULL DEFAULT FALSE,
    FOREIGN KEY (destination_uuid) REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE INDEX idx_workflow_topic ON {schema}.notifications (destination_uuid, topic);

CREATE INDEX idx_notifications ON {schema}.notifications (destination_uuid, topic);

CREATE TABLE {schema}.workflow_events (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    serialization TEXT,
    PRIMARY KEY (workflow_uuid, key),
    FOREIGN KEY (workflow_uuid) REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE TABLE {schema}.workflow_events_history (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    serialization TEXT,
    PRIMARY KEY (workflow_uuid, function_id, key),
    FOREIGN KEY (workflow_uuid) REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE TABLE {schema}.streams (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    function_id INTEGER NOT NULL DEFAULT 0,
    serialization TEXT,
    PRIMARY KEY (workflow_uuid, key, "offset"),
    FOREIGN KEY (workflow_uuid) REFERENCES {schema}.workflow_status (workflow_uuid) ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE TABLE {schema}.workflow_schedules (
    schedule_id TEXT NOT NULL PRIMARY KEY,
    schedule_name TEXT NOT NULL UNIQUE,
    workflow_name TEXT NOT NULL,
    workflow_class_name TEXT DEFAULT NULL,
    schedule TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'ACTIVE',
    context TEXT NOT NULL,
    last_fired_at TEXT DEFAULT NULL,
    automatic_backfill BOOLEAN NOT NULL DEFAULT FALSE,
    cron_timezone TEXT DEFAULT NULL,
    queue_name TEXT DEFAULT NULL,
    application_name TEXT DEFAULT NULL
);

CREATE TABLE {schema}.application_versions (
    version_id TEXT NOT NULL PRIMARY KEY,
    version_name TEXT NOT NULL UNIQUE,
    version_timestamp BIGINT NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    created_at BIGINT NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    application_name TEXT
);

CREATE UNIQUE INDEX uq_application_versions_owner_version ON {schema}.application_versions (application_name, version_name)
    WHERE application_name IS NOT NULL;

CREATE UNIQUE INDEX uq_application_versions_unclaimed_version ON {schema}.application_versions (version_name)
    WHERE application_name IS NULL;

CREATE TABLE {schema}.queues (
    queue_id TEXT NOT NULL DEFAULT (gen_random_uuid()::text) PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    concurrency INTEGER,
    worker_concurrency INTEGER,
    rate_limit_max INTEGER,
    rate_limit_period_sec DOUBLE PRECISION,
    priority_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    partition_queue BOOLEAN NOT NULL DEFAULT FALSE,
    polling_interval_sec DOUBLE PRECISION NOT NULL DEFAULT 1.0,
    created_at BIGINT NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    updated_at BIGINT NOT NULL DEFAULT (EXTRACT(epoch FROM now()) * 1000.0)::bigint,
    application_name TEXT DEFAULT NULL,
    partition_concurrency INTEGER DEFAULT NULL,
    partition_worker_concurrency INTEGER DEFAULT NULL,
    partition_rate_limit_max INTEGER DEFAULT NULL,
    partition_rate_limit_period_sec DOUBLE PRECISION DEFAULT NULL
);

CREATE TABLE {schema}.event_dispatch_kv (
    service_name TEXT NOT NULL,
    workflow_fn_name TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    update_seq NUMERIC(38, 0),
    update_time NUMERIC(38, 15),
    PRIMARY KEY (service_name, workflow_fn_name, key)
);

CREATE TABLE {schema}.dbos_migrations (
    version BIGINT NOT NULL PRIMARY KEY
);

INSERT INTO {schema}.dbos_migrations (version) VALUES (108);

CREATE FUNCTION {schema}.enqueue_workflow(
    workflow_name TEXT,
    queue_name TEXT,
    positional_args JSON[] DEFAULT '{}'::json[],
    named_args JSON DEFAULT '{}'::json,
    class_name TEXT DEFAULT NULL,
    config_name TEXT DEFAULT NULL,
    workflow_id TEXT DEFAULT NULL,
    app_version TEXT DEFAULT NULL,
    timeout_ms BIGINT DEFAULT NULL,
    deadline_epoch_ms BIGINT DEFAULT NULL,
    deduplication_id TEXT DEFAULT NULL,
    priority INTEGER DEFAULT NULL,
    queue_partition_key TEXT DEFAULT NULL,
    authenticated_user TEXT DEFAULT NULL,
    authenticated_roles TEXT DEFAULT NULL,
    delay_until_epoch_ms BIGINT DEFAULT NULL,
    application_name TEXT DEFAULT NULL
) RETURNS TEXT
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $perdure_body$
#variable_conflict use_column
DECLARE
    chosen_id TEXT := COALESCE(enqueue_workflow.workflow_id, gen_random_uuid()::text);
    violated TEXT;
BEGIN
    IF COALESCE(enqueue_workflow.workflow_name, '') = '' THEN
        RAISE EXCEPTION 'workflow_name cannot be null or empty'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF COALESCE(enqueue_workflow.queue_name, '') = '' THEN
        RAISE EXCEPTION 'queue_name cannot be null or empty'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue_workflow.named_args IS NOT NULL
        AND json_typeof(enqueue_workflow.named_args) <> 'object' THEN
        RAISE EXCEPTION 'named_args must be a JSON object'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue_workflow.workflow_id = '' THEN
        RAISE EXCEPTION 'workflow_id cannot be an empty string'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue_workflow.deduplication_id = '' THEN
        RAISE EXCEPTION 'deduplication_id cannot be an empty string'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue_workflow.queue_partition_key = '' THEN
        RAISE EXCEPTION 'queue_partition_key cannot be an empty string'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue_workflow.delay_until_epoch_ms < 0 THEN
        RAISE EXCEPTION 'delay_until_epoch_ms must be >= 0'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO {schema}.workflow_status (
        workflow_uuid, status, name, class_name, config_name, queue_name, inputs, serialization,
        application_version, application_name, workflow_timeout_ms, workflow_deadline_epoch_ms,
        deduplication_id, priority, queue_partition_key, authenticated_user, authenticated_roles,
        delay_until_epoch_ms, recovery_attempts, owner_xid
    ) VALUES (
        chosen_id,
        CASE WHEN enqueue_workflow.delay_until_epoch_ms IS NULL THEN 'ENQUEUED' ELSE 'DELAYED' END,
        enqueue_workflow.workflow_name,
        enqueue_workflow.class_name,
        enqueue_workflow.config_name,
        enqueue_workflow.queue_name,
        '{"namedArgs":' || COALESCE(enqueue_workflow.named_args, '{}'::json)::text
            || ',"positionalArgs":'
            || array_to_json(COALESCE(enqueue_workflow.positional_args, '{}'::json[]))::text || '}',
        'portable_json',
        enqueue_workflow.app_version,
        enqueue_workflow.application_name,
        enqueue_workflow.timeout_ms,
        enqueue_workflow.deadline_epoch_ms,
        enqueue_workflow.deduplication_id,
        COALESCE(enqueue_workflow.priority, 0),
        enqueue_workflow.queue_partition_key,
        enqueue_workflow.authenticated_user,
        enqueue_workflow.authenticated_roles,
        enqueue_workflow.delay_until_epoch_ms,
        0,
        gen_random_uuid()::text
    )
    ON CONFLICT (workflow_uuid) DO UPDATE SET updated_at = EXCLUDED.updated_at;
    RETURN chosen_id;
EXCEPTION WHEN unique_violation THEN
    GET STACKED DIAGNOSTICS violated = CONSTRAINT_NAME;
    IF violated <> 'uq_workflow_status_dedup_id' THEN
        RAISE;
    END IF;
    RAISE EXCEPTION 'DBOS queue duplicated'
        USING ERRCODE = 'unique_violation',
        DETAIL = format(
            'Workflow %s, queue %s, deduplication id %s',
            chosen_id, enqueue_workflow.queue_name, enqueue_workflow.deduplication_id
        );
END
$perdure_body$;

CREATE FUNCTION {schema}.send_message(
    destination_id TEXT,
    message JSON,
    topic TEXT DEFAULT NULL,
    message_id TEXT DEFAULT NULL
) RETURNS VOID
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $perdure_body$
#variable_conflict use_column
BEGIN
    INSERT INTO {schema}.notifications (
        message_uuid, destination_uuid, topic, message, serialization
    ) VALUES (
        COALESCE(send_message.message_id, gen_random_uuid()::text),
        send_message.destination_id,
        COALESCE(send_message.topic, '__null__topic__'),
        send_message.message::text,
        'portable_json'
    )
    ON CONFLICT (message_uuid) DO NOTHING;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION 'DBOS non-existent workflow'
        USING ERRCODE = 'foreign_key_violation',
        DETAIL = format('Destination workflow id %s', send_message.destination_id);
END
$perdure_body$;
