"""The rules for a queue's settings, and the two spellings in which they are given and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from dbos import validation
from dbos.errors import DBOSException, DBOSInvalidInputError
from dbos.models import QueueRateLimit
from dbos.storage.queue_limits import RateLimit
from dbos.storage.queues import QueueSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GivenSettings:
    """The settings of a queue as its maker spelled them, unchecked."""

    concurrency: int | None = None
    limiter: Mapping[str, Any] | None = None
    worker_concurrency: int | None = None
    global_concurrency: int | None = None
    partition_concurrency: int | None = None
    partition_worker_concurrency: int | None = None
    partition_limiter: Mapping[str, Any] | None = None
    polling_interval_sec: float = 1.0
    priority_enabled: bool = False
    partition_queue: bool = False


def checked(name: str, given: GivenSettings) -> QueueSettings:
    """The settings of a new queue, or the reason why they cannot be."""
    if given.concurrency is not None and given.global_concurrency is not None:
        raise DBOSInvalidInputError(
            "concurrency is the older name of global_concurrency: give only one of them"
        )
    is_partitioned = validation.flag(given.partition_queue, "partition_queue")
    if is_partitioned and given.global_concurrency is not None:
        raise DBOSInvalidInputError(
            "partition_queue cannot be combined with global_concurrency: use "
            "partition_concurrency and global_concurrency without partition_queue"
        )
    limit, period = _limiter(given.limiter, "limiter")
    partition_limit, partition_period = _limiter(given.partition_limiter, "partition_limiter")
    concurrency_name = "concurrency" if given.global_concurrency is None else "global_concurrency"
    settings = QueueSettings(
        name=validation.queue_name(name),
        concurrency=_count(
            given.concurrency if given.global_concurrency is None else given.global_concurrency,
            concurrency_name,
        ),
        worker_concurrency=_count(given.worker_concurrency, "worker_concurrency"),
        rate_limit_max=limit,
        rate_limit_period_sec=period,
        priority_enabled=validation.flag(given.priority_enabled, "priority_enabled"),
        partition_queue=is_partitioned,
        polling_interval_sec=_polling_interval(given.polling_interval_sec),
        partition_concurrency=_partition_count(
            given.partition_concurrency, "partition_concurrency"
        ),
        partition_worker_concurrency=_partition_count(
            given.partition_worker_concurrency, "partition_worker_concurrency"
        ),
        partition_rate_limit_max=partition_limit,
        partition_rate_limit_period_sec=partition_period,
    )
    if is_partitioned and settings.has_partition_limits:
        raise DBOSInvalidInputError(
            "partition_queue and the partition_* limits say the same: give only one of them"
        )
    return consistent(settings)


def consistent(settings: QueueSettings) -> QueueSettings:
    """The same settings, if no limit contradicts a wider one."""
    total = "concurrency" if settings.partition_queue else "global_concurrency"
    pairs = (
        (total, settings.concurrency, "worker_concurrency", settings.worker_concurrency),
        (total, settings.concurrency, "partition_concurrency", settings.partition_concurrency),
        *(
            (name, value, "partition_worker_concurrency", settings.partition_worker_concurrency)
            for name, value in (
                ("partition_concurrency", settings.partition_concurrency),
                ("worker_concurrency", settings.worker_concurrency),
                (total, settings.concurrency),
            )
        ),
    )
    for wide_name, wide, narrow_name, narrow in pairs:
        if wide is not None and narrow is not None and narrow > wide:
            raise DBOSInvalidInputError(
                f"{wide_name} ({wide}) must be greater than or equal to {narrow_name} ({narrow})"
            )
    return settings


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One readable setting of a queue: how it is read, and how a new value changes the queue."""

    name: str
    read: Callable[[QueueSettings], T]
    write: Callable[[QueueSettings, T], QueueSettings]

    def revise(self, settings: QueueSettings, value: T) -> QueueSettings | DBOSException:
        """The settings under a new value, or the reason why it may not be."""
        if settings.partition_queue and self.name in SHADOWED:
            return DBOSException(
                f"{self.name} cannot be set on a queue registered with partition_queue=True, whose "
                "limits hold for each partition: call set_partition_queue(False) first, or "
                "register the queue again."
            )
        try:
            return consistent(self.write(settings, value))
        except DBOSException as error:
            return error


SHADOWED = frozenset(
    {
        "global_concurrency",
        "worker_concurrency",
        "limiter",
        "partition_concurrency",
        "partition_worker_concurrency",
        "partition_limiter",
    }
)
"""What `partition_queue=True` decides by itself."""


