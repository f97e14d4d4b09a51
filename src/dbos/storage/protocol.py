"""The storage seam: what a database must offer, and the vocabulary of reads and writes above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
)

if TYPE_CHECKING:
    from dbos.storage.adopted import Adopted

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")

Row = tuple[Any, ...]


class Topic(NamedTuple):
    """What a waiter waits for: a kind of change and the key it concerns."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One SQL text for both databases, compiled once per dialect.

    The text uses `:name` parameters and these fragments:

    - `{table_name}` for each of our tables: the name, with its schema on PostgreSQL;
    - `{now_ms}`: the database clock, in integer milliseconds since the epoch;
    - `{skip_locked}`: `FOR UPDATE SKIP LOCKED` where the database has row locks, else nothing;
    - `{lock}`: `FOR UPDATE` where the database has row locks, else nothing;
    - `{lock_share}`: `FOR SHARE` where the database has row locks, else nothing;
    - `{message_order(table)}`, `{enqueue_order(table)}`: the order in which rows arrived;
    - `{enqueue_number(table)}`: the same order as a number to select;
    - `{address(table)}`: where a row stands, which tells rows apart within one statement;
    - `{try_lock(name)}`: whether this transaction now holds the lock that the text parameter `name`
      names; always true where a write transaction is alone anyway;
    - `{json_list}`, `{json_row}`: the functions that make a JSON array of rows, and of values;
    - `{quietly}`: a join that keeps the notification trigger quiet for this transaction;
    - `{time_limit(name)}`: sets how many milliseconds a statement of this transaction may take;
    - `{id_begins(name)}`: whether `run.workflow_uuid` begins with the text parameter `name`; the
      parameter `name_end` is the first text after all that do;
    - `{by_code_point}`: behind a text, orders it the same way in every locale;
    - `{any_of(name)}`: an `IN` list over the parameter `name`, as in `status {any_of(statuses)}`;
    - `{rows}`: the batch passed as parameter `rows` (a list of dataclasses or mappings), a table
      expression aliased `r` whose columns and types are those of `columns`.

    `columns` maps column names to one of `text`, `integer`, `real`, `boolean`. A statement that
    `is_planned_anew` gets a plan for its values each time, and not one that is kept for all.
    """

    text: str
    columns: Mapping[str, str] | None = None
    is_planned_anew: bool = False


class Tx(Protocol):
    """One open transaction. Parameters are named; a list or `rows` is encoded for the driver."""

    def one(self, statement: Statement, /, **params: object) -> Row | None: ...

    def all(self, statement: Statement, /, **params: object) -> list[Row]: ...

    def run(self, statement: Statement, /, **params: object) -> int:
        """Execute and return the number of rows changed."""
        ...


class Listener(Protocol):
    """Hears what other processes committed. `wait` is for one thread, `interrupt` for any."""

    def wait(self, seconds: float) -> list[Topic] | None:
        """Topics that changed; [] when the time is over; None when anything may have changed."""
        ...

    def interrupt(self) -> None:
        """End a `wait` early."""
        ...

    def close(self) -> None: ...


class Announcer(Protocol):
    """Tells other processes of topics after their commit."""

    def announce(self, topics: Sequence[Topic]) -> None: ...

    def close(self) -> None: ...


class Database(Protocol):
    """An open database: transactions, schema, and nothing about workflows."""

    lanes: int
    """How many write transactions may run side by side: 1 on SQLite, 2 on PostgreSQL.

    One more lane, of this number, is for the lease alone: no other write holds up a renewal.
    """

    def write(self, lane: int = 0, *, single: bool = False) -> AbstractContextManager[Tx]:
        """A write transaction, committed when the block ends and rolled back when it raises.

        `single` promises that the block runs one changing statement, which may then commit by
        itself. Each lane is used by one thread at a time; the caller sees to that.
        """
        ...

    writes_at_once: bool
    """Whether one statement may change several tables, so that `Write.at_once` can be used."""

    def read(self, *, single: bool = False) -> AbstractContextManager[Tx]:
        """A read transaction: every statement in it sees one snapshot. Any number at a time.

        `single` promises that the block runs one statement, which is a snapshot by itself.
        """
        ...

    def adopt(self, connection: Adopted) -> Tx:
        """A `Tx` in the transaction of somebody else's connection, who begins and ends it."""
        ...

    def ring_within(self, tx: Tx, topics: Sequence[Topic]) -> None:
        """Tell other processes of topics by a row of the transaction, where it is done so."""
        ...

    @property
    def rings_within(self) -> bool: ...

    def announcer(self) -> Announcer | None:
        """What tells other processes of topics after the commit, where that is how it is done."""
        ...

    def listen(self) -> Listener: ...

    @property
    def can_listen(self) -> bool: ...

    def now_ms(self) -> int:
        """The database clock now, without a query. See schema.md section 6 for SQLite."""
        ...

    def refresh_clock(self) -> None:
        """Measure the distance to the database's clock anew, on the lane of the lease."""
        ...

    def migrate(self, *, goes_on: bool = False) -> None:
        """Bring the schema to our level. Who goes on to use the database says so."""
        ...

    def verify(self, *, goes_on: bool = False) -> None:
        """Refuse a schema that is missing or not at our level."""
        ...

    def is_transient(self, error: BaseException) -> bool:
        """Whether waiting and trying again may cure this error."""
        ...

    def is_collision(self, error: BaseException) -> bool:
        """Whether the transaction fell victim to another one, and may be tried again at once."""
        ...

    def translate(self, error: BaseException) -> BaseException:
        """The error of ours that stands for a driver error: no SQL, no parameters, no password."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class SingleRead(Generic[P, R]):
    """A query of one statement: it needs no transaction around it to see one snapshot."""

    query: Callable[Concatenate[Tx, P], R]

    def __call__(self, tx: Tx, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.query(tx, *args, **kwargs)


@dataclass(frozen=True, slots=True, eq=False)
class Write(Generic[A, R]):
    """A kind of durable change. Always applied to a batch; one is a batch of one.

    `apply` must be idempotent: after an ambiguous commit the same batch is applied again. Expected
    conflicts are results, not exceptions.
    """

    name: str
    apply: Callable[[Tx, Sequence[A]], list[R]]
    topics: Callable[[A, R], Iterable[Topic]] | None = None
    """Whom to wake once it is durable."""
    rank: int = 50
    """Kinds of one batch are applied by ascending rank: admissions, then records, then outcomes."""
    single: bool = False
    """`apply` changes the database with one statement, so it may commit by itself."""
    again: Callable[[Tx, Sequence[A]], list[R]] | None = None
    """Applied once a commit of the batch is in doubt, if `apply` would not find its own work."""
    at_once: Callable[[Tx, Sequence[A]], list[R]] | None = None
    """What `apply` does, with one changing statement, for databases that take such ones."""
