-- Rings for foreign writers. Our own transactions set perdure.quiet and ring after their commit:
-- NOTIFY takes a lock of the whole server at commit, which would serialize checkpoints.

CREATE OR REPLACE FUNCTION {schema}.notifications_function() RETURNS TRIGGER
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $perdure_body$
DECLARE
    payload TEXT := NEW.destination_uuid || '::' || COALESCE(NEW.topic, '');
BEGIN
    IF current_setting('perdure.quiet', true) = 'on' THEN
        RETURN NEW;
    END IF;
    -- The server refuses payloads of 8000 bytes, and a bell must never fail an insert.
    IF octet_length(payload) < 8000 THEN
        PERFORM pg_notify('dbos_notifications_channel', payload);
    ELSE
        PERFORM pg_notify('perdure_wakeups', '[]');
    END IF;
    RETURN NEW;
END
$perdure_body$;
