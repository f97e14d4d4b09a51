"""An application under test: one facade over one database, which can also lose its power."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NoReturn, cast

import psycopg

from dbos import DBOS, DBOSConfig
from dbos.api.slot import SLOT


class PowerCut(BaseException):
    """The process is gone: no code of the application runs any further."""


class Application:
    """Launches, kills and looks into an application. Its name is `shop`."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self._config: dict[str, Any] = {}

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    def config(self, **changes: Any) -> DBOSConfig:
        base = {
            "name": "shop",
            "system_database_url": self.database_url,
            "application_version": "v1",
            "notification_listener_polling_interval_sec": 0.05,
        }
        return cast("DBOSConfig", base | changes)

    def launch(self, **changes: Any) -> None:
        """Construct and launch; without changes, with the configuration of the launch before."""
        self._config = changes or self._config
        DBOS(config=self.config(**self._config))
        DBOS.launch()

    def relaunch(self, **changes: Any) -> None:
        """Shut down in order, and launch again."""
        DBOS.destroy()
        self.launch(**changes)

    def kill(self) -> None:
        """Stop as a killed process does, and let everyone know that it is dead."""
        instance, SLOT.instance = SLOT.instance, None
        assert instance is not None
        assert instance.engine is not None
        incarnation_id = instance.engine.engine.identity.incarnation_id
        instance.engine.abandon()
        self.change("DELETE FROM {perdure_executors} WHERE incarnation_id = ?", incarnation_id)

    def cut_power(self) -> NoReturn:
        """Kill this application from inside one of its own functions."""
        self.kill()
        raise PowerCut

    def once(self) -> Callable[[], bool]:
        """A question that is answered with yes the first time only."""
        asked: list[bool] = []

        def is_first() -> bool:
            asked.append(True)
            return len(asked) == 1

        return is_first

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the database behind the back of the package. Tables are written `{table}`."""
        return self._execute(query, values, fetch=True)

    def change(self, statement: str, *values: object) -> None:
        self._execute(statement, values, fetch=False)

    def has_own_goods(self) -> bool:
        """Whether its transactions run on a database of their own."""
        return "application_database_url" in self._config

    def column(self, workflow_id: str, column: str) -> Any:
        """One column of a run's row."""
        [(value,)] = self.rows(
            f"SELECT {column} FROM {{workflow_status}} WHERE workflow_uuid = ?", workflow_id
        )
        return value

    def count(self, table: str) -> int:
        [(number,)] = self.rows(f"SELECT COUNT(*) FROM {{{table}}}")
        return int(number)

    def steps(self, workflow_id: str) -> list[tuple[int, str]]:
        """The recorded step ids and names of a run."""
        return [(int(row[0]), str(row[1])) for row in self.records(workflow_id)]

    def records(self, workflow_id: str) -> list[tuple[Any, ...]]:
        """Step id, name, output, error and child id of each recorded operation."""
        return self.rows(
            "SELECT function_id, function_name, output, error, child_workflow_id"
            " FROM {operation_outputs} WHERE workflow_uuid = ? ORDER BY function_id",
            workflow_id,
        )

    @contextmanager
    def locked(self, mode: str, table: str) -> Generator[None]:
        """Keep a PostgreSQL table locked for the block."""
        with psycopg.connect(self.database_url) as postgres:
            name = table.replace("{", "dbos.").replace("}", "")
            postgres.execute(f"LOCK TABLE {name} IN {mode} MODE".encode())
            yield

    def _execute(
        self, text: str, values: tuple[object, ...], *, fetch: bool
    ) -> list[tuple[Any, ...]]:
        if self.is_sqlite:
            connection = sqlite3.connect(self.database_url.removeprefix("sqlite:///"), timeout=30)
            try:
                found = connection.execute(text.replace("{", "").replace("}", ""), values)
                answer = found.fetchall() if fetch else []
                connection.commit()
                return answer
            finally:
                connection.close()
        native = text.replace("{", "dbos.").replace("}", "").replace("?", "%s")
        with psycopg.connect(self.database_url) as postgres:
            cursor = postgres.execute(native.encode(), values)
            return cursor.fetchall() if fetch else []
