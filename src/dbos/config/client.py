"""The settings of a client: like those of an application that may be nameless and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dbos.config.settings import Settings, settings_from
from dbos.errors import DBOSInitializationError

_NAMELESS = "dbos-client"
_ADDRESSES = ("system_database_url", "application_database_url", "system_database_engine")


def client_settings(
    given: Mapping[str, object], limits: Mapping[str, object], application_name: str | None
) -> Settings:
    """Check what a client was constructed with; its keys are those of the configuration.

    Of `given` None counts as unset; of `limits` it means no limit.
    A client without a name has the name "". The environment says nothing to a client.
    """
    if all(given.get(key) in (None, "") for key in _ADDRESSES):
        raise DBOSInitializationError(
            "DBOSClient needs system_database_url=..., application_database_url=... or "
            "system_database_engine=...: it does not know which database to use."
        )
    config = {key: value for key, value in given.items() if value is not None}
    config |= limits
    settings = settings_from({"name": application_name or _NAMELESS, **config}, {})
    # Its writes ring workers, whatever its own waits do.
    return replace(settings, name=application_name or "", use_listen_notify=True)
