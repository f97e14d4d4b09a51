"""Application versions that several processes make known at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dbos.config import parse_database_url
from dbos.storage import versions
from dbos.storage.open import open_database
from dbos.storage.protocol import Write
from dbos.storage.versions import VersionChoice, VersionRegistration
from tests.storage.conftest import Outsider

# An insertion stops between its look for a conflict and its entries in the unique indexes.
STOP_BETWEEN = """
CREATE FUNCTION dbos.stop(name TEXT) RETURNS TEXT IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN name; END';
ALTER TABLE dbos.application_versions DROP CONSTRAINT application_versions_version_name_key;
DROP INDEX dbos.uq_application_versions_owner_version;
CREATE INDEX stop ON dbos.application_versions (dbos.stop(version_name));
ALTER TABLE dbos.application_versions ADD UNIQUE (version_name);
CREATE UNIQUE INDEX uq_application_versions_owner_version
    ON dbos.application_versions (application_name, version_name);
SELECT pg_advisory_lock(7);
"""
STOPPED = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.mark.parametrize(
    ("write", "made"),
    [(versions.register, VersionRegistration), (versions.choose, VersionChoice)],
    ids=["registered", "chosen"],
)
def test_two_processes_may_make_a_new_version_known_at_once(
    postgres_url: str,
    outsider: Outsider,
    write: Write[VersionRegistration | VersionChoice, str | None],
    made: type[VersionRegistration | VersionChoice],
) -> None:
    processes = [open_database(parse_database_url(postgres_url)) for _ in range(2)]
    processes[0].migrate()
    outsider.execute(STOP_BETWEEN)

    def tell(process: int) -> list[str | None]:
        with processes[process].write() as tx:
            return list(write.apply(tx, [made(f"id-{process}", "version", "shop")]))

    with ThreadPoolExecutor(2) as threads:
        answers = threads.map(tell, range(2))
        while outsider.execute(STOPPED).fetchall() != [(2,)]:
            pass
        outsider.execute("SELECT pg_advisory_unlock(7)")
        owners = list(answers)
    for process in processes:
        process.close()

    assert owners == [["shop"], ["shop"]]
