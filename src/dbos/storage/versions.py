"""Application versions: which builds were seen, and which one counts as the latest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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

LATEST = Statement(
    """
    SELECT version_name FROM {application_versions}
    WHERE application_name = :application_name OR application_name IS NULL
    ORDER BY version_timestamp DESC, version_name DESC LIMIT 1
    """
)


@SingleRead
def latest(tx: Tx, application_name: str) -> str | None:
    """The name of the latest version of an application."""
    row = tx.one(LATEST, application_name=application_name)
    return row[0] if row else None
