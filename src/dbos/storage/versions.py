"""Application versions: which builds were seen, and which one counts as the latest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dbos.storage.protocol import SingleRead, Statement, Topic, Tx, Write
from dbos.storage.workflows import ANY_QUEUE


@dataclass(frozen=True, slots=True)
class VersionRegistration:
    """A version that a launching engine makes known."""

    version_id: str
    version_name: str
    application_name: str


# More than one unique index holds a version's name. A conflict that is bound to one of them may be
# found in another one first, as an error, when two processes launch a new version at once; without
# a target all of them count.
ADD = Statement(
    """
    INSERT INTO {application_versions} (version_id, version_name, version_timestamp, created_at,
        application_name)
    VALUES (:version_id, :version_name, {now_ms}, {now_ms}, :application_name)
    ON CONFLICT DO NOTHING
    """
)

CLAIM = Statement(
    """
    UPDATE {application_versions}
    SET application_name = COALESCE(application_name, :application_name)
    WHERE version_name = :version_name RETURNING application_name
    """
)


def register_rows(tx: Tx, rows: Sequence[VersionRegistration]) -> list[str]:
    """Make versions known, keeping the age of known ones; for each its owning application."""
    owners: list[str] = []
    for row in rows:
        _add(tx, row)
        answer = tx.one(CLAIM, version_name=row.version_name, application_name=row.application_name)
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
    UPDATE {application_versions}
    SET version_timestamp = CASE WHEN latest.at >= {now_ms} THEN latest.at + 1 ELSE {now_ms} END,
        application_name = COALESCE(application_name, :application_name)
    FROM (SELECT COALESCE(MAX(version_timestamp), 0) AS at FROM {application_versions}
          WHERE version_name <> :version_name) AS latest
    WHERE version_name = :version_name
      AND (application_name IS NULL OR application_name = :application_name)
    """
)
OWNER = Statement(
    "SELECT application_name FROM {application_versions} WHERE version_name = :version_name"
)


def choose_all(tx: Tx, choices: Sequence[VersionChoice]) -> list[str | None]:
    """Make versions the latest; for each its owner, which is another one where it was refused."""
    owners: list[str | None] = []
    for choice in choices:
        _add(tx, choice)
        tx.run(
            CHOOSE,
            version_name=choice.version_name,
            application_name=choice.application_name,
        )
        row = tx.one(OWNER, version_name=choice.version_name)
        owners.append(row[0] if row else None)
    return owners


def _chosen_topics(_: VersionChoice, __: str | None) -> Iterable[Topic]:
    # Runs without a version are another process's to run now, on whatever queue.
    return (ANY_QUEUE,)


choose: Final = Write("choose_version", choose_all, _chosen_topics, rank=1)


def _add(tx: Tx, version: VersionRegistration | VersionChoice) -> None:
    tx.run(
        ADD,
        version_id=version.version_id,
        version_name=version.version_name,
        application_name=version.application_name,
    )
