"""Application versions: which builds were seen, and which one counts as the latest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.protocol import SingleRead, Statement, Tx, Write


@dataclass(frozen=True, slots=True)
class VersionRegistration:
    """A version that a launching engine makes known."""

    version_id: str
    version_name: str
    application_name: str


REGISTER = Statement(
    """
    INSERT INTO {application_versions} (version_id, version_name, version_timestamp, created_at,
        application_name)
    VALUES (:version_id, :version_name, {now_ms}, {now_ms}, :application_name)
    ON CONFLICT (version_name) DO UPDATE
        SET application_name = COALESCE(application_versions.application_name, :application_name)
    RETURNING application_name
    """
)


def register_rows(tx: Tx, rows: Sequence[VersionRegistration]) -> list[str]:
    """Make versions known, keeping the age of known ones; for each its owning application."""
    owners: list[str] = []
    for row in rows:
        answer = tx.one(
            REGISTER,
            version_id=row.version_id,
            version_name=row.version_name,
            application_name=row.application_name,
        )
        assert answer is not None
        owners.append(answer[0])
    return owners


register: Final = Write("register_version", register_rows, rank=1)

LATEST_VERSION: Final = """
    (SELECT version_name FROM {application_versions}
    WHERE application_name = :application_name OR application_name IS NULL
    ORDER BY version_timestamp DESC, version_name DESC LIMIT 1)
"""
LATEST = Statement(f"SELECT {LATEST_VERSION}")


@SingleRead
def latest(tx: Tx, application_name: str) -> str | None:
    """The name of the latest version of an application."""
    row = tx.one(LATEST, application_name=application_name)
    return row[0] if row else None


class VersionRow(NamedTuple):
    """A version as it is listed."""

    version_id: str
    version_name: str
    version_timestamp: int
    created_at: int
    application_name: str | None


LISTING = Statement(
    """
    SELECT version_id, version_name, version_timestamp, created_at, application_name
    FROM {application_versions}
    WHERE :every OR application_name IS NULL OR application_name = :application_name
    ORDER BY version_timestamp DESC, version_name DESC
    """
)


@SingleRead
def listed(tx: Tx, application_name: str | None) -> list[VersionRow]:
    """The versions of an application, the latest first; of all without a name."""
    rows = tx.all(LISTING, every=application_name is None, application_name=application_name or "")
    return [VersionRow(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class VersionChoice:
    """A version that is to be the latest."""

    version_id: str
    version_name: str
    application_name: str | None


# A version is the latest by its time, which is therefore later than that of all others, even if two
# are chosen within one tick of the clock.
CHOOSE = Statement(
    """
    INSERT INTO {application_versions} AS version (version_id, version_name, version_timestamp,
        created_at, application_name)
    SELECT :version_id, :version_name, CASE WHEN latest.at >= {now_ms} THEN latest.at + 1
        ELSE {now_ms} END, {now_ms}, :application_name
    FROM (SELECT COALESCE(MAX(version_timestamp), 0) AS at FROM {application_versions}) AS latest
    WHERE TRUE
    ON CONFLICT (version_name) DO UPDATE
        SET version_timestamp = excluded.version_timestamp,
            application_name = COALESCE(version.application_name, excluded.application_name)
        WHERE version.application_name IS NULL
           OR version.application_name = excluded.application_name
    """
)
OWNER = Statement(
    "SELECT application_name FROM {application_versions} WHERE version_name = :version_name"
)


def choose_all(tx: Tx, choices: Sequence[VersionChoice]) -> list[str | None]:
    """Make versions the latest; for each its owner, which is another one where it was refused."""
    owners: list[str | None] = []
    for choice in choices:
        tx.run(
            CHOOSE,
            version_id=choice.version_id,
            version_name=choice.version_name,
            application_name=choice.application_name,
        )
        row = tx.one(OWNER, version_name=choice.version_name)
        owners.append(row[0] if row else None)
    return owners


choose: Final = Write("choose_version", choose_all, rank=1)
