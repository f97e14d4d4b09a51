-- The published trigger on messages, for databases that use LISTEN.

CREATE TRIGGER dbos_notifications_trigger
    AFTER INSERT ON {schema}.notifications
    FOR EACH ROW EXECUTE FUNCTION {schema}.notifications_function();