def _limiter(value: object, name: str) -> tuple[int | None, float | None]:
    """The checked limit and period of a limiter."""
    if value is None:
        return None, None
    if not isinstance(value, Mapping):
        raise DBOSInvalidInputError(
            f"{name} must be a dict with both 'limit' and 'period', not {type(value).__name__}"
        )
    given = cast("Mapping[str, object]", value)
    if given.get("limit") is None or given.get("period") is None:
        raise DBOSInvalidInputError(f"{name} must have both 'limit' and 'period'")
    limit = validation.whole_number(given["limit"], f"{name} 'limit'", 0)
    period = validation.duration(given["period"], f"{name} 'period'")
    if period <= 0:
        raise DBOSInvalidInputError(f"{name} 'period' must be more than 0 seconds")
    return limit, period


def _count(value: object, name: str) -> int | None:
    return None if value is None else validation.whole_number(value, name, 0)


def _partition_count(value: object, name: str) -> int | None:
    return None if value is None else validation.whole_number(value, name, 1)


def _polling_interval(value: object) -> float:
    seconds = validation.finite_number(value, "polling_interval_sec")
    if seconds <= 0:
        raise DBOSInvalidInputError(f"polling_interval_sec must be positive, not {seconds:g}")
    return validation.polling_interval(seconds)


def _shown_rate(rate: RateLimit | None) -> QueueRateLimit | None:
    return None if rate is None else {"limit": rate.limit, "period": rate.period_s}


def _with_total(settings: QueueSettings, value: int | None, name: str) -> QueueSettings:
    return replace(settings, concurrency=_count(value, name))


def _with_rate(settings: QueueSettings, value: QueueRateLimit | None) -> QueueSettings:
    limit, period = _limiter(value, "limiter")
    return replace(settings, rate_limit_max=limit, rate_limit_period_sec=period)


def _with_partition_rate(settings: QueueSettings, value: QueueRateLimit | None) -> QueueSettings:
    limit, period = _limiter(value, "partition_limiter")
    return replace(settings, partition_rate_limit_max=limit, partition_rate_limit_period_sec=period)


def _with_partition_queue(settings: QueueSettings, value: bool) -> QueueSettings:
    is_partitioned = validation.flag(value, "partition_queue")
    if settings.has_partition_limits:
        raise DBOSException(
            "partition_queue cannot be set on a queue with partition_* limits: set those to None "
            "first."
        )
    return replace(settings, partition_queue=is_partitioned)


CONCURRENCY: Setting[int | None] = Setting(
    "concurrency", lambda s: s.concurrency, lambda s, v: _with_total(s, v, "concurrency")
)
GLOBAL_CONCURRENCY: Setting[int | None] = Setting(
    "global_concurrency",
    lambda s: s.limits().global_concurrency,
    lambda s, v: _with_total(s, v, "global_concurrency"),
)
WORKER_CONCURRENCY: Setting[int | None] = Setting(
    "worker_concurrency",
    lambda s: s.limits().worker_concurrency,
    lambda s, v: replace(s, worker_concurrency=_count(v, "worker_concurrency")),
)
LIMITER: Setting[QueueRateLimit | None] = Setting(
    "limiter", lambda s: _shown_rate(s.limits().rate), _with_rate
)
PARTITION_CONCURRENCY: Setting[int | None] = Setting(
    "partition_concurrency",
    lambda s: s.limits().partition_concurrency,
    lambda s, v: replace(s, partition_concurrency=_partition_count(v, "partition_concurrency")),
)
PARTITION_WORKER_CONCURRENCY: Setting[int | None] = Setting(
    "partition_worker_concurrency",
    lambda s: s.limits().partition_worker_concurrency,
    lambda s, v: replace(
        s, partition_worker_concurrency=_partition_count(v, "partition_worker_concurrency")
    ),
)
PARTITION_LIMITER: Setting[QueueRateLimit | None] = Setting(
    "partition_limiter", lambda s: _shown_rate(s.limits().partition_rate), _with_partition_rate
)
POLLING_INTERVAL: Setting[float] = Setting(
    "polling_interval_sec",
    lambda s: s.polling_interval_sec,
    lambda s, v: replace(s, polling_interval_sec=_polling_interval(v)),
)
PRIORITY_ENABLED: Setting[bool] = Setting(
    "priority_enabled",
    lambda s: s.priority_enabled,
    lambda s, v: replace(s, priority_enabled=validation.flag(v, "priority_enabled")),
)
PARTITION_QUEUE: Setting[bool] = Setting(
    "partition_queue", lambda s: s.partition_queue, _with_partition_queue
)
