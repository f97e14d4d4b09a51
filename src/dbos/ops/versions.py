"""Application versions: which there are, and which is the latest. Never recorded."""

from __future__ import annotations

from dbos import validation
from dbos.engine.engine import Runtime
from dbos.engine.site import Site
from dbos.errors import DBOSException
from dbos.models import VersionInfo
from dbos.ops.verb import verb
from dbos.storage import versions
from dbos.storage.versions import VersionChoice, VersionRow


@verb(step_ids=0)
async def list_application_versions(rt: Runtime, site: Site) -> list[VersionInfo]:
    """The versions of this application and those that nobody owns, the latest first."""
    rows = await rt.io.read(versions.listed, rt.engine.settings.name or None)
    return [_info(row) for row in rows]


@verb(step_ids=0)
async def get_latest_application_version(rt: Runtime, site: Site) -> VersionInfo:
    """The version that runs what asks for none.

    Raises:
        DBOSException: there is no version yet.
    """
    rows = await rt.io.read(versions.listed, rt.engine.settings.name or None)
    if not rows:
        raise DBOSException("No application version is registered yet: launch the application once")
    return _info(rows[0])


@verb(step_ids=0)
async def set_latest_application_version(
    rt: Runtime, site: Site, version_name: str, *, application_name: str | None = None
) -> None:
    """Make a version the latest; durable when this returns.

    Args:
        version_name: a version that is not known yet is registered.
        application_name: its owner; default: this application.

    Raises:
        DBOSException: the version belongs to another application.
    """
    owner = rt.engine.settings.name if application_name is None else application_name
    choice = VersionChoice(
        rt.engine.new_id(),
        validation.identifier(version_name, "version_name"),
        validation.label(owner, "application_name") or None,
    )
    found = await rt.io.commit(versions.choose, choice, "")
    if found not in (None, choice.application_name):
        raise DBOSException(
            f"Application version {version_name} is already registered by application {found}: "
            "name another version"
        )


def _info(row: VersionRow) -> VersionInfo:
    return VersionInfo(
        version_id=row.version_id,
        version_name=row.version_name,
        version_timestamp=row.version_timestamp,
        created_at=row.created_at,
        application_name=row.application_name,
    )
